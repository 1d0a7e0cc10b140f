// Checks of the operators' kernels on small shapes: every array is exactly as large as it must be,
// so AddressSanitizer sees one element too far, and numbers are small and whole, so most results
// are exact. Accuracy over many shapes is what tests/device/ops/operators.rs checks; here the sanitizers look on.
//
// The structs mirror those of the kernels; a launch refuses arguments of another size than the kernel's.
#include "check.h"

#include <algorithm>

namespace {

using Floats = std::vector<float>;

Floats poisoned(std::size_t count) { return Floats(count, NAN); }

float relu(float x) { return x > 0.0f ? x : 0.0f; }

bool near(float found, double wanted) { return std::fabs(found - wanted) <= 1e-5 * (1.0 + std::fabs(wanted)); }

void compare(const char* what, const Floats& found, const Floats& wanted) {
    if (!check::expect(found.size() == wanted.size(), "%s: %zu elements, not %zu", what, found.size(), wanted.size())) return;
    for (std::size_t i = 0; i < found.size(); ++i) {
        check::expect(near(found[i], wanted[i]), "%s: element %zu is %g, not %g", what, i, found[i], wanted[i]);
    }
}

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

struct PointwiseArgs {
    const float *x, *w, *scale, *shift, *gate, *residual;
    float* y;
    unsigned images, side_in, side_out, cin, cout, weight_cin, stride, activation;
};

struct Tile {
    const char* kernel;
    unsigned rows, columns, threads;
};

void check_pointwise(Tile tile, unsigned images, unsigned side, unsigned stride, unsigned cin, unsigned cout, bool all) {
    check::Numbers numbers(cin + cout);
    const unsigned out = ceil_div(side, stride), rows = images * out * out, stored = cin + 8;
    const Floats x = numbers.floats(images * side * side * cin), residual = numbers.floats(rows * cout);
    const Floats w = numbers.floats(ceil_div(cout, 16) * 16 * stored), gate = numbers.floats(images * cin, 0, 2);
    const Floats scale = numbers.floats(cout, 1, 3), shift = numbers.floats(cout);
    Floats y = poisoned(rows * cout), wanted(rows * cout);
    for (unsigned m = 0; m < rows; ++m) {
        const unsigned image = m / (out * out), oy = m / out % out * stride, ox = m % out * stride;
        for (unsigned n = 0; n < cout; ++n) {
            float sum = 0.0f;
            for (unsigned k = 0; k < cin; ++k) {
                const float input = x[((image * side + oy) * side + ox) * cin + k] * (all ? gate[image * cin + k] : 1.0f);
                sum += input * w[(n / 16 * stored + k) * 16 + n % 16];
            }
            wanted[m * cout + n] = all ? relu(sum * scale[n] + shift[n]) + residual[m * cout + n] : sum;
        }
    }
    const auto given = [all](const Floats& values) { return all ? values.data() : nullptr; };
    const PointwiseArgs args = {x.data(), w.data(), given(scale), given(shift), given(gate), given(residual),
                                y.data(), images, side, out, cin, cout, stored, stride, all ? 1u : 0u};
    const unsigned blocks = ceil_div(rows, tile.rows) * ceil_div(cout, tile.columns);
    check::launch(tile.kernel, {blocks}, {tile.threads}, 0, args);
    compare(tile.kernel, y, wanted);
}

struct DepthwiseArgs {
    const float *x, *w, *scale, *shift;
    float *y, *pool;
    unsigned images, side_in, side_out, channels, weight_channels, kernel, stride, activation, format, groups, workers;
};

void check_depthwise(unsigned kernel, unsigned stride, unsigned side, unsigned channels, bool folded) {
    check::Numbers numbers(kernel + channels);
    const unsigned images = 2, out = ceil_div(side, stride), stored = channels + 8;
    const Floats x = numbers.floats(images * side * side * channels), w = numbers.floats(kernel * kernel * stored);
    const Floats scale = numbers.floats(channels, 1, 3), shift = numbers.floats(channels);
    Floats y = poisoned(images * out * out * channels), wanted(y.size());
    for (unsigned i = 0; i < y.size(); ++i) {
        const unsigned c = i % channels, ox = i / channels % out, oy = i / channels / out % out, image = i / channels / out / out;
        float sum = 0.0f;
        for (unsigned ky = 0; ky < kernel; ++ky) {
            for (unsigned kx = 0; kx < kernel; ++kx) {
                const unsigned iy = oy * stride + ky - kernel / 2, ix = ox * stride + kx - kernel / 2;
                if (iy >= side || ix >= side) continue;
                sum += x[((image * side + iy) * side + ix) * channels + c] * w[(ky * kernel + kx) * stored + c];
            }
        }
        wanted[i] = folded ? relu(sum * scale[c] + shift[c]) : sum;
    }
    const DepthwiseArgs args = {x.data(), w.data(), folded ? scale.data() : nullptr, folded ? shift.data() : nullptr,
                                y.data(), nullptr, images, side, out, channels, stored, kernel, stride, folded ? 1u : 0u, 0, 0, 0};
    char name[32];
    unsigned blocks;
    if (out <= 4) {
        std::snprintf(name, sizeof name, "depthwise_small_%u", kernel);
        blocks = ceil_div(images * out * out * channels / 4, 128);
    } else {
        std::snprintf(name, sizeof name, "depthwise_%u_%u", kernel, stride);
        blocks = ceil_div(channels, 32) * ceil_div(out, 8) * ceil_div(out, stride == 1 ? 8 : 4) * images;
    }
    check::launch(name, {blocks}, {128}, 0, args);
    compare(name, y, wanted);
}

struct StemArgs {
    const float *x, *w, *scale, *shift;
    float* y;
    unsigned images, side_in, side_out, cout, activation, format;
};

struct SqueezeExciteArgs {
    const float *x, *reduce, *reduce_bias, *expand, *expand_bias;
    float* gate;
    unsigned images, pixels, channels, hidden, weight_channels, weight_hidden, format, groups;
};

struct PoolArgs {
    const float* x;
    float* y;
    unsigned images, side_in, side_out, channels, format;
};

struct StatisticsArgs {
    const float* x;
    float *partials, *batch;
    const float *gamma, *beta;
    float *scale, *shift;
    unsigned rows, channels, batches;
    float epsilon;
    unsigned format;
};

struct AverageArgs {
    const float* batch;
    float* average;
    unsigned length, batches;
    float weight;
};

struct MergeParams {
    unsigned rows, unit_rows, span_rows, channels, batches;
    float epsilon;
};

struct MergeArgs {
    const float* partials;
    float* batch;
    const float *gamma, *beta;
    float *scale, *shift;
    MergeParams p;
};

struct MergesArgs {
    MergeArgs merges[56];
};

struct AveragesArgs {
    AverageArgs calls[64];
};

struct FoldArgs {
    const float *gamma, *beta, *mean, *variance, *bias;
    float *scale, *shift;
    unsigned channels;
    float epsilon;
};

struct FoldsArgs {
    FoldArgs calls[64];
};

struct ApplyParams {
    unsigned rows, batch_rows, channels, activation, format;
};

struct ApplyArgs {
    const float *x, *scale, *shift, *residual;
    float* y;
    ApplyParams p;
};

struct AppliesArgs {
    ApplyArgs calls[64];
};

struct KernelTransformArgs {
    const float *x, *matrix;
    float* y;
    unsigned channels, from, to;
};

struct KernelTransformGroup {
    KernelTransformArgs calls[64];
};

struct ScoreArgs {
    const float *logits, *labels;
    float* out;
    unsigned images, classes, stride, labelled;
};

struct PreprocessArgs {
    const float *x, *indices, *windows;
    float* y;
    unsigned images, side_in, side_out, first;
    float scale, mean[3], std[3], factor[3], offset[3];
};

struct CopyArgs {
    const float4* x;
    float4* y;
    unsigned quads;
};

struct PeakArgs {
    float* y;
    unsigned rounds;
    float factor, term;
};

}  // namespace

