// Checks of mbconv.cu on whole numbers: the f32 sums are exact in any order, and so is every rounding. For
// every way in which a block can cut its work: the results are those of plain loops, to the bit, and their
// bank conflicts are counted. Accuracy over many shapes is what tests/ops_mbconv.rs checks.
#include "check.h"

#include "../../mbconv.cuh"
#include "../sanitizer.h"
#include "formats.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace {

using Floats = std::vector<float>;

float rounded(check::Format format, float v) { return check::half_value(format, check::half_bits(format, v)); }

struct Problem {
    // cin 0: no expansion; 3: a stem, of images of that side; hidden 0: no SE
    unsigned images, side, kernel, stride, cin, mid, cout, hidden;
    bool residual;

    bool stem() const { return cin == 3; }
    bool expands() const { return cin > 3; }
    unsigned side_in() const { return stem() ? ceil_div(side, 2) : side; }
};

constexpr unsigned kMore = 8;  // channels that are stored and not used

// The operands of a problem and its results by plain loops.
struct Operands {
    MbconvParams p;
    Floats images, stem, expand_scale, expand_shift, filter, filter_scale, filter_shift, reduce, reduce_bias, excite, excite_bias,
        project_scale, project_shift;
    std::vector<uint16_t> x, expand, project, residual, wanted;

    Operands(const Problem& q, check::Format format) {
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
        expand_scale = numbers.floats(q.mid, 1, 2), expand_shift = numbers.floats(q.mid);
        filter = numbers.floats(q.kernel * q.kernel * stored, -1, 1);
        filter_scale = numbers.floats(q.mid, 1, 2), filter_shift = numbers.floats(q.mid);
        reduce = numbers.floats(ceil_div(q.hidden, kPanel) * stored * panels, -1, 1);
        reduce_bias = numbers.floats(q.hidden);
        excite = numbers.floats(ceil_div(q.mid, kPanel) * p.se_hidden * panels, -1, 1);
        for (float& v : excite) v /= 64.0f;  // or most gates would be 0 or 1
        excite_bias = numbers.floats(q.mid, -2, 2);
        project_scale = numbers.floats(q.cout, 1, 2), project_shift = numbers.floats(q.cout);
        x = check::pack(format, x_values), expand = check::pack(format, expand_values);
        project = check::pack(format, project_values), residual = check::pack(format, residual_values);

        const auto relu = [](float v) { return v > 0.0f ? v : 0.0f; };
        Floats y(q.images * outputs * q.cout);
        for (unsigned image = 0; image < q.images; ++image) {
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
                e[i] = q.cin != 0 ? rounded(format, relu(sum * expand_scale[c] + expand_shift[c])) : from[c];
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
                d[i] = rounded(format, relu(sum * filter_scale[c] + filter_shift[c]));
                z[c] += d[i];
            }
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
                y[at] = sum * project_scale[n] + project_shift[n];
                if (q.residual) y[at] += residual_values[at];
            }
        }
        wanted = check::pack(format, y);
    }
};

// One way to cut the work, laid out as crate::ops::mbconv::gpu::lay_out does.
struct Layout {
    MbconvConfig c;
    unsigned shared_bytes;

