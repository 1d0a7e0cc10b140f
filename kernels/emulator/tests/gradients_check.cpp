// Checks of the kernels of batch norm's, squeeze-and-excitation's, pools' and activations' gradients, of losses and
// of updates on small shapes: every array is exactly as large as it must be, so AddressSanitizer sees one element
// too far, and numbers are small and whole, so most results are exact. Accuracy over many shapes is what
// tests/device/ops/operators.rs checks; here the sanitizers look on.
//
// The structs mirror those of the kernels; a launch refuses arguments of another size than the kernel's.
#include "check.h"
#include "formats.h"

#include <cmath>

namespace {

using check::Format;
using check::Map;
using Floats = std::vector<float>;

Floats poisoned(std::size_t count) { return Floats(count, NAN); }

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

// Numbers of size 1 may be `rounding` further off than sums of f32 are.
void compare(const char* what, const Floats& found, const Floats& wanted, double rounding = 0.0) {
    if (!check::expect(found.size() == wanted.size(), "%s: %zu elements, not %zu", what, found.size(), wanted.size())) return;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const double size = std::fabs(wanted[i]);
        const bool near = std::fabs(found[i] - wanted[i]) <= 2e-5 * (1.0 + size) + rounding * size;
        check::expect(near, "%s: element %zu is %g, not %g", what, i, found[i], wanted[i]);
    }
}

// A map that a kernel has written.
void compare(const std::string& what, Format format, const Map& found, const Floats& wanted) {
    compare(check::in_format(what, format).c_str(), found.floats(), wanted, check::rounding(format));
}

double hswish_slope(double x) { return x >= 3.0 ? 1.0 : x > -3.0 ? x / 3.0 + 0.5 : 0.0; }

struct BnGradSumsArgs {
    const void *z, *dy;
    const float *batch, *scale, *shift;
    float *partials, *sums, *dgamma, *dbeta;
    unsigned rows, channels, activation;
    float epsilon;
    unsigned format;
};

struct BnGradInputArgs {
    const void *z, *dy;
    const float *batch, *scale, *shift, *sums;
    const void* residual;
    void* dz;
    unsigned rows, channels, activation;
    float epsilon;
    unsigned format;
};

struct BnRunningArgs {
    const float* batch;
    float *mean, *variance;
    unsigned channels;
    float momentum, unbias;
};

struct BnRunningGroup {
    BnRunningArgs calls[64];
};

