// Checks of expand_depthwise.cu on whole numbers, as those of mbconv.cu are: for every way in which a block can cut
// its work the depthwise output and the means of its rows are those of plain loops, to the bit. Bank conflicts are
// counted.
#include "../sanitizer.h"
#include "mbconv_problem.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

using namespace check::mbconv_problem;

natv2_emulator_bank_counts check_layout(const Problem& q, const Operands& o, const MbconvParams& p, check::Format format,
                                        const Layout& layout, unsigned batch_images, bool with_means) {
    const std::string name = "expand_depthwise_" + std::to_string(q.kernel) + "_" + std::to_string(q.stride);
    const std::string kernel = check::in_format(name, format);
    std::vector<uint16_t> y(o.filtered.size(), 0x7fa1);
    Floats means(o.row_means.size(), NAN);
    ExpandDepthwiseLaunch launch = {};
    MbconvArgs& a = launch.whole.a;
    a.x = o.x.data(), a.filter = o.filter.data(), a.y = y.data(), a.p = p;
    a.filter_scale = o.filter_scale.data(), a.filter_shift = o.filter_shift.data();
    if (q.expands()) a.expand = o.expand.data(), a.expand_scale = o.expand_scale.data(), a.expand_shift = o.expand_shift.data();
    launch.whole.c = layout.c, launch.means = with_means ? means.data() : nullptr;
    launch.rounds = batch_images != 0, launch.batch_images = launch.rounds ? batch_images : q.images;
    natv2_emulator_bank_counts counts = {};
    check::options().bank_counts = &counts;
    const unsigned batch_blocks = ceil_div(launch.batch_images, layout.c.images) * layout.c.bands;
    const unsigned blocks = q.images / launch.batch_images * batch_blocks;
    check::launch(kernel.c_str(), {blocks}, {kMbconvThreads}, layout.shared_bytes, launch);
    check::options().bank_counts = nullptr;
    for (unsigned i = 0; i < y.size(); ++i) {
        const bool same = check::same_number(y[i], o.filtered[i]);
        check::expect(same, "%s, %u images, %u bands, slices of %u: element %u is %04x, not %04x", kernel.c_str(),
                      layout.c.images, layout.c.bands, layout.c.slice, i, y[i], o.filtered[i]);
    }
    for (unsigned i = 0; i < means.size(); ++i) {
        const bool same = with_means ? means[i] == o.row_means[i] : std::isnan(means[i]);
        check::expect(same, "%s, %u images, %u bands, slices of %u: mean %u is %g, not %g", kernel.c_str(), layout.c.images,
                      layout.c.bands, layout.c.slice, i, means[i], o.row_means[i]);
    }
    return counts;
}

const Problem kProblems[] = {
    {1, 1, 3, 1, 8, 8, 0, 0, false},     // one pixel, one chunk
    {6, 4, 5, 1, 24, 72, 0, 0, false},   // tails of channels and of images
    {1, 8, 7, 2, 16, 96, 0, 0, false},   // a stride
    {2, 8, 5, 1, 0, 24, 0, 0, false},    // no expansion
    {5, 2, 7, 1, 40, 136, 0, 0, false},  // many channels of few pixels
    {2, 11, 3, 1, 16, 40, 0, 0, false},  // bands with others above and below
    {1, 14, 7, 2, 24, 40, 0, 0, false},  // the same with a stride
};

void check_conflicts(const natv2_emulator_bank_counts& counts, const Problem& q, const Layout& layout) {
    if (std::getenv("NATV2_SHOW_BANKS") != nullptr) {
        std::printf("%u/%u k%u %u->%u: %u images, %u bands, slice %u:", q.side, q.stride, q.kernel, q.cin, q.mid,
                    layout.c.images, layout.c.bands, layout.c.slice);
        for (int kind = 0; kind < 3; ++kind) {
            std::printf(" %llu/%llu", static_cast<unsigned long long>(counts.conflicts[kind]),
                        static_cast<unsigned long long>(counts.turns[kind]));
        }
        std::printf("\n");
    }
    check::expect(counts.conflicts[0] == 0, "bank conflicts of ldmatrix");
    // Rows that are not as long as a line of banks is wide: their neighbours are at odds now and then, and more
    // often in bands of a row, where these are not one below the other.
    const unsigned share = layout.c.slice == 64 ? 9 : layout.c.slice == 16 ? 2 : layout.c.band_rows == 1 ? 3 : 6;
    for (const int kind : {1, 2}) {
        if (counts.turns[kind] < 200) continue;  // few pixels: copies of two kinds in a turn
        // A map of two chunks a pixel comes once, in rows that are made for more.
        if (kind == 1 && q.cin == 0) continue;
        check::expect(share * counts.conflicts[kind] <= counts.turns[kind],
                      "slices of %u: %llu bank conflicts in %llu turns of kind %d", layout.c.slice,
                      static_cast<unsigned long long>(counts.conflicts[kind]),
                      static_cast<unsigned long long>(counts.turns[kind]), kind);
    }
}

}  // namespace

NAT_CHECK(expand_depthwise_is_exact_on_whole_numbers_however_it_is_cut) {
    for (const check::Format format : check::kHalfFormats) {
        // ThreadSanitizer takes minutes for all: one format, one slice, batches, and bands of more than a row.
        if (nat_emulator::kThreadSanitizer && format != check::Format::kF16) continue;
        for (const Problem& q : kProblems) for (const bool recalibrates : {false, true}) {
            // Two batches, or each image is one.
            const unsigned batch_images = !recalibrates ? 0 : q.images % 2 == 0 ? q.images / 2 : 1;
            const Operands operands(q, format, batch_images);
            MbconvParams p = operands.p;
            p.weight_mid = p.se_channels = p.se_hidden = 0;
            // Whole images, one or several, and bands of one row and of three, the last of an image fewer.
            for (const auto& [images, band_rows] : {std::pair{1u, 0u}, {4u, 0u}, {1u, 1u}, {1u, 3u}}) {
                if (band_rows >= p.side_out && band_rows != 0) continue;
                if (nat_emulator::kThreadSanitizer && (!recalibrates || band_rows == 1)) continue;
                for (const unsigned slice : {16u, 32u, 64u}) {
                    if (nat_emulator::kThreadSanitizer && slice != 16) continue;
                    const Layout layout(q, p, images, slice, 2, MbconvPass::kDepthwise, band_rows);
                    if (layout.shared_bytes > nat_emulator::kMaxSharedBytes) continue;
                    const auto counts = check_layout(q, operands, p, format, layout, batch_images, slice != 32);
                    check_conflicts(counts, q, layout);
                }
            }
        }
    }
}