NAT_CHECK(pointwise) {
    for (const Tile tile : {Tile{"pointwise_wide", 128, 64, 128}, Tile{"pointwise_mid", 128, 32, 128},
                            Tile{"pointwise_thin", 128, 16, 128}, Tile{"pointwise_small", 32, 32, 64}}) {
        check_pointwise(tile, 1, 1, 1, 8, 8, false);
        check_pointwise(tile, 3, 7, 1, 24, 72, true);
        check_pointwise(tile, 2, 9, 2, 40, 24, true);
    }
}

NAT_CHECK(depthwise) {
    for (const unsigned kernel : {3u, 5u, 7u}) {
        for (const unsigned stride : {1u, 2u}) {
            check_depthwise(kernel, stride, 1, 8, false);
            check_depthwise(kernel, stride, 3, 40, true);
            check_depthwise(kernel, stride, 11, 40, true);
            check_depthwise(kernel, stride, 18, 8, false);
        }
    }
}

NAT_CHECK(stem) {
    check::Numbers numbers(1);
    const unsigned images = 2, side = 35, out = 18, cout = 24;
    const Floats x = numbers.floats(images * side * side * 3), w = numbers.floats(27 * cout);
    const Floats scale = numbers.floats(cout, 1, 3), shift = numbers.floats(cout);
    Floats y = poisoned(images * out * out * cout), wanted(y.size());
    for (unsigned i = 0; i < y.size(); ++i) {
        const unsigned n = i % cout, ox = i / cout % out, oy = i / cout / out % out, image = i / cout / out / out;
        float sum = 0.0f;
        for (unsigned tap = 0; tap < 27; ++tap) {
            const unsigned iy = 2 * oy + tap / 9 - 1, ix = 2 * ox + tap / 3 % 3 - 1;
            if (iy < side && ix < side) sum += x[((image * side + iy) * side + ix) * 3 + tap % 3] * w[tap * cout + n];
        }
        wanted[i] = relu(sum * scale[n] + shift[n]);
    }
    const StemArgs args = {x.data(), w.data(), scale.data(), shift.data(), y.data(), images, side, out, cout, 1, 0};
    check::launch("stem_f32", {2 * 3 * images}, {128}, 4 * 27 * cout, args);
    compare("stem", y, wanted);
}