void batch_norm_gradients_in(Format format) {
    check::Numbers numbers(11);
    const auto kernel = [=](const char* name) { return check::in_format(name, format); };
    const unsigned channels = 40, number = check::number(format);
    for (const unsigned rows : {1u, 3u, 600u}) {
        const unsigned blocks = ceil_div(rows, 256), len = rows * channels;
        const Floats z = numbers.floats(len), dy = numbers.floats(len), residual = numbers.floats(len);
        const Floats batch = numbers.floats(2 * channels, 1, 3), scale = numbers.floats(channels, -2, 2);
        const Floats shift = numbers.floats(channels), before = numbers.floats(channels);
        std::vector<double> plain(channels), normalised(channels);
        const auto du = [&](unsigned i) { return dy[i] * hswish_slope(scale[i % channels] * z[i] + shift[i % channels]); };
        const auto deviation = [&](unsigned i) {
            return (z[i] - batch[i % channels]) / std::sqrt(batch[channels + i % channels] + 1.0);
        };
        for (unsigned i = 0; i < len; ++i) {
            plain[i % channels] += du(i);
            normalised[i % channels] += du(i) * deviation(i);
        }
        Floats wanted_sums(2 * channels), wanted_dgamma(channels), wanted_dbeta(channels), wanted_dz(len);
        for (unsigned c = 0; c < channels; ++c) {
            wanted_sums[c] = static_cast<float>(plain[c]);
            wanted_sums[channels + c] = static_cast<float>(normalised[c]);
            wanted_dbeta[c] = before[c] + wanted_sums[c];
            wanted_dgamma[c] = before[c] + wanted_sums[channels + c];
        }
        for (unsigned i = 0; i < len; ++i) {
            const unsigned c = i % channels;
            const double centred = du(i) - plain[c] / rows - deviation(i) * normalised[c] / rows;
            wanted_dz[i] = static_cast<float>(scale[c] * centred + residual[i]);
        }
        const Map z_map(format, z), dy_map(format, dy), residual_map(format, residual);
        Map dz(format, len);
        Floats partials = poisoned(blocks * 2 * channels), sums = poisoned(2 * channels);
        Floats dgamma = before, dbeta = before;
        const BnGradSumsArgs args = {z_map.data(), dy_map.data(), batch.data(), scale.data(), shift.data(), partials.data(),
                                     sums.data(), dgamma.data(), dbeta.data(), rows, channels, 2, 1.0f, number};
        check::launch(kernel("bn_grad_partials").c_str(), {blocks * 2}, {128}, 0, args);
        check::launch("bn_grad_merge_f32", {2}, {256}, 0, args);
        compare("bn_grad sums", sums, wanted_sums);
        compare("bn_grad dgamma", dgamma, wanted_dgamma);
        compare("bn_grad dbeta", dbeta, wanted_dbeta);
        check::launch(kernel("bn_grad_input").c_str(), {ceil_div(len / check::chunk(format), 256)}, {256}, 0,
                      BnGradInputArgs{z_map.data(), dy_map.data(), batch.data(), scale.data(), shift.data(), sums.data(),
                                      residual_map.data(), dz.data(), rows, channels, 2, 1.0f, number});
        compare("bn_grad dz", format, dz, wanted_dz);
    }
}

NAT_CHECK(batch_norm_gradients) {
    for (const Format format : check::kFormats) batch_norm_gradients_in(format);
    check::Numbers numbers(16);
    const unsigned channels = 40;
    const Floats batch = numbers.floats(2 * channels);
    Floats mean(channels, 2.0f), variance(channels, 4.0f), wanted_mean(channels), wanted_variance(channels);
    for (unsigned c = 0; c < channels; ++c) {
        wanted_mean[c] = 1.0f + 0.5f * batch[c];
        wanted_variance[c] = 2.0f + batch[channels + c];
    }
    check::launch("bn_running_f32", {1}, {128}, 0,
                  BnRunningGroup{{{batch.data(), mean.data(), variance.data(), channels, 0.5f, 2.0f}}});
    compare("bn_running mean", mean, wanted_mean);
    compare("bn_running variance", variance, wanted_variance);
}

struct SqueezeExciteGradArgs {
    const void* x;
    const float* gate;
    const void* dxg;
    const float *reduce, *reduce_bias, *expand, *expand_bias;
    float* scratch;
    void* dx;
    float *dreduce, *dreduce_bias, *dexpand, *dexpand_bias;
    unsigned images, pixels, channels, hidden, weight_channels, weight_hidden, format;
};

