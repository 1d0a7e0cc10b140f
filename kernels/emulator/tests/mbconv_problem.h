// Problems of whole numbers for the checks of mbconv.cu, mbconv_passes.cu and expand_depthwise.cu: their operands, their results by
// plain loops, and where things lie in a block's shared memory.
#pragma once

#include "check.h"

#include "nat_mbconv_stem.cuh"
#include "formats.h"

#include <algorithm>
#include <cmath>

namespace check::mbconv_problem {

using Floats = std::vector<float>;

inline float rounded(check::Format format, float v) { return check::half_value(format, check::half_bits(format, v)); }

struct Problem {
    // cin 0: no expansion; 3: a stem, of images of that side; hidden 0: no SE
    unsigned images, side, kernel, stride, cin, mid, cout, hidden;
    bool residual;

    bool stem() const { return cin == 3; }
    bool expands() const { return cin > 3; }
    unsigned side_in() const { return stem() ? ceil_div(side, 2) : side; }
};

inline constexpr unsigned kMore = 8;  // channels that are stored and not used

// The operands of a problem and its results by plain loops: of inference, or, with batches, of the passes of
// mbconv_passes.cu, where scales and shifts are a batch's and what they are applied to is rounded.
struct Operands {
    MbconvParams p;
    Floats images, stem, expand_scale, expand_shift, filter, filter_scale, filter_shift, reduce, reduce_bias, excite, excite_bias,
        project_scale, project_shift;
    std::vector<uint16_t> x, expand, project, residual, wanted;
    std::vector<uint16_t> filtered;  // the depthwise output, and the means of its rows
    Floats row_means;
    Floats raw[3];  // of passes: what each measures