NAT_CHECK(squeeze_excite) {
    check::Numbers numbers(2);
    const unsigned images = 2, pixels = 9, channels = 40, hidden = 24, stored_channels = 48, stored_hidden = 32;
    const Floats x = numbers.floats(images * pixels * channels, 0, 2);
    const Floats reduce = numbers.floats(2 * stored_channels * 16, -1, 1), expand = numbers.floats(3 * stored_hidden * 16, -1, 1);
    const Floats reduce_bias = numbers.floats(hidden), expand_bias = numbers.floats(channels);
    Floats gate = poisoned(images * channels), wanted(gate.size());
    for (unsigned image = 0; image < images; ++image) {
        std::vector<double> z(channels), h(hidden);
        for (unsigned i = 0; i < pixels * channels; ++i) z[i % channels] += x[image * pixels * channels + i] / double(pixels);
        for (unsigned j = 0; j < hidden; ++j) {
            double sum = reduce_bias[j];
            for (unsigned c = 0; c < channels; ++c) sum += z[c] * reduce[(j / 16 * stored_channels + c) * 16 + j % 16];
            h[j] = sum > 0.0 ? sum : 0.0;
        }
        for (unsigned c = 0; c < channels; ++c) {
            double sum = expand_bias[c];
            for (unsigned j = 0; j < hidden; ++j) sum += h[j] * expand[(c / 16 * stored_hidden + j) * 16 + c % 16];
            wanted[image * channels + c] = static_cast<float>(std::fmin(std::fmax(sum + 3.0, 0.0), 6.0) / 6.0);
        }
    }
    for (const unsigned groups : {1u, 6u}) {
        const unsigned scratch = groups * channels > 512 ? groups * channels : 512;
        const SqueezeExciteArgs args = {x.data(), reduce.data(), reduce_bias.data(), expand.data(), expand_bias.data(),
                                        gate.data(), images, pixels, channels, hidden, stored_channels, stored_hidden, 0, groups};
        check::launch("squeeze_excite_f32", {images}, {256}, 4 * (channels + hidden + scratch), args);
        compare("squeeze_excite", gate, wanted);
    }
}

NAT_CHECK(pools) {
    check::Numbers numbers(3);
    const unsigned images = 3, side = 5, out = 3, channels = 40;
    const Floats x = numbers.floats(images * side * side * channels);
    Floats mean = poisoned(images * channels), wanted_mean(mean.size());
    Floats most = poisoned(images * out * out * channels), wanted_most(most.size(), -INFINITY);
    for (unsigned i = 0; i < x.size(); ++i) {
        const unsigned c = i % channels, ix = i / channels % side, iy = i / channels / side % side, image = i / channels / side / side;
        wanted_mean[image * channels + c] += x[i] / 25.0f;
        float& best = wanted_most[((image * out + iy / 2) * out + ix / 2) * channels + c];
        best = std::fmax(best, x[i]);
    }
    check::launch("global_pool_f32", {1}, {128}, 0, PoolArgs{x.data(), mean.data(), images, side, 1, channels, 0});
    check::launch("max_pool_f32", {ceil_div(images * out * out * channels / 4, 128)}, {128}, 0,
                  PoolArgs{x.data(), most.data(), images, side, out, channels, 0});
    compare("global_pool", mean, wanted_mean);
    compare("max_pool", most, wanted_most);
}

