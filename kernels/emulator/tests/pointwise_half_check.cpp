// Checks of pointwise_half.cu: all tiles in both formats on small shapes with whole numbers, where every
// result is exact, and their bank conflicts. Accuracy over many shapes is what tests/device/ops/half.rs checks.
#include "check.h"

#include "formats.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace {

using check::Format;
using Halves = std::vector<uint16_t>;
using Floats = std::vector<float>;

struct Args {
    const uint16_t *x, *w;
    const float *scale, *shift, *gate;
    const uint16_t* residual;
    void* y;
    unsigned images, side_in, side_out, cin, cout, weight_cin, stride, activation, output, pooled, format;
};

struct Tile {
    const char* kernel;
    unsigned rows, columns, threads;
    bool pooled;
};

const Tile kTiles[] = {
    {"pointwise_half_wide", 128, 64, 128, false},
    {"pointwise_half_mid", 128, 32, 128, false},
    {"pointwise_half_thin", 128, 16, 128, false},
    {"pointwise_half_small", 32, 32, 64, false},
    {"pointwise_half_pool", 128, 64, 128, true},
    {"pointwise_half_pool_small", 32, 64, 64, true},
};

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

struct Problem {
    unsigned images, side, stride, cin, cout;
    bool all;  // gate, batch norm, ReLU and residual
};

// Runs a kernel, to y of the format or of f32, checks every result, and returns its bank conflicts.
natv2_emulator_bank_counts check_tile(const std::string& kernel, const Tile& tile, Format format, bool single,
                                      const Problem& p) {
    check::Numbers numbers(p.cin + p.cout);
    const unsigned out = ceil_div(p.side, p.stride), rows = p.images * out * out, stored = p.cin + 8;
    // Sums of up to 40 products of these are whole numbers below 256: exact in both formats.
    const Floats x = numbers.floats(p.images * p.side * p.side * p.cin, -1, 1), w = numbers.floats(p.cout * stored, -1, 1);
    const Floats gate = numbers.floats(p.images * p.cin, 0, 2), residual = numbers.floats(rows * p.cout);
    const Floats scale = numbers.floats(p.cout, 1, 2), shift = numbers.floats(p.cout);
    const Halves x_bits = check::pack(format, x), w_bits = check::pack(format, w), residual_bits = check::pack(format, residual);
    Floats wanted(rows * p.cout);
    for (unsigned m = 0; m < rows; ++m) {
        const unsigned image = m / (out * out), oy = m / out % out * p.stride, ox = m % out * p.stride;
        for (unsigned n = 0; n < p.cout; ++n) {
            float sum = 0.0f;
            for (unsigned k = 0; k < p.cin; ++k) {
                sum += x[((image * p.side + oy) * p.side + ox) * p.cin + k] * (p.all ? gate[image * p.cin + k] : 1.0f) *
                       w[n * stored + k];
            }
            const float scaled = sum * scale[n] + shift[n];
            wanted[m * p.cout + n] = p.all ? (scaled > 0.0f ? scaled : 0.0f) + residual[m * p.cout + n] : sum;
        }
    }
    if (tile.pooled) {
        // Sums of whole numbers, and one division.
        Floats means(p.images * p.cout);
        for (unsigned i = 0; i < rows * p.cout; ++i) means[i / (out * out * p.cout) * p.cout + i % p.cout] += wanted[i];
        for (float& mean : means) mean /= static_cast<float>(out * out);
        wanted = means;
    }
    // What is found is compared by its bits, of 16 or of 32.
    const Halves wanted_bits = check::pack(format, wanted);
    Halves y(wanted.size(), 0x7fa1);
    Floats y_single(wanted.size(), std::nanf(""));
    void* const to = single ? static_cast<void*>(y_single.data()) : y.data();
    const Args args = {x_bits.data(),
                       w_bits.data(),
                       p.all ? scale.data() : nullptr,
                       p.all ? shift.data() : nullptr,
                       p.all ? gate.data() : nullptr,
                       p.all ? residual_bits.data() : nullptr,
                       to,
                       p.images,
                       p.side,
                       out,
                       p.cin,
                       p.cout,
                       stored,
                       p.stride,
                       p.all ? 1u : 0u,
                       single ? 0u : check::number(format),
                       tile.pooled,
                       check::number(format)};
    natv2_emulator_bank_counts counts = {};
    const unsigned images = std::max(1u, tile.rows / (out * out));  // of a tile of whole ones
    const unsigned down = tile.pooled ? ceil_div(p.images, images) : ceil_div(rows, tile.rows);
    check::options().bank_counts = &counts;
    check::launch(kernel.c_str(), {down * ceil_div(p.cout, tile.columns)}, {tile.threads}, 0, args);
    check::options().bank_counts = nullptr;
    for (unsigned i = 0; i < wanted.size(); ++i) {
        const bool same = check::same_number(y[i], wanted_bits[i]);
        if (single) {
            check::expect(y_single[i] == wanted[i], "%s: element %u is %g, not %g", kernel.c_str(), i, y_single[i],
                          wanted[i]);
        } else {
            check::expect(same, "%s: element %u is %04x, not %04x", kernel.c_str(), i, y[i], wanted_bits[i]);
        }
    }
    return counts;
}