    Operands(const Problem& q, check::Format format, unsigned batch_images = 0) {
        const bool passes = batch_images != 0;
        const unsigned batches = passes ? q.images / batch_images : 1;
        const unsigned cin = q.cin != 0 ? q.cin : q.mid, side = q.side_in(), stored = q.mid + kMore;
        const unsigned out = ceil_div(side, q.stride);
        p = {q.images, side,     out,         cin,    q.mid,  q.cout, q.kernel,         q.stride,
             kRelu,    q.hidden, cin + kMore, stored, stored, stored, q.hidden + kMore, 0,
             0,        0,        0};
        if (q.stem()) p.image_side = q.side, p.stem_activation = kRelu, p.shortcut = q.residual;
        check::Numbers numbers(q.mid + q.side);
        images = numbers.floats(q.images * q.side * q.side * 3, -1, 1), stem = numbers.floats(27 * q.mid, -1, 1);
        const unsigned pixels = side * side, outputs = out * out, panels = kPanel;
        const Floats x_values = numbers.floats(q.images * pixels * cin, -1, 1);
        const Floats expand_values = numbers.floats(q.mid * p.weight_cin, -1, 1);
        const Floats project_values = numbers.floats(q.cout * stored, -1, 1);
        Floats residual_values = numbers.floats(q.images * outputs * q.cout);
        expand_scale = numbers.floats(batches * q.mid, 1, 2), expand_shift = numbers.floats(batches * q.mid);
        filter = numbers.floats(q.kernel * q.kernel * stored, -1, 1);
        filter_scale = numbers.floats(batches * q.mid, 1, 2), filter_shift = numbers.floats(batches * q.mid);
        reduce = numbers.floats(ceil_div(q.hidden, kPanel) * stored * panels, -1, 1);
        reduce_bias = numbers.floats(q.hidden);
        excite = numbers.floats(ceil_div(q.mid, kPanel) * p.se_hidden * panels, -1, 1);
        for (float& v : excite) v /= 64.0f;  // or most gates would be 0 or 1
        excite_bias = numbers.floats(q.mid, -2, 2);
        project_scale = numbers.floats(q.cout, 1, 2), project_shift = numbers.floats(q.cout);
        x = check::pack(format, x_values), expand = check::pack(format, expand_values);
        project = check::pack(format, project_values), residual = check::pack(format, residual_values);

        const auto relu = [](float v) { return v > 0.0f ? v : 0.0f; };
        // The sum that a batch norm takes.
        const auto noted = [&](unsigned pass, float sum) {
            if (!passes) return sum;
            raw[pass].push_back(rounded(format, sum));
            return raw[pass].back();
        };
        Floats y(q.images * outputs * q.cout), all_filtered;
        row_means.resize(q.images * out * q.mid);
        for (unsigned image = 0; image < q.images; ++image) {
            const unsigned vectors = passes ? image / batch_images * q.mid : 0;  // of its batch
            Floats e(pixels * q.mid), d(outputs * q.mid), z(q.mid), h(q.hidden);
            for (unsigned i = 0; i < pixels * q.mid; ++i) {
                const unsigned pixel = i / q.mid, c = i % q.mid;
                const float* from = &x_values[(image * pixels + pixel) * cin];
                float sum = 0.0f;
                for (unsigned k = 0; k < cin && !q.stem(); ++k) sum += from[k] * expand_values[c * p.weight_cin + k];
                for (unsigned tap = 0; tap < 27 && q.stem(); ++tap) {
                    const unsigned iy = 2 * (pixel / side) + tap / 9 - 1, ix = 2 * (pixel % side) + tap / 3 % 3 - 1;
                    if (iy >= q.side || ix >= q.side) continue;
                    sum += images[((image * q.side + iy) * q.side + ix) * 3 + tap % 3] * stem[tap * q.mid + c];
                }
                if (q.cin == 0) {
                    e[i] = from[c];
                    continue;
                }
                sum = noted(0, sum);
                e[i] = rounded(format, relu(sum * expand_scale[vectors + c] + expand_shift[vectors + c]));
            }
            if (p.shortcut != 0) std::copy(e.begin(), e.end(), residual_values.begin() + image * e.size());
            for (unsigned i = 0; i < outputs * q.mid; ++i) {
                const unsigned c = i % q.mid, oy = i / q.mid / out, ox = i / q.mid % out;
                float sum = 0.0f;
                for (unsigned tap = 0; tap < q.kernel * q.kernel; ++tap) {
                    const unsigned iy = oy * q.stride + tap / q.kernel - q.kernel / 2;
                    const unsigned ix = ox * q.stride + tap % q.kernel - q.kernel / 2;
                    if (iy < side && ix < side) sum += e[(iy * side + ix) * q.mid + c] * filter[tap * stored + c];
                }
                sum = noted(1, sum);
                d[i] = rounded(format, relu(sum * filter_scale[vectors + c] + filter_shift[vectors + c]));
                z[c] += d[i];
                row_means[(image * out + oy) * q.mid + c] += d[i];
            }
            all_filtered.insert(all_filtered.end(), d.begin(), d.end());
            for (float& v : z) v /= static_cast<float>(outputs);
            for (unsigned j = 0; j < q.hidden; ++j) {
                float sum = 0.0f;
                for (unsigned c = 0; c < q.mid; ++c) sum += z[c] * reduce[(j / kPanel * stored + c) * kPanel + j % kPanel];
                h[j] = relu(sum + reduce_bias[j]);
            }
            for (unsigned c = 0; c < q.mid && q.hidden != 0; ++c) {
                float sum = 0.0f;
                for (unsigned j = 0; j < q.hidden; ++j) {
                    sum += h[j] * excite[(c / kPanel * p.se_hidden + j) * kPanel + c % kPanel];
                }
                const float gate = hsigmoid(sum + excite_bias[c]);
                for (unsigned pixel = 0; pixel < outputs; ++pixel) {
                    d[pixel * q.mid + c] = rounded(format, d[pixel * q.mid + c] * gate);
                }
            }
            for (unsigned i = 0; i < outputs * q.cout; ++i) {
                const unsigned pixel = i / q.cout, n = i % q.cout;
                float sum = 0.0f;
                for (unsigned c = 0; c < q.mid; ++c) sum += d[pixel * q.mid + c] * project_values[n * stored + c];
                const unsigned at = image * outputs * q.cout + i;
                y[at] = noted(2, sum);
                if (passes) continue;
                y[at] = sum * project_scale[n] + project_shift[n];
                if (q.residual) y[at] += residual_values[at];
            }
        }
        for (float& mean : row_means) mean *= 1.0f / static_cast<float>(out);
        wanted = check::pack(format, y), filtered = check::pack(format, all_filtered);
    }
};

// One way to cut the work, laid out as crate::ops::mbconv::blocks does.
struct Layout {
    MbconvConfig c;
    unsigned shared_bytes;