    Layout(const Problem& q, const MbconvParams& p, unsigned images, unsigned slice, unsigned tiles) {
        const unsigned rows_in = images * p.side_in * p.side_in, rows_out = images * p.side_out * p.side_out;
        c.images = images, c.slice = slice, c.tiles = tiles, c.groups = ceil_div(p.cout, 8 * tiles);
        const unsigned margin = q.kernel / 2;
        c.expanded_pixel = odd(slice / 8), c.expanded_row = (p.side_in + margin) * c.expanded_pixel;
        const auto apart = [&] {
            const unsigned step = p.stride * c.expanded_row;
            return slice == 64 || (slice == 32 ? step % 8 == 4 : step % 4 == 2);
        };
        for (unsigned i = 0; i < 8 && !apart(); ++i) ++c.expanded_row;
        // The last row's zeros, and what its last strip reads behind them.
        const unsigned strip = p.side_out > 4 ? 8 : p.side_out > 2 ? 4 : 2;
        const unsigned read = (ceil_div(p.side_out, strip) * strip - 1) * p.stride + 1 + 2 * margin;
        const unsigned last = std::max(read, p.side_in + 2 * margin) - (p.side_in + margin);
        const unsigned behind_slice = kFront + images * p.side_in * c.expanded_row + last * c.expanded_pixel;
        const unsigned filter = p.kernel * p.kernel * slice / 4 + slice / 2, kept = rows_out * odd(p.mid / 8);
        const unsigned weights = 2 * 8 * c.groups * tiles * kProjectRow;
        const unsigned projection = std::max(weights, kMbconvWarps * 16 * out_row(tiles));
        if (q.stem()) {
            c.weights_at = c.project_at = behind_slice;
            c.filter_at = c.weights_at + 27 * slice / 4 + slice / 2, c.x_at = c.filter_at + filter;
            c.kept_at = std::max(c.x_at, c.project_at + projection);
            const unsigned rows = mbconv::image_rows(images, p.image_side);
            shared_bytes = 16 * std::max(c.kept_at + kept, c.x_at + rows * mbconv::image_row(p.image_side));
            return;
        }
        c.x_at = behind_slice, c.project_at = kFront;
        const unsigned row = odd(p.cin / 8);
        c.weights_at = q.expands() ? c.x_at + rows_in * row : c.x_at;
        c.filter_at = q.expands() ? c.weights_at + slice * row + slice / 2 : c.x_at;
        const unsigned slices = c.filter_at + filter;
        const unsigned gates = kFront + (p.mid + p.hidden) * ceil_div(images, 4) + images * p.mid / 4;
        c.kept_at = std::max(std::max(slices, q.hidden != 0 ? gates : 0), kFront + projection);
        shared_bytes = 16 * (c.kept_at + kept);
    }
};

natv2_emulator_bank_counts check_layout(const Problem& q, const Operands& o, check::Format format, const Layout& layout) {
    const std::string filter = std::to_string(q.kernel) + "_" + std::to_string(q.stride);
    const std::string kernel = check::in_format("mbconv_" + (q.stem() ? "stem" : filter), format);
    std::vector<uint16_t> y(o.wanted.size(), 0x7fa1);
    const bool se = q.hidden != 0;
    MbconvArgs a = {};
    a.x = o.x.data(), a.filter = o.filter.data();
    a.filter_scale = o.filter_scale.data(), a.filter_shift = o.filter_shift.data();
    if (q.stem()) a.x = o.images.data(), a.stem = o.stem.data();
    if (q.expands()) a.expand = o.expand.data();
    if (q.cin != 0) a.expand_scale = o.expand_scale.data(), a.expand_shift = o.expand_shift.data();
    if (se) a.reduce = o.reduce.data(), a.reduce_bias = o.reduce_bias.data();
    if (se) a.excite = o.excite.data(), a.excite_bias = o.excite_bias.data();
    a.project = o.project.data(), a.project_scale = o.project_scale.data(), a.project_shift = o.project_shift.data();
    a.residual = q.residual && !q.stem() ? o.residual.data() : nullptr;
    a.y = y.data(), a.p = o.p;
    natv2_emulator_bank_counts counts = {};
    check::options().bank_counts = &counts;
    // Twice, the second time with half the images: one row of the grid is shorter. Both leave the same bits.
    MbconvGroup group = {};
    group.calls[0] = group.calls[1] = {a, layout.c};
    std::vector<uint16_t> half(o.wanted.size(), 0x7fa1);
    group.calls[1].a.y = half.data(), group.calls[1].a.p.images = ceil_div(q.images, 2);
    const unsigned blocks = ceil_div(q.images, layout.c.images);
    check::launch(kernel.c_str(), {blocks, 2}, {kMbconvThreads}, layout.shared_bytes, group);
    check::options().bank_counts = nullptr;
    const size_t halfway = y.size() / q.images * ceil_div(q.images, 2);
    check::expect(std::equal(half.begin(), half.begin() + halfway, y.begin()), "%s: rows differ", kernel.c_str());
    check::expect(half.back() == 0x7fa1 || halfway == half.size(), "%s: a row writes too far", kernel.c_str());
    for (unsigned i = 0; i < y.size(); ++i) {
        // 0 and -0 are one number.
        const bool same = y[i] == o.wanted[i] || ((y[i] | o.wanted[i]) & 0x7fffu) == 0;
        check::expect(same, "%s, %u images, slices of %u: element %u is %04x, not %04x", kernel.c_str(), layout.c.images,
                      layout.c.slice, i, y[i], o.wanted[i]);
    }
    return counts;
}

