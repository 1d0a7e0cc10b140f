// Checks of mbconv_passes.cu on whole numbers, as those of mbconv.cu are: for every way in which a block can cut
// its work the output is that of plain loops, to the bit, and the statistics are theirs and always the same bits.
// Bank conflicts are counted.
#include "../sanitizer.h"
#include "mbconv_problem.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

using namespace check::mbconv_problem;

struct Pass {
    MbconvPass which;
    const char* name;
    unsigned small_rows;  // of a unit of small maps, at most
};

constexpr Pass kPasses[] = {
    {MbconvPass::kExpanded, "expanded", 64}, {MbconvPass::kFiltered, "filtered", 64}, {MbconvPass::kProjected, "projected", 16}};

// What a problem is to a pass.
struct Subject {
    const Problem& q;
    const Operands& o;
    const Pass& pass;
    check::Format format;
    unsigned batch_images, side, pixels, channels, unit_images, unit_lines;

    Subject(const Problem& problem, const Operands& operands, const Pass& which, check::Format of, unsigned images)
        : q(problem), o(operands), pass(which), format(of), batch_images(images) {
        const bool expanded = pass.which == MbconvPass::kExpanded, projected = pass.which == MbconvPass::kProjected;
        side = expanded ? o.p.side_in : o.p.side_out, pixels = side * side;
        unit_lines = std::min(256 / side, side);
        channels = projected ? q.cout : q.mid;
        unit_images = 1;
        while (unit_images < 32 && 2 * unit_images * pixels <= pass.small_rows) unit_images *= 2;
    }

    unsigned batches() const { return q.images / batch_images; }
    unsigned units() const {
        return pixels < 64 ? ceil_div(batch_images, unit_images) : batch_images * ceil_div(side, unit_lines);
    }
    // Rows of a batch before so many units of it.
    unsigned rows_before(unsigned unit) const {
        if (pixels < 64) return std::min(unit * unit_images, batch_images) * pixels;
        const unsigned an_image = ceil_div(side, unit_lines);
        return unit / an_image * pixels + std::min(unit % an_image * unit_lines, side) * side;
    }

    MbconvParams params() const {
        MbconvParams p = o.p;
        if (pass.which != MbconvPass::kProjected) p.cout = p.hidden = p.weight_mid = p.se_channels = p.se_hidden = 0;
        if (pass.which == MbconvPass::kExpanded) {
            p.kernel = p.stride = 1, p.side_out = p.side_in, p.weight_channels = 0;
        }
        return p;
    }

    MbconvArgs arguments(uint16_t* y) const {
        MbconvArgs a = {};
        a.p = params(), a.x = o.x.data();
        if (q.expands()) a.expand = o.expand.data();
        if (pass.which == MbconvPass::kExpanded) return a;
        if (q.expands()) a.expand_scale = o.expand_scale.data(), a.expand_shift = o.expand_shift.data();
        a.filter = o.filter.data();
        if (pass.which == MbconvPass::kFiltered) return a;
        a.filter_scale = o.filter_scale.data(), a.filter_shift = o.filter_shift.data();
        if (q.hidden != 0) a.reduce = o.reduce.data(), a.reduce_bias = o.reduce_bias.data();
        if (q.hidden != 0) a.excite = o.excite.data(), a.excite_bias = o.excite_bias.data();
        a.project = o.project.data(), a.y = y;
        return a;
    }
};

// Mean and M2 of every unit against those of the rows in f64.
void check_statistics(const Subject& s, const Floats& partials, const char* kernel) {
    const Floats& raw = s.o.raw[static_cast<int>(s.pass.which) - 1];
    const unsigned units = s.units();
    for (unsigned i = 0; i < s.batches() * units * s.channels; ++i) {
        const unsigned c = i % s.channels, at = i / s.channels, batch = at / units, unit = at % units;
        const unsigned first = s.rows_before(unit), end = s.rows_before(unit + 1);
        const float* rows = &raw[(batch * s.batch_images * s.pixels + first) * s.channels + c];
        double sum = 0.0, squares = 0.0;
        for (unsigned row = 0; row < end - first; ++row) sum += rows[row * s.channels];
        const double mean = sum / (end - first);
        for (unsigned row = 0; row < end - first; ++row) {
            squares += (rows[row * s.channels] - mean) * (rows[row * s.channels] - mean);
        }
        const double found_mean = partials[2 * at * s.channels + c], found = partials[(2 * at + 1) * s.channels + c];
        const double spread = std::sqrt(squares / (end - first));
        check::expect(std::abs(found_mean - mean) <= 1e-6 * (std::abs(mean) + spread), "%s: mean %g, not %g", kernel,
                      found_mean, mean);
        // Deviations are taken from a row that may itself be far from the mean.
        const double off = std::abs(rows[0] - mean) + spread;
        check::expect(std::abs(found - squares) <= 1e-6 * (end - first) * off * off, "%s: squares %g, not %g", kernel, found,
                      squares);
    }
}