    Layout(const Problem& q, const MbconvParams& p, unsigned images, unsigned slice, unsigned tiles,
           MbconvPass pass = MbconvPass::kWhole, unsigned band_rows = 0) {
        c = {}, c.bands = band_rows != 0 ? ceil_div(p.side_out, band_rows) : 1;
        c.band_rows = band_rows != 0 ? band_rows : p.side_out;
        const unsigned lines_out = images * c.band_rows;
        const unsigned band_lines = std::min(p.side_in, (c.band_rows - 1) * p.stride + p.kernel);
        const unsigned lines_in = c.bands > 1 ? band_lines : images * p.side_in;
        const unsigned rows_in = lines_in * p.side_in, rows_out = lines_out * p.side_out;
        c.images = images, c.slice = slice, c.tiles = tiles, c.groups = ceil_div(p.cout, 8 * tiles);
        const unsigned margin = q.kernel / 2;
        const unsigned row = odd(p.cin / 8);
        c.expanded_pixel = odd(slice / 8);
        if (pass == MbconvPass::kExpanded) {
            c.x_at = kFront + rows_in * c.expanded_pixel, c.weights_at = c.x_at + rows_in * row;
            shared_bytes = 16 * (c.weights_at + slice * row);
            return;
        }
        c.expanded_row = (p.side_in + margin) * c.expanded_pixel;
        const auto apart = [&] {
            const unsigned step = p.stride * c.expanded_row;
            return slice == 64 || (slice == 32 ? step % 8 == 4 : step % 4 == 2);
        };
        for (unsigned i = 0; i < 8 && !apart(); ++i) ++c.expanded_row;
        // The last row's zeros, and what its last strip reads behind them.
        const unsigned strip = p.side_out > 4 ? 8 : p.side_out > 2 ? 4 : 2;
        const unsigned read = (ceil_div(p.side_out, strip) * strip - 1) * p.stride + 1 + 2 * margin;
        const unsigned last = std::max(read, p.side_in + 2 * margin) - (p.side_in + margin);
        const unsigned behind_slice = kFront + lines_in * c.expanded_row + last * c.expanded_pixel;
        const unsigned filter = p.kernel * p.kernel * slice / 4 + slice / 2, kept = rows_out * odd(p.mid / 8);
        const unsigned weights = 2 * 8 * c.groups * tiles * kProjectRow;
        const unsigned projection = std::max(weights, kMbconvWarps * 16 * out_row(tiles));
        if (q.stem()) {
            c.weights_at = c.project_at = behind_slice;
            c.filter_at = c.weights_at + 27 * slice / 4 + slice / 2, c.x_at = c.filter_at + filter;
            c.kept_at = std::max(c.x_at, c.project_at + projection);
            const unsigned whole = mbconv::image_rows(images, p.image_side);
            const unsigned rows = c.bands > 1 ? mbconv::band_image_rows(lines_in) : whole;
            shared_bytes = 16 * std::max(c.kept_at + kept, c.x_at + rows * mbconv::image_row(p.image_side));
            return;
        }
        c.x_at = behind_slice, c.project_at = kFront;
        c.weights_at = q.expands() ? c.x_at + rows_in * row : c.x_at;
        c.filter_at = q.expands() ? c.weights_at + slice * row + slice / 2 : c.x_at;
        if (keeps_slice(pass)) {
            c.kept_at = c.filter_at + filter - (pass == MbconvPass::kFiltered ? slice / 2 : 0);
            shared_bytes = 16 * (c.kept_at + rows_out * c.expanded_pixel);
            return;
        }
        const unsigned slices = c.filter_at + filter;
        const unsigned gates = kFront + (p.mid + p.hidden) * ceil_div(images, 4) + images * p.mid / 4;
        c.kept_at = std::max(std::max(slices, q.hidden != 0 ? gates : 0), kFront + projection);
        shared_bytes = 16 * (c.kept_at + kept);
    }
};

}  // namespace check::mbconv_problem