const Problem kProblems[] = {
    {1, 1, 3, 1, 8, 8, 8, 0, false},      // one pixel, one chunk
    {3, 4, 5, 1, 24, 72, 40, 24, true},   // tails of channels and of images
    {1, 8, 7, 2, 16, 96, 24, 0, false},   // a stride
    {2, 8, 3, 1, 0, 16, 16, 0, true},     // no expansion
    {3, 20, 3, 1, 3, 16, 16, 0, true},    // a stem
    {2, 13, 3, 1, 3, 24, 40, 0, false},   // the same on rows that are not whole chunks
    {2, 16, 3, 1, 24, 40, 24, 16, true},  // an early stage
    {5, 2, 7, 1, 40, 136, 104, 40, true}, // a late one
};

}  // namespace

NAT_CHECK(mbconv_is_exact_on_whole_numbers_however_it_is_cut) {
    const bool show = std::getenv("NATV2_SHOW_BANKS") != nullptr;
    for (const check::Format format : check::kHalfFormats) {
        for (const Problem& q : kProblems) {
            const Operands operands(q, format);
            for (const unsigned images : {1u, 2u, 4u}) {
                for (const unsigned slice : {16u, 32u, 64u}) {
                    if (q.stem() && slice < q.mid) continue;  // it has one slice
                    // ThreadSanitizer takes minutes for all: one format, and one slice for each number of images.
                    if (nat_emulator::kThreadSanitizer && (format != check::Format::kF16 || slice != 16 * images)) continue;
                    const Layout layout(q, operands.p, images, slice, images == 1 ? 2 : images == 2 ? 4 : 6);
                    if (layout.shared_bytes > nat_emulator::kMaxSharedBytes) continue;
                    const natv2_emulator_bank_counts counts = check_layout(q, operands, format, layout);
                    check::expect(counts.turns[0] > 0 && counts.conflicts[0] == 0, "bank conflicts of ldmatrix");
                    // Rows that are not as long as a line of banks is wide: their neighbours are at odds now and then.
                    const unsigned share = slice == 64 ? 10 : slice == 32 ? 6 : 3;
                    for (const int kind : {1, 2}) {
                        // A map of two chunks a pixel comes once, in rows that are made for more.
                        if (kind == 1 && q.cin == 0) continue;
                        check::expect(share * counts.conflicts[kind] <= counts.turns[kind],
                                      "slices of %u: %llu bank conflicts in %llu turns of kind %d", slice,
                                      static_cast<unsigned long long>(counts.conflicts[kind]),
                                      static_cast<unsigned long long>(counts.turns[kind]), kind);
                    }
                    if (!show) continue;
                    std::printf("%u/%u k%u %u->%u->%u: %u images, slice %u:", q.side, q.stride, q.kernel, q.cin, q.mid,
                                q.cout, images, slice);
                    for (int kind = 0; kind < 3; ++kind) {
                        std::printf(" %llu/%llu", static_cast<unsigned long long>(counts.conflicts[kind]),
                                    static_cast<unsigned long long>(counts.turns[kind]));
                    }
                    std::printf("\n");
                }
            }
        }
    }
}
