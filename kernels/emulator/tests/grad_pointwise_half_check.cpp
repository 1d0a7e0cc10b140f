// Checks of grad_pointwise_half.cu and half_rows.cu: both tiles in both formats on small shapes with whole
// numbers, where every sum is exact, and their bank conflicts. Accuracy over many shapes is what
// tests/device/ops/half.rs checks.
#include "check.h"

#include "../half.h"

#include <string>

namespace {

using Halves = std::vector<uint16_t>;
using Floats = std::vector<float>;

struct Args {
    const uint16_t *x, *dz;
    const float* gate;
    float *partials, *dw;
    unsigned images, side_in, side_out, cin, cout, weight_cin, stride, activation, format;
};

struct Tile {
    const char* kernel;
    unsigned side, threads;
};

const Tile kTiles[] = {{"pointwise_half_weights_wide", 64, 128}, {"pointwise_half_weights_small", 32, 64}};

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

size_t panelled(unsigned stored, unsigned n, unsigned k) { return (static_cast<size_t>(n) / 16 * stored + k) * 16 + n % 16; }

uint16_t bits(float value, bool bf16) {
    return bf16 ? nat_emulator::float_to_bfloat16_bits(value) : nat_emulator::float_to_half_bits(value);
}

Halves halves(const Floats& values, bool bf16) {
    Halves all;
    for (const float value : values) all.push_back(bits(value, bf16));
    return all;
}

struct Problem {
    unsigned images, side, stride, cin, cout;
    bool gated;
};

// Runs a kernel, checks every sum, and returns its bank conflicts. Sums of several blocks stay apart.
natv2_emulator_bank_counts check_tile(const std::string& kernel, const Tile& tile, bool bf16, const Problem& p) {
    check::Numbers numbers(p.cin + p.cout);
    const unsigned out = ceil_div(p.side, p.stride), rows = p.images * out * out, stored = p.cin + 8;
    const unsigned row_blocks = ceil_div(rows, 512), cout = ceil_div(p.cout, 16) * 16;
    // Sums of up to 512 products of these are whole numbers that f32 has.
    const Floats x = numbers.floats(p.images * p.side * p.side * p.cin), dz = numbers.floats(rows * p.cout);
    const Floats gate = numbers.floats(p.images * p.cin, 0, 2);
    Floats dw(cout * stored, 100.0f), partials(row_blocks * cout * p.cin, 200.0f);
    const bool single = row_blocks == 1;
    Floats wanted_dw = dw, wanted_partials = partials;
    for (unsigned block = 0; block < row_blocks; ++block) {
        for (unsigned n = 0; n < p.cout; ++n) {
            for (unsigned k = 0; k < p.cin; ++k) {
                float sum = 0.0f;
                for (unsigned m = 512 * block; m < rows && m < 512 * (block + 1); ++m) {
                    const unsigned image = m / (out * out), iy = m / out % out * p.stride, ix = m % out * p.stride;
                    sum += dz[m * p.cout + n] * x[((image * p.side + iy) * p.side + ix) * p.cin + k] *
                           (p.gated ? gate[image * p.cin + k] : 1.0f);
                }
                if (single) {
                    wanted_dw[panelled(stored, n, k)] += sum;
                } else {
                    wanted_partials[block * cout * p.cin + panelled(p.cin, n, k)] = sum;
                }
            }
        }
    }
    const Halves x_bits = halves(x, bf16), dz_bits = halves(dz, bf16);
    const Args args = {x_bits.data(), dz_bits.data(), p.gated ? gate.data() : nullptr, partials.data(), dw.data(),
                       p.images,      p.side,         out,   p.cin,   p.cout,          stored,          p.stride,
                       0,             bf16 ? 2u : 1u};
    natv2_emulator_bank_counts counts = {};
    const unsigned blocks = row_blocks * ceil_div(p.cin, tile.side) * ceil_div(p.cout, tile.side);
    check::options().bank_counts = &counts;
    check::launch(kernel.c_str(), {blocks}, {tile.threads}, 0, args);
    check::options().bank_counts = nullptr;
    check::expect(dw == wanted_dw, "%s: %u to %u: a gradient differs", kernel.c_str(), p.cin, p.cout);
    check::expect(partials == wanted_partials, "%s: %u to %u: a partial sum differs", kernel.c_str(), p.cin, p.cout);
    return counts;
}

const Problem kProblems[] = {
    {1, 1, 1, 8, 8, false},    // one row, one chunk
    {3, 5, 1, 40, 72, true},   // tails everywhere, more than one tile across
    {2, 9, 2, 24, 16, true},   // a stride
    {3, 14, 1, 16, 104, true},  // two blocks of rows, warps without channels
};

void expect_none(const natv2_emulator_bank_counts& counts, int kind, const std::string& kernel) {
    check::expect(counts.turns[kind] > 0, "%s: no access of kind %d was seen", kernel.c_str(), kind);
    check::expect(counts.conflicts[kind] == 0, "%s: %llu bank conflicts in %llu turns of kind %d", kernel.c_str(),
                  static_cast<unsigned long long>(counts.conflicts[kind]),
                  static_cast<unsigned long long>(counts.turns[kind]), kind);
}

}  // namespace