// Two merges: of units of 4 rows of spans of 10, the last of which has 5, and of spans shorter than a unit.
NAT_CHECK(batch_norm_merge) {
    check::Numbers numbers(5);
    const unsigned rows = 45, channels[2] = {40, 8}, batches[2] = {2, 3}, unit_rows[2] = {4, 16}, span_rows[2] = {10, 7};
    MergesArgs merges = {};
    Floats partials[2], batch[2], wanted[2];
    for (unsigned m = 0; m < 2; ++m) {
        const unsigned both = 2 * channels[m];
        std::vector<unsigned> units;
        for (unsigned span = 0; span < rows; span += span_rows[m]) {
            const unsigned end = std::min(span + span_rows[m], rows);
            for (unsigned row = span; row < end; row += unit_rows[m]) units.push_back(std::min(unit_rows[m], end - row));
        }
        partials[m] = numbers.floats(batches[m] * units.size() * both, 0, 2);
        batch[m] = poisoned(batches[m] * both), wanted[m] = batch[m];
        for (unsigned n = 0; n < batches[m]; ++n) {
            for (unsigned c = 0; c < channels[m]; ++c) {
                const float* of = &partials[m][n * units.size() * both + c];
                double mean = 0.0, squares = 0.0;
                for (unsigned i = 0; i < units.size(); ++i) mean += double(units[i]) * of[i * both] / rows;
                for (unsigned i = 0; i < units.size(); ++i) {
                    squares += of[i * both + channels[m]] + units[i] * std::pow(of[i * both] - mean, 2);
                }
                wanted[m][n * both + c] = static_cast<float>(mean);
                wanted[m][n * both + channels[m] + c] = static_cast<float>(squares / rows);
            }
        }
        merges.merges[m] = {partials[m].data(), batch[m].data(), nullptr, nullptr, nullptr, nullptr,
                            {rows, unit_rows[m], span_rows[m], channels[m], batches[m], 1.0f}};
    }
    check::launch("bn_merge_f32", {2, 3, 2}, {256}, 0, merges);
    for (unsigned m = 0; m < 2; ++m) compare("bn_merge", batch[m], wanted[m]);
}