void squeeze_excite_gradients_in(Format format) {
    check::Numbers numbers(12);
    const unsigned images = 3, pixels = 4, channels = 40, hidden = 24, stored_channels = 48, stored_hidden = 32;
    const unsigned map = images * pixels * channels;
    const auto reduce_at = [=](unsigned j, unsigned c) { return (j / 16 * stored_channels + c) * 16 + j % 16; };
    const auto expand_at = [=](unsigned c, unsigned j) { return (c / 16 * stored_hidden + j) * 16 + c % 16; };
    const Floats x = numbers.floats(map, 0, 2), dxg = numbers.floats(map), gate = numbers.floats(images * channels, 0, 2);
    const Floats reduce = numbers.floats(2 * stored_channels * 16, -1, 1), expand = numbers.floats(3 * stored_hidden * 16, -1, 1);
    const Floats reduce_bias = numbers.floats(hidden), expand_bias = numbers.floats(channels);
    std::vector<double> dreduce(reduce.size()), dexpand(expand.size()), dreduce_bias(hidden), dexpand_bias(channels), dx(map);
    for (unsigned image = 0; image < images; ++image) {
        std::vector<double> z(channels), dq(channels), h(hidden), dh(hidden);
        for (unsigned i = 0; i < pixels * channels; ++i) {
            z[i % channels] += x[image * pixels * channels + i] / double(pixels);
            dq[i % channels] += x[image * pixels * channels + i] * dxg[image * pixels * channels + i];
        }
        for (unsigned j = 0; j < hidden; ++j) {
            h[j] = reduce_bias[j];
            for (unsigned c = 0; c < channels; ++c) h[j] += z[c] * reduce[reduce_at(j, c)];
            h[j] = std::fmax(h[j], 0.0);
        }
        for (unsigned c = 0; c < channels; ++c) {
            double q = expand_bias[c];
            for (unsigned j = 0; j < hidden; ++j) q += h[j] * expand[expand_at(c, j)];
            dq[c] *= q > -3.0 && q < 3.0 ? 1.0 / 6.0 : 0.0;
            dexpand_bias[c] += dq[c];
            for (unsigned j = 0; j < hidden; ++j) {
                dexpand[expand_at(c, j)] += dq[c] * h[j];
                if (h[j] > 0.0) dh[j] += dq[c] * expand[expand_at(c, j)];
            }
        }
        for (unsigned c = 0; c < channels; ++c) {
            double dz = 0.0;
            for (unsigned j = 0; j < hidden; ++j) {
                dreduce[reduce_at(j, c)] += dh[j] * z[c];
                dz += dh[j] * reduce[reduce_at(j, c)];
            }
            for (unsigned pixel = 0; pixel < pixels; ++pixel) {
                const unsigned at = (image * pixels + pixel) * channels + c;
                dx[at] = dxg[at] * gate[image * channels + c] + dz / pixels;
            }
        }
        for (unsigned j = 0; j < hidden; ++j) dreduce_bias[j] += dh[j];
    }
    const auto floats = [](const std::vector<double>& values, double more) {
        Floats out;
        for (const double value : values) out.push_back(static_cast<float>(value + more));
        return out;
    };
    const Map x_map(format, x), dxg_map(format, dxg);
    Map found_dx(format, map);
    Floats scratch = poisoned(images * (3 * channels + 2 * hidden));
    Floats found_dreduce(reduce.size(), 1.0f), found_dexpand(expand.size(), 1.0f);
    Floats found_dreduce_bias(hidden, 1.0f), found_dexpand_bias(channels, 1.0f);
    const SqueezeExciteGradArgs args = {x_map.data(), gate.data(), dxg_map.data(), reduce.data(), reduce_bias.data(),
                                        expand.data(), expand_bias.data(), scratch.data(), found_dx.data(),
                                        found_dreduce.data(), found_dreduce_bias.data(), found_dexpand.data(),
                                        found_dexpand_bias.data(), images, pixels, channels, hidden, stored_channels,
                                        stored_hidden, check::number(format)};
    check::launch(check::in_format("se_squeeze", format).c_str(), {images * 2}, {128}, 0, args);
    check::launch("se_layers_f32", {images}, {256}, 4 * (2 * (channels + hidden) + 2 * 256), args);
    check::launch("se_weights_f32", {ceil_div((32 * channels + 48 * hidden + channels + hidden) / 4, 256)}, {256}, 0, args);
    check::launch(check::in_format("se_input", format).c_str(), {ceil_div(map / check::chunk(format), 256)}, {256}, 0, args);
    compare("se dx", format, found_dx, floats(dx, 0.0));
    compare("se dreduce", found_dreduce, floats(dreduce, 1.0));
    compare("se dreduce_bias", found_dreduce_bias, floats(dreduce_bias, 1.0));
    compare("se dexpand", found_dexpand, floats(dexpand, 1.0));
    compare("se dexpand_bias", found_dexpand_bias, floats(dexpand_bias, 1.0));
}