NAT_CHECK(pointwise_half_weights_are_exact_on_whole_numbers_without_bank_conflicts) {
    for (const Tile& tile : kTiles) {
        for (const bool bf16 : {false, true}) {
            const std::string kernel = std::string(tile.kernel) + (bf16 ? "_bf16" : "_f16");
            for (const Problem& problem : kProblems) {
                const natv2_emulator_bank_counts counts = check_tile(kernel, tile, bf16, problem);
                for (int kind = 0; kind < (problem.gated ? 3 : 2); ++kind) expect_none(counts, kind, kernel);
            }
        }
    }
}

NAT_CHECK(without_the_turn_of_rows_transposed_ldmatrix_has_bank_conflicts) {
    for (const Problem& problem : kProblems) {
        const natv2_emulator_bank_counts counts =
            check_tile("sample_pointwise_half_weights_unswizzled", kTiles[1], false, problem);
        check::expect(counts.conflicts[0] == 3 * counts.turns[0] && counts.turns[0] > 0,
                      "%llu bank conflicts in %llu turns of ldmatrix", static_cast<unsigned long long>(counts.conflicts[0]),
                      static_cast<unsigned long long>(counts.turns[0]));
    }
}

NAT_CHECK(half_rows_are_exact_without_bank_conflicts) {
    struct Job {
        const float* w;
        uint16_t *rows, *transposed;
        unsigned cout, cin;
    };
    struct Jobs {
        Job jobs[128];
    };
    for (const bool bf16 : {false, true}) {
        const std::string kernel = std::string("half_rows") + (bf16 ? "_bf16" : "_f16");
        const unsigned shapes[][2] = {{8, 8}, {40, 136}, {72, 64}};  // cout, cin
        std::vector<Floats> panels;
        std::vector<Halves> rows, transposed;
        unsigned blocks = 0;
        for (const auto& [cout, cin] : shapes) {
            check::Numbers numbers(cout + cin);
            panels.push_back(numbers.floats(ceil_div(cout, 16) * 16 * cin, -100, 100));
            rows.emplace_back(cout * cin, 0x7fa1);
            transposed.emplace_back(cout * cin, 0x7fa1);
            blocks = std::max(blocks, ceil_div(cout, 16) * ceil_div(cin, 64));
        }
        Jobs jobs = {};
        for (unsigned i = 0; i < 3; ++i) {
            jobs.jobs[i] = {panels[i].data(), rows[i].data(), i == 0 ? nullptr : transposed[i].data(), shapes[i][0],
                            shapes[i][1]};
        }
        natv2_emulator_bank_counts counts = {};
        check::options().bank_counts = &counts;
        check::launch(kernel.c_str(), {blocks, 3}, {128}, 0, jobs);
        check::options().bank_counts = nullptr;
        for (unsigned i = 0; i < 3; ++i) {
            const auto& [cout, cin] = shapes[i];
            for (unsigned n = 0; n < cout; ++n) {
                for (unsigned k = 0; k < cin; ++k) {
                    const uint16_t wanted = bits(panels[i][panelled(cin, n, k)], bf16);
                    check::expect(rows[i][n * cin + k] == wanted, "%s: row %u, %u", kernel.c_str(), n, k);
                    const uint16_t other = transposed[i][k * cout + n];
                    check::expect(other == (i == 0 ? 0x7fa1 : wanted), "%s: transposed %u, %u", kernel.c_str(), k, n);
                }
            }
        }
        expect_none(counts, 2, kernel);
    }
}