NAT_CHECK(batch_norm) {
    check::Numbers numbers(4);
    const unsigned channels = 40, both = 2 * channels, batches = 2;
    for (const unsigned rows : {1u, 300u}) {
        const Floats x = numbers.floats(batches * rows * channels);
        const unsigned blocks = ceil_div(rows, 256);
        Floats wanted(batches * both), wanted_average(both, 1.0f);
        for (unsigned n = 0; n < batches; ++n) {
            const float* from = &x[n * rows * channels];
            for (unsigned c = 0; c < channels; ++c) {
                double sum = 0.0, squares = 0.0;
                for (unsigned row = 0; row < rows; ++row) sum += from[row * channels + c];
                for (unsigned row = 0; row < rows; ++row) squares += std::pow(from[row * channels + c] - sum / rows, 2);
                wanted[n * both + c] = static_cast<float>(sum / rows);
                wanted[n * both + channels + c] = static_cast<float>(squares / rows);
            }
            for (unsigned i = 0; i < both; ++i) wanted_average[i] += 0.5f * wanted[n * both + i];
        }
        const Floats gamma = numbers.floats(channels, 1, 3), beta = numbers.floats(channels), bias = numbers.floats(channels);
        Floats partials, batch, scale, shift;
        for (const bool whole : {true, false}) {
            partials = poisoned(batches * blocks * both), batch = poisoned(batches * both);
            scale = poisoned(batches * channels), shift = scale;
            const StatisticsArgs args = {x.data(),     partials.data(), batch.data(), gamma.data(), beta.data(), scale.data(),
                                         shift.data(), rows,            channels,     batches,      1.0f,        0};
            if (whole) {
                check::launch("bn_statistics_f32", {2, batches}, {512}, 0, args);
            } else {
                check::launch("bn_partials_f32", {blocks * 2, batches}, {128}, 0, args);
                MergesArgs merges = {};
                merges.merges[0] = {partials.data(), batch.data(), gamma.data(), beta.data(), scale.data(), shift.data(),
                                    {rows, 256, rows, channels, batches, 1.0f}};
                check::launch("bn_merge_f32", {2, batches, 1}, {256}, 0, merges);
            }
            compare("bn_statistics", batch, wanted);
            Floats wanted_scale(batches * channels), wanted_shift(batches * channels);
            for (unsigned i = 0; i < batches * channels; ++i) {
                const unsigned c = i % channels, at = i / channels * both + c;
                wanted_scale[i] = gamma[c] / std::sqrt(batch[at + channels] + 1.0f);
                wanted_shift[i] = beta[c] - batch[at] * wanted_scale[i];
            }
            compare("bn_statistics scale", scale, wanted_scale);
            compare("bn_statistics shift", shift, wanted_shift);
        }

        // The two halves of the statistics as averages of their own.
        Floats average(both, 1.0f);
        AveragesArgs averages = {};
        Floats halves[2];
        for (unsigned i = 0; i < 2; ++i) {
            for (unsigned n = 0; n < batches; ++n) {
                const auto from = batch.begin() + n * both + i * channels;
                halves[i].insert(halves[i].end(), from, from + channels);
            }
            averages.calls[i] = {halves[i].data(), &average[i * channels], channels, batches, 0.5f};
        }
        check::launch("bn_average_f32", {1, 2}, {128}, 0, averages);
        compare("bn_average", average, wanted_average);

        const Floats variance = numbers.floats(channels, 1, 4);
        scale = poisoned(channels), shift = poisoned(channels);
        Floats wanted_scale(channels), wanted_shift(channels);
        for (unsigned c = 0; c < channels; ++c) {
            wanted_scale[c] = gamma[c] / std::sqrt(variance[c] + 1.0f);
            wanted_shift[c] = beta[c] + (bias[c] - batch[c]) * wanted_scale[c];
        }
        // The second half of the channels as a batch norm of its own.
        const unsigned half = channels / 2;
        FoldsArgs folds = {};
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned c = i * half;
            folds.calls[i] = {&gamma[c], &beta[c], &batch[c], &variance[c], &bias[c], &scale[c], &shift[c], half, 1.0f};
        }
        check::launch("bn_fold_f32", {1, 2}, {128}, 0, folds);
        compare("bn_fold scale", scale, wanted_scale);
        compare("bn_fold shift", shift, wanted_shift);
    }
}

NAT_CHECK(batch_norm_apply) {
    check::Numbers numbers(6);
    const unsigned channels = 40, batches = 2, rows = 30, blocks = ceil_div(batches * rows * channels / 4, 256);
    const Floats x = numbers.floats(batches * rows * channels), residual = numbers.floats(x.size());
    const Floats scale = numbers.floats(batches * channels, 1, 3), shift = numbers.floats(batches * channels);
    Floats y = x, wanted(x.size());
    for (unsigned i = 0; i < x.size(); ++i) {
        const unsigned at = i / (rows * channels) * channels + i % channels;
        wanted[i] = relu(x[i] * scale[at] + shift[at]) + residual[i];
    }
    const ApplyArgs apply = {y.data(), scale.data(), shift.data(), residual.data(), y.data(),
                             {batches * rows, rows, channels, 1, 0}};
    check::launch("bn_apply_f32", {blocks}, {256}, 0, apply);
    compare("bn_apply", y, wanted);

    // The same and one of fewer rows, of which the second row of the grid has more than enough.
    Floats again = poisoned(x.size()), first = poisoned(rows * channels);
    AppliesArgs applies = {};
    applies.calls[0] = applies.calls[1] = apply;
    applies.calls[0].x = applies.calls[1].x = x.data();
    applies.calls[0].y = again.data(), applies.calls[1].y = first.data();
    applies.calls[1].p.rows = rows;
    check::launch("bn_apply_group_f32", {blocks, 2}, {256}, 0, applies);
    compare("bn_apply_group", again, wanted);
    compare("bn_apply_group", first, Floats(wanted.begin(), wanted.begin() + rows * channels));
}

NAT_CHECK(kernel_transform) {
    check::Numbers numbers(5);
    const unsigned channels = 24, from = 5, to = 3, taps = to * to;
    const Floats x = numbers.floats(from * from * channels), matrix = numbers.floats(taps * taps);
    Floats y = poisoned(taps * channels), wanted(y.size());
    for (unsigned i = 0; i < y.size(); ++i) {
        for (unsigned u = 0; u < taps; ++u) {
            wanted[i] += matrix[i / channels * taps + u] * x[((u / to + 1) * from + u % to + 1) * channels + i % channels];
        }
    }
    check::launch("kernel_transform_f32", {1}, {128}, 0,
                  KernelTransformGroup{{{x.data(), matrix.data(), y.data(), channels, from, to}}});
    compare("kernel_transform", y, wanted);
}