const Problem kProblems[] = {
    {1, 1, 1, 8, 8, false},    // one row, one chunk
    {3, 5, 1, 40, 72, true},   // tails everywhere, more than one tile across
    {2, 9, 2, 24, 16, true},   // a stride, two tiles down
    {33, 2, 1, 16, 24, true},  // many images in a tile
    {2, 13, 1, 8, 16, true},   // an image that takes two tiles, or six
};

}  // namespace

NAT_CHECK(pointwise_half_is_exact_on_whole_numbers_without_bank_conflicts) {
    for (const Tile& tile : kTiles) {
        for (const Format format : check::kHalfFormats) {
            const std::string kernel = check::in_format(tile.kernel, format);
            for (const Problem& problem : kProblems) {
                check_tile(kernel, tile, format, true, problem);
                const natv2_emulator_bank_counts counts = check_tile(kernel, tile, format, false, problem);
                for (int kind = 0; kind < 3; ++kind) {
                    check::expect(counts.turns[kind] > 0, "%s: no access of kind %d was seen", kernel.c_str(), kind);
                    check::expect(counts.conflicts[kind] == 0, "%s: %llu bank conflicts in %llu turns of kind %d",
                                  kernel.c_str(), static_cast<unsigned long long>(counts.conflicts[kind]),
                                  static_cast<unsigned long long>(counts.turns[kind]), kind);
                }
            }
        }
    }
}

NAT_CHECK(without_the_turn_of_rows_ldmatrix_has_bank_conflicts) {
    const Tile tile = kTiles[3];
    for (const Problem& problem : kProblems) {
        const natv2_emulator_bank_counts counts =
            check_tile("sample_pointwise_half_unswizzled", tile, Format::kF16, false, problem);
        // Four of the eight rows of every matrix lie on the same banks; a turn takes four passes.
        check::expect(counts.conflicts[0] == 3 * counts.turns[0] && counts.turns[0] > 0,
                      "%llu bank conflicts in %llu turns of ldmatrix", static_cast<unsigned long long>(counts.conflicts[0]),
                      static_cast<unsigned long long>(counts.turns[0]));
        check::expect(counts.conflicts[1] == 0, "cp.async writes whole rows either way");
    }
}

NAT_CHECK(bank_conflicts_are_those_of_the_model) {
    alignas(128) static float memory[32 * 32];
    const auto conflicts = [](unsigned stride, unsigned count, unsigned bytes) {
        const void* addresses[32];
        for (unsigned lane = 0; lane < count; ++lane) addresses[lane] = memory + lane * stride;
        return nat_emulator::conflicts_of_turn(addresses, count, bytes);
    };
    check::expect(conflicts(1, 32, 4) == 0, "neighbours");
    check::expect(conflicts(0, 32, 4) == 0, "one word for all");
    check::expect(conflicts(2, 32, 4) == 1, "every other word");
    check::expect(conflicts(32, 32, 4) == 31, "one bank");
    check::expect(conflicts(2, 16, 8) == 0, "neighbouring pairs");
    check::expect(conflicts(4, 8, 16) == 0, "neighbouring quads");
    check::expect(conflicts(16, 8, 16) == 3, "quads 64 bytes apart");
    check::expect(conflicts(20, 8, 16) == 0, "quads 80 bytes apart");
}
