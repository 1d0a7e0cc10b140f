// Checks of mbconv.cu on whole numbers: the f32 sums are exact in any order, and so is every rounding. For
// every way in which a block can cut its work: the results are those of plain loops, to the bit, and their
// bank conflicts are counted. Accuracy over many shapes is what tests/device/ops/mbconv.rs checks.
#include "../sanitizer.h"
#include "mbconv_problem.h"

#include <string>

namespace {

using namespace check::mbconv_problem;

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
    const unsigned blocks = ceil_div(q.images, layout.c.images) * layout.c.bands;
    check::launch(kernel.c_str(), {blocks, 2}, {kMbconvThreads}, layout.shared_bytes, group);
    check::options().bank_counts = nullptr;
    const size_t halfway = y.size() / q.images * ceil_div(q.images, 2);
    check::expect(std::equal(half.begin(), half.begin() + halfway, y.begin()), "%s: rows differ", kernel.c_str());
    check::expect(half.back() == 0x7fa1 || halfway == half.size(), "%s: a row writes too far", kernel.c_str());
    for (unsigned i = 0; i < y.size(); ++i) {
        const bool same = check::same_number(y[i], o.wanted[i]);
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
    {2, 11, 5, 1, 16, 40, 24, 0, true},   // bands with others above and below
    {1, 14, 7, 2, 24, 40, 24, 0, false},  // the same with a stride
};

void check_conflicts(const natv2_emulator_bank_counts& counts, const Problem& q, const Layout& layout) {
    check::expect(counts.turns[0] > 0 && counts.conflicts[0] == 0, "bank conflicts of ldmatrix");
    // Rows that are not as long as a line of banks is wide: their neighbours are at odds now and then.
    const bool bands = layout.c.bands > 1;
    const unsigned slice = layout.c.slice, share = slice == 64 ? (bands ? 9 : 10) : slice == 32 ? 6 : bands ? 2 : 3;
    for (const int kind : {1, 2}) {
        // A map of two chunks a pixel comes once, in rows that are made for more.
        if (kind == 1 && q.cin == 0) continue;
        check::expect(share * counts.conflicts[kind] <= counts.turns[kind],
                      "slices of %u: %llu bank conflicts in %llu turns of kind %d", slice,
                      static_cast<unsigned long long>(counts.conflicts[kind]),
                      static_cast<unsigned long long>(counts.turns[kind]), kind);
    }
    if (std::getenv("NATV2_SHOW_BANKS") == nullptr) return;
    std::printf("%u/%u k%u %u->%u->%u: %u images, %u bands, slice %u:", q.side, q.stride, q.kernel, q.cin, q.mid, q.cout,
                layout.c.images, layout.c.bands, slice);
    for (int kind = 0; kind < 3; ++kind) {
        std::printf(" %llu/%llu", static_cast<unsigned long long>(counts.conflicts[kind]),
                    static_cast<unsigned long long>(counts.turns[kind]));
    }
    std::printf("\n");
}

// What a block of the emulator can hold.
void check_cut(const Problem& q, const Operands& operands, check::Format format, const Layout& layout) {
    if (layout.shared_bytes > nat_emulator::kMaxSharedBytes) return;
    check_conflicts(check_layout(q, operands, format, layout), q, layout);
}

}  // namespace

NAT_CHECK(mbconv_is_exact_on_whole_numbers_however_it_is_cut) {
    for (const check::Format format : check::kHalfFormats) {
        for (const Problem& q : kProblems) {
            const Operands operands(q, format);
            for (const unsigned images : {1u, 2u, 4u}) {
                for (const unsigned slice : {16u, 32u, 64u}) {
                    if (q.stem() && slice < q.mid) continue;  // it has one slice
                    // ThreadSanitizer takes minutes for all: one format, and one slice for each number of images.
                    if (nat_emulator::kThreadSanitizer && (format != check::Format::kF16 || slice != 16 * images)) continue;
                    const unsigned tiles = images == 1 ? 2 : images == 2 ? 4 : 6;
                    check_cut(q, operands, format, Layout(q, operands.p, images, slice, tiles));
                }
            }
        }
    }
}

// Bands of one row, and of three, the last of an image fewer.
NAT_CHECK(mbconv_is_exact_on_whole_numbers_in_bands) {
    for (const check::Format format : check::kHalfFormats) {
        for (const Problem& q : kProblems) {
            const Operands operands(q, format);
            for (const unsigned band_rows : {1u, 3u}) {
                if (q.hidden != 0 || band_rows >= operands.p.side_out) continue;
                for (const unsigned slice : {16u, 64u}) {
                    if (q.stem() && slice < q.mid) continue;  // it has one slice
                    if (nat_emulator::kThreadSanitizer && format != check::Format::kF16) continue;
                    check_cut(q, operands, format, Layout(q, operands.p, 1, slice, 4, MbconvPass::kWhole, band_rows));
                }
            }
        }
    }
}