// Returns the statistics.
Floats check_layout(const Subject& s, const Layout& layout, natv2_emulator_bank_counts* counts) {
    const std::string filter = "_" + std::to_string(s.q.kernel) + "_" + std::to_string(s.q.stride);
    const std::string name = s.pass.name + (s.pass.which == MbconvPass::kExpanded ? "" : filter);
    const std::string kernel = check::in_format("mbconv_" + name, s.format);
    const bool projects = s.pass.which == MbconvPass::kProjected;
    // Twice, the second time with the first batch alone: one row of the grid is shorter. Both leave the same bits.
    std::vector<uint16_t> y[2];
    Floats partials[2];
    MbconvPassGroup group = {};
    for (int i = 0; i < 2; ++i) {
        const unsigned batches = i == 0 ? s.batches() : 1;
        partials[i].assign(batches * s.units() * 2 * s.channels, NAN);
        y[i].assign(projects ? batches * s.batch_images * s.pixels * s.channels : 0, 0x7fa1);
        group.calls[i].whole = {s.arguments(projects ? y[i].data() : nullptr), layout.c};
        group.calls[i].whole.a.p.images = batches * s.batch_images;
        group.calls[i].partials = partials[i].data(), group.calls[i].batch_images = s.batch_images;
    }
    check::options().bank_counts = counts;
    const unsigned blocks = s.batches() * ceil_div(s.batch_images, layout.c.images) * layout.c.bands;
    check::launch(kernel.c_str(), {blocks, 2}, {kMbconvThreads}, layout.shared_bytes, group);
    check::options().bank_counts = nullptr;
    check::expect(std::memcmp(partials[0].data(), partials[1].data(), 4 * partials[1].size()) == 0, "%s: rows differ",
                  kernel.c_str());
    check::expect(std::equal(y[1].begin(), y[1].end(), y[0].begin()), "%s: rows differ", kernel.c_str());
    check_statistics(s, partials[0], kernel.c_str());
    for (unsigned i = 0; i < y[0].size(); ++i) {
        const bool same = check::same_number(y[0][i], s.o.wanted[i]);
        check::expect(same, "%s, %u images, slices of %u: element %u is %04x, not %04x", kernel.c_str(), layout.c.images,
                      layout.c.slice, i, y[0][i], s.o.wanted[i]);
    }
    return partials[0];
}

struct Batches {
    unsigned batch_images;
    Problem q;
};

const Batches kProblems[] = {
    {3, {6, 1, 3, 1, 8, 8, 8, 0, false}},       // one pixel, one chunk, less than a unit
    {5, {10, 4, 5, 1, 24, 72, 40, 24, false}},  // tails of channels, of images and of units
    {1, {2, 8, 7, 2, 16, 96, 24, 0, false}},    // a stride; units of an image before it and of a batch behind
    {2, {4, 8, 3, 1, 0, 16, 16, 0, false}},     // no expansion
    {1, {2, 17, 3, 1, 24, 40, 24, 0, false}},   // units of a part of an image, and bands of one and of two
    {2, {2, 26, 5, 1, 16, 24, 24, 0, false}},
    {11, {11, 2, 7, 1, 40, 136, 104, 40, false}},
};

}  // namespace

NAT_CHECK(mbconv_passes_are_exact_on_whole_numbers_however_they_are_cut) {
    const bool show = std::getenv("NATV2_SHOW_BANKS") != nullptr;
    for (const check::Format format : check::kHalfFormats) {
        for (const auto& [batch_images, q] : kProblems) {
            const Operands operands(q, format, batch_images);
            for (const Pass& pass : kPasses) {
                if (pass.which == MbconvPass::kExpanded && !q.expands()) continue;
                const Subject subject(q, operands, pass, format, batch_images);
                const MbconvParams p = subject.params();
                Floats first;
                // Images, and units of a band.
                for (const auto& [images, units] : {std::pair{1u, 0u}, {4u, 0u}, {16u, 0u}, {32u, 0u}, {1u, 1u}, {1u, 2u}}) {
                    if (images % subject.unit_images != 0 && images < batch_images) continue;
                    if (images >= 4 * batch_images) continue;
                    const unsigned band_rows = units * subject.unit_lines;
                    const bool whole = p.hidden != 0 || subject.pixels < 64 || band_rows >= subject.side;
                    if (units != 0 && whole) continue;
                    for (const unsigned slice : {16u, 32u, 64u}) {
                        // ThreadSanitizer takes minutes for all.
                        if (nat_emulator::kThreadSanitizer && (format != check::Format::kF16 || slice == 32)) continue;
                        const unsigned tiles = images == 1 ? 2 : images == 4 ? 4 : 6;
                        const Layout layout(q, p, images, slice, tiles, pass.which, band_rows);
                        if (layout.shared_bytes > nat_emulator::kMaxSharedBytes) continue;
                        natv2_emulator_bank_counts counts = {};
                        const Floats found = check_layout(subject, layout, &counts);
                        if (first.empty()) first = found;
                        check::expect(found.size() == first.size() &&
                                          std::memcmp(found.data(), first.data(), 4 * first.size()) == 0,
                                      "%s: statistics of another cut differ", pass.name);
                        check::expect(counts.conflicts[0] == 0, "bank conflicts of ldmatrix");
                        const unsigned share = slice == 64 ? 8 : slice == 32 ? 6 : 2;
                        for (const int kind : {1, 2}) {
                            if (counts.turns[kind] < 50) continue;  // one pixel: copies of two kinds in a turn
                            // A map of two chunks a pixel comes once, in rows that are made for more.
                            if (kind == 1 && q.cin == 0) continue;
                            check::expect(share * counts.conflicts[kind] <= counts.turns[kind],
                                          "%s, slices of %u: %llu bank conflicts in %llu turns of kind %d", pass.name, slice,
                                          static_cast<unsigned long long>(counts.conflicts[kind]),
                                          static_cast<unsigned long long>(counts.turns[kind]), kind);
                        }
                        if (!show) continue;
                        std::printf("%s %u/%u k%u %u->%u->%u: %u images, %u bands, slice %u:", pass.name, q.side, q.stride, q.kernel,
                                    q.cin, q.mid, q.cout, images, layout.c.bands, slice);
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
}