NAT_CHECK(squeeze_excite_gradients) {
    for (const Format format : check::kFormats) squeeze_excite_gradients_in(format);
}

struct GlobalPoolGradArgs {
    const float* dy;
    void* dx;
    unsigned images, side_in, side_out, channels, format;
};

struct MaxPoolGradArgs {
    const void *x, *dy, *residual;
    void* dx;
    unsigned images, side_in, side_out, channels, format;
};

void pool_gradients_in(Format format) {
    check::Numbers numbers(13);
    const unsigned images = 3, side = 5, out = 3, channels = 40, map = images * side * side * channels;
    const Floats x = numbers.floats(map, -1, 1), residual = numbers.floats(map);
    const Floats dmean = numbers.floats(images * channels), dy = numbers.floats(images * out * out * channels);
    const Map x_map(format, x), dy_map(format, dy), residual_map(format, residual);
    Map mean(format, map), most(format, map);
    Floats wanted_mean(map), wanted = residual;
    const unsigned chunk = check::chunk(format), number = check::number(format);
    for (unsigned i = 0; i < map; ++i) wanted_mean[i] = dmean[i / channels / 25 * channels + i % channels] / 25.0f;
    for (unsigned i = 0; i < dy.size(); ++i) {
        const unsigned c = i % channels, ox = i / channels % out, oy = i / channels / out % out, image = i / channels / out / out;
        unsigned best = map;
        for (unsigned pixel = 0; pixel < 4; ++pixel) {
            const unsigned iy = 2 * oy + pixel / 2, ix = 2 * ox + pixel % 2;
            const unsigned at = ((image * side + iy) * side + ix) * channels + c;
            if (iy < side && ix < side && (best == map || x[at] > x[best])) best = at;
        }
        wanted[best] += dy[i];
    }
    check::launch(check::in_format("global_pool_grad", format).c_str(), {ceil_div(map / chunk, 128)}, {128}, 0,
                  GlobalPoolGradArgs{dmean.data(), mean.data(), images, side, 1, channels, number});
    check::launch(check::in_format("max_pool_grad", format).c_str(),
                  {ceil_div(static_cast<unsigned>(dy.size()) / chunk, 128)}, {128}, 0,
                  MaxPoolGradArgs{x_map.data(), dy_map.data(), residual_map.data(), most.data(), images, side, out,
                                  channels, number});
    compare("global_pool_grad", format, mean, wanted_mean);
    compare("max_pool_grad", format, most, wanted);
}

NAT_CHECK(pool_gradients) {
    for (const Format format : check::kFormats) pool_gradients_in(format);
}

struct ActivateArgs {
    const void* x;
    const float* mask;
    void* y;
    unsigned len, activation, format;
};

struct ActivateGradArgs {
    const void *x, *dy;
    const float* mask;
    void* dx;
    unsigned len, activation, format;
};

struct ColumnSumArgs {
    const void* x;
    float *partials, *y;
    unsigned rows, columns, format;
};