NAT_CHECK(score) {
    check::Numbers numbers(6);
    const unsigned images = 6, labelled = 4, classes = 37, stride = 40;
    Floats logits = numbers.floats(images * stride), out = poisoned(2 * images), wanted(2 * images);
    Floats labels = numbers.floats(labelled, 0, classes - 1);
    for (unsigned i = 0; i < images; ++i) {
        const float* row = &logits[i * stride];
        double sum = 0.0;
        unsigned answer = 0;
        for (unsigned j = 0; j < classes; ++j) {
            sum += std::exp(row[j]);
            if (row[j] > row[answer]) answer = j;
        }
        if (i < labelled) labels[i] = static_cast<float>(i % 2 == 0 ? answer : static_cast<unsigned>(labels[i]));
        const unsigned label = static_cast<unsigned>(labels[i % labelled]);
        wanted[2 * i] = static_cast<float>(std::log(sum) - row[label]);
        wanted[2 * i + 1] = answer == label ? 1.0f : 0.0f;
    }
    check::launch("score_f32", {2}, {128}, 0, ScoreArgs{logits.data(), labels.data(), out.data(), images, classes, stride, labelled});
    compare("score", out, wanted);
}

NAT_CHECK(preprocess) {
    check::Numbers numbers(7);
    const unsigned images = 2, side = 6, r = 9;
    const Floats x = numbers.floats(3 * side * side, 0, (1 << 24) - 1), indices = {2.0f, 0.0f};
    // The whole image, once as it is and once mirrored, by way of windows.
    const Floats windows = {0, 0, side, side, 0, 0, 0, side, side, 1};
    for (const bool chosen : {false, true}) {
        Floats y = poisoned(images * r * r * 3), wanted(y.size());
        for (unsigned i = 0; i < y.size(); ++i) {
            const unsigned c = i % 3, ox = i / 3 % r, oy = i / 3 / r % r, image = i / 3 / r / r;
            const float* stored = &x[(chosen ? static_cast<unsigned>(indices[image]) : 1 + image) * side * side];
            const unsigned shown = chosen && image == 1 ? r - 1 - ox : ox;
            const double v = std::fmax((oy + 0.5) * side / r - 0.5, 0.0);
            const double h = std::fmax((shown + 0.5) * side / r - 0.5, 0.0);
            const auto pixel = [&](unsigned py, unsigned px) {
                const unsigned at = (py < side ? py : side - 1) * side + (px < side ? px : side - 1);
                return ((static_cast<unsigned>(stored[at]) >> (8 * c) & 255u) / 255.0 - 0.5) / 0.25;
            };
            const auto row = [&](unsigned py) {
                const unsigned px = static_cast<unsigned>(h);
                return (1.0 - (h - px)) * pixel(py, px) + (h - px) * pixel(py, px + 1);
            };
            const unsigned py = static_cast<unsigned>(v);
            wanted[i] = static_cast<float>((1.0 - (v - py)) * row(py) + (v - py) * row(py + 1));
        }
        const PreprocessArgs args = {x.data(), chosen ? indices.data() : nullptr, chosen ? windows.data() : nullptr,
                                     y.data(), images, side, r, 1, 255.0f, {0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f},
                                     {4 / 255.0f, 4 / 255.0f, 4 / 255.0f}, {-2.0f, -2.0f, -2.0f}};
        check::launch("preprocess_f32", {ceil_div(images * r * r, 128)}, {128}, 0, args);
        compare("preprocess", y, wanted);
    }
}

NAT_CHECK(peaks) {
    std::vector<float4> x(300, float4{1.0f, 2.0f, 3.0f, 4.0f}), y(300);
    check::launch("copy_f32", {2}, {256}, 0, CopyArgs{x.data(), y.data(), 300});
    for (const float4& v : y) check::expect(v.x == 1.0f && v.w == 4.0f, "copy: %g", v.x);
    Floats sums = poisoned(512);
    check::launch("peak_f32", {2}, {256}, 0, PeakArgs{sums.data(), 3, 0.0f, 2.0f});
    compare("peak", sums, Floats(512, 16.0f));
}