void activation_gradients_in(Format format) {
    check::Numbers numbers(14);
    const auto kernel = [=](const char* name) { return check::in_format(name, format); };
    const unsigned len = 1032, blocks = ceil_div(len / check::chunk(format), 256), number = check::number(format);
    const Floats x = numbers.floats(len), dy = numbers.floats(len), mask = numbers.floats(len, 0, 1);
    const Map x_map(format, x), dy_map(format, dy);
    Map y(format, len), dx(format, len);
    Floats wanted_y(len), wanted_dx(len);
    for (unsigned i = 0; i < len; ++i) {
        wanted_y[i] = mask[i] * x[i] * std::fmin(std::fmax(x[i] + 3.0f, 0.0f), 6.0f) / 6.0f;
        wanted_dx[i] = static_cast<float>(mask[i] * dy[i] * hswish_slope(x[i]));
    }
    check::launch(kernel("activate").c_str(), {blocks}, {256}, 0,
                  ActivateArgs{x_map.data(), mask.data(), y.data(), len, 2, number});
    check::launch(kernel("activate_grad").c_str(), {blocks}, {256}, 0,
                  ActivateGradArgs{x_map.data(), dy_map.data(), mask.data(), dx.data(), len, 2, number});
    compare("activate", format, y, wanted_y);
    compare("activate_grad", format, dx, wanted_dx);
    for (const unsigned rows : {1u, 300u}) {
        const unsigned columns = 40, row_blocks = ceil_div(rows, 256);
        const Floats values = numbers.floats(rows * columns);
        const Map map(format, values);
        Floats partials = poisoned(row_blocks * columns), sums(columns, 1.0f), wanted(columns, 1.0f);
        for (unsigned i = 0; i < values.size(); ++i) wanted[i % columns] += values[i];
        const ColumnSumArgs args = {map.data(), partials.data(), sums.data(), rows, columns, number};
        check::launch(kernel("column_partials").c_str(), {row_blocks * 2}, {128}, 0, args);
        check::launch("column_merge_f32", {1}, {128}, 0, args);
        compare("column_sum", sums, wanted);
    }
}

NAT_CHECK(activation_gradients) {
    for (const Format format : check::kFormats) activation_gradients_in(format);
}

struct KernelTransformGradArgs {
    const float *x, *matrix, *dy;
    float *dx, *dmatrix;
    unsigned channels, from, to;
};

struct KernelTransformGradGroup {
    KernelTransformGradArgs calls[64];
};

NAT_CHECK(kernel_transform_gradients) {
    check::Numbers numbers(15);
    const unsigned channels = 40, from = 5, to = 3, taps = to * to;
    const Floats x = numbers.floats(from * from * channels), matrix = numbers.floats(taps * taps);
    const Floats dy = numbers.floats(taps * channels);
    Floats dx(x.size(), 1.0f), dmatrix(matrix.size(), 1.0f), wanted_dx = dx, wanted_dmatrix = dmatrix;
    for (unsigned u = 0; u < taps; ++u) {
        const unsigned row = (u / to + 1) * from + u % to + 1;
        for (unsigned t = 0; t < taps; ++t) {
            for (unsigned c = 0; c < channels; ++c) {
                wanted_dx[row * channels + c] += matrix[t * taps + u] * dy[t * channels + c];
                wanted_dmatrix[t * taps + u] += dy[t * channels + c] * x[row * channels + c];
            }
        }
    }
    const KernelTransformGradGroup args = {
        {{x.data(), matrix.data(), dy.data(), dx.data(), dmatrix.data(), channels, from, to}}};
    check::launch("kernel_transform_input_f32", {ceil_div(taps * channels / 4, 128)}, {128}, 0, args);
    check::launch("kernel_transform_matrix_f32", {taps * taps}, {64}, 0, args);
    compare("kernel_transform dx", dx, wanted_dx);
    compare("kernel_transform dmatrix", dmatrix, wanted_dmatrix);
}

struct SoftTargetsArgs {
    const float *a, *b, *c, *d, *e;
    float* probabilities;
    unsigned images, classes, stride;
    float weights[5];
};

struct LossArgs {
    const float *logits, *labels, *teacher;
    float *scores, *dlogits;
    unsigned images, classes, stride;
    float smoothing, label_ratio, kd_ratio, weight;
};

NAT_CHECK(losses) {
    check::Numbers numbers(16);
    const unsigned images = 6, classes = 37, stride = 40;
    const Floats logits = numbers.floats(images * stride), other = numbers.floats(images * stride);
    const Floats labels = numbers.floats(images, 0, classes - 1);
    Floats teacher = poisoned(images * stride), scores = poisoned(2 * images), dlogits = poisoned(images * stride);
    Floats wanted_teacher(teacher.size()), wanted_scores(scores.size()), wanted_dlogits(dlogits.size());
    for (unsigned i = 0; i < images; ++i) {
        const float *row = &logits[i * stride], *second = &other[i * stride];
        const unsigned label = static_cast<unsigned>(labels[i]);
        double sum = 0.0, teacher_sum = 0.0, loss = 0.0, total = 0.0;
        unsigned answer = 0;
        std::vector<double> target(classes);
        for (unsigned j = 0; j < classes; ++j) {
            sum += std::exp(row[j]);
            teacher_sum += std::exp(0.5 * row[j] + 0.25 * second[j]);
            if (row[j] > row[answer]) answer = j;
        }
        for (unsigned j = 0; j < classes; ++j) {
            const double probability = std::exp(0.5 * row[j] + 0.25 * second[j]) / teacher_sum;
            wanted_teacher[i * stride + j] = static_cast<float>(probability);
            target[j] = 3.0 * ((j == label ? 0.75 : 0.0) + 0.25 / classes) + 2.0 * probability;
            total += target[j];
            loss -= target[j] * (row[j] - std::log(sum));
        }
        for (unsigned j = 0; j < classes; ++j) {
            wanted_dlogits[i * stride + j] = static_cast<float>(0.5 / images * (total * std::exp(row[j]) / sum - target[j]));
        }
        wanted_scores[2 * i] = static_cast<float>(0.5 * loss);
        wanted_scores[2 * i + 1] = answer == label ? 1.0f : 0.0f;
    }
    check::launch("soft_targets_f32", {2}, {128}, 0,
                  SoftTargetsArgs{logits.data(), nullptr, nullptr, other.data(), nullptr, teacher.data(), images, classes,
                                  stride, {0.5f, 9.0f, 9.0f, 0.25f, 9.0f}});
    compare("soft_targets", teacher, wanted_teacher);
    check::launch("loss_f32", {2}, {128}, 0,
                  LossArgs{logits.data(), labels.data(), teacher.data(), scores.data(), dlogits.data(), images, classes,
                           stride, 0.25f, 3.0f, 2.0f, 0.5f});
    compare("loss", scores, wanted_scores);
    compare("loss gradient", dlogits, wanted_dlogits);
}

struct FillArgs {
    float* y;
    unsigned len;
    float value;
};

struct SquaresSegment {
    unsigned offset, len, first_block;
};

struct SumOfSquaresArgs {
    const float* x;
    float *partials, *y;
    unsigned count;
    SquaresSegment segments[320];
};

struct ClipFactorArgs {
    const float* squares;
    float* out;
    unsigned count;
    float limit, unscale;
};

struct SgdSegment {
    unsigned offset, len, first_block;
    float decay;
};

struct SgdArgs {
    const float *g, *clip;
    float *velocity, *w;
    float rate, momentum;
    unsigned nesterov, count;
    SgdSegment segments[240];
};

struct AdamWSegment {
    unsigned offset, len, first_block;
    float decay, correction1, correction2;
};

struct AdamWArgs {
    const float *g, *clip;
    float *m, *v, *w;
    float rate, beta1, beta2, epsilon;
    unsigned count;
    AdamWSegment segments[160];
};

// Two tensors one behind the other, the first with a length that ends between quads.
NAT_CHECK(updates) {
    check::Numbers numbers(17);
    for (const unsigned len : {2u, 5003u}) {
        const unsigned head = len / 2, tail = len - head;
        const auto blocks_of = [=](unsigned size) { return ceil_div(head, size) + ceil_div(tail, size); };
        const unsigned grid = blocks_of(1024), blocks = blocks_of(4096);
        const Floats g = numbers.floats(len), start = numbers.floats(len), moment = numbers.floats(len);
        const Floats positive = numbers.floats(len, 1, 4);
        Floats y = poisoned(len), partials = poisoned(blocks), square = poisoned(2), clip = poisoned(3), wanted(2);
        check::launch("update_fill_f32", {ceil_div(len, 1024)}, {256}, 0, FillArgs{y.data(), len, 3.0f});
        compare("fill", y, Floats(len, 3.0f));
        for (unsigned i = 0; i < len; ++i) wanted[i < head ? 0 : 1] += g[i] * g[i];
        const SumOfSquaresArgs args = {
            g.data(), partials.data(), square.data(), 2, {{0, head, 0}, {head, tail, ceil_div(head, 4096)}}};
        check::launch("square_partials_f32", {blocks}, {256}, 0, args);
        check::launch("square_merge_f32", {2}, {256}, 0, args);
        compare("sum of squares", square, wanted);
        const Floats squares = {9.0f, 3.0f, 4.0f};
        check::launch("clip_factor_f32", {1}, {256}, 0, ClipFactorArgs{squares.data(), clip.data(), 3, 1.0f, 0.5f});
        compare("clip_factor", clip, {2.0f, 0.25f, 0.0f});

        const auto decay = [=](unsigned i) { return i < head ? 0.25f : 0.5f; };
        Floats velocity = moment, w = start, wanted_velocity(len), wanted_w(len);
        for (unsigned i = 0; i < len; ++i) {
            const float d = 0.25f * g[i] + decay(i) * start[i];
            wanted_velocity[i] = 0.5f * moment[i] + d;
            wanted_w[i] = start[i] - 0.125f * (d + 0.5f * wanted_velocity[i]);
        }
        const unsigned second = ceil_div(head, 1024);
        SgdArgs sgd = {g.data(), clip.data(), velocity.data(), w.data(), 0.125f, 0.5f, 1, 2,
                       {{0, head, 0, decay(0)}, {head, tail, second, decay(head)}}};
        check::launch("sgd_f32", {grid}, {256}, 0, sgd);
        compare("sgd velocity", velocity, wanted_velocity);
        compare("sgd weights", w, wanted_w);

        Floats m = moment, v = positive;
        w = start;
        Floats wanted_m(len), wanted_v(len);
        for (unsigned i = 0; i < len; ++i) {
            wanted_m[i] = moment[i] + 0.5f * (g[i] - moment[i]);
            wanted_v[i] = positive[i] + 0.25f * (g[i] * g[i] - positive[i]);
            const float root = std::sqrt(wanted_v[i] / (i < head ? 0.5f : 0.25f)) + 0.125f;
            wanted_w[i] = start[i] * (1.0f - 0.125f * decay(i)) - 0.125f * (wanted_m[i] / 0.75f) / root;
        }
        AdamWArgs adamw = {g.data(), nullptr, m.data(), v.data(), w.data(), 0.125f, 0.5f, 0.75f, 0.125f, 2,
                           {{0, head, 0, decay(0), 0.75f, 0.5f}, {head, tail, second, decay(head), 0.75f, 0.25f}}};
        check::launch("adamw_f32", {grid}, {256}, 0, adamw);
        compare("adamw first moment", m, wanted_m);
        compare("adamw second moment", v, wanted_v);
        compare("adamw weights", w, wanted_w);

        // A gradient that is not finite: the norm says so, and steps change nothing.
        const Floats broken = {1.0f, INFINITY};
        check::launch("clip_factor_f32", {1}, {256}, 0, ClipFactorArgs{broken.data(), clip.data(), 2, 1.0f, 0.5f});
        check::expect(clip[2] == 1.0f, "clip_factor: an infinite norm has flag %g", clip[2]);
        const Floats before_v = v, before_w = w, before_m = m;
        adamw.clip = clip.data();
        check::launch("adamw_f32", {grid}, {256}, 0, adamw);
        sgd.velocity = m.data();
        check::launch("sgd_f32", {grid}, {256}, 0, sgd);
        compare("skipped first moment", m, before_m);
        compare("skipped second moment", v, before_v);
        compare("skipped weights", w, before_w);
    }
}

}  // namespace
