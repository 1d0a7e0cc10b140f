// Checks of depthwise_half.cu: all kernels in both formats on small shapes with whole numbers, where every result
// is exact, and their bank conflicts. Accuracy over many shapes is what tests/device/ops/formats.rs checks.
#include "check.h"

#include "formats.h"

#include <string>

namespace {

using check::Format;
using Halves = std::vector<uint16_t>;
using Floats = std::vector<float>;

struct Args {
    const uint16_t* x;
    const float *w, *scale, *shift;
    uint16_t* y;
    float* pool;
    unsigned images, side_in, side_out, channels, weight_channels, kernel, stride, activation, format;
    unsigned groups, workers;
};

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

struct Problem {
    unsigned images, side, channels;
    bool pooled;
};

const Problem kProblems[] = {
    {3, 1, 8, true},     // one pixel, many images to a block
    {19, 2, 136, true},  // two columns of chunks, a block that is not full
    {2, 9, 40, true},    // strips with a tail
    {1, 13, 64, false},  // more strips than threads
    {9, 3, 128, true},   // all of a block's threads
};

// Runs a kernel, checks every result, and returns its bank conflicts.
natv2_emulator_bank_counts check_kernel(unsigned k, unsigned stride, Format format, const Problem& p) {
    const std::string kernel =
        check::in_format("depthwise_half_" + std::to_string(k) + "_" + std::to_string(stride), format);
    check::Numbers numbers(k + p.side);
    const unsigned out = ceil_div(p.side, stride), stored = p.channels + 8, outputs = p.images * out * out * p.channels;
    // Sums of up to 49 products of these are whole numbers below 256: exact in both formats.
    const Floats x = numbers.floats(p.images * p.side * p.side * p.channels, -1, 1), w = numbers.floats(k * k * stored, -1, 1);
    const Floats scale = numbers.floats(p.channels, 1, 2), shift = numbers.floats(p.channels);
    Floats wanted(outputs), wanted_pool(p.images * p.channels);
    for (unsigned i = 0; i < outputs; ++i) {
        const unsigned c = i % p.channels, ox = i / p.channels % out, oy = i / p.channels / out % out;
        const unsigned image = i / p.channels / out / out;
        float sum = 0.0f;
        for (unsigned tap = 0; tap < k * k; ++tap) {
            const unsigned iy = oy * stride + tap / k - k / 2, ix = ox * stride + tap % k - k / 2;
            if (iy < p.side && ix < p.side) sum += x[((image * p.side + iy) * p.side + ix) * p.channels + c] * w[tap * stored + c];
        }
        wanted[i] = std::fmax(sum * scale[c] + shift[c], 0.0f);
        wanted_pool[image * p.channels + c] += wanted[i];
    }
    for (float& mean : wanted_pool) mean *= 1.0f / static_cast<float>(out * out);
    const Halves x_bits = check::pack(format, x), wanted_bits = check::pack(format, wanted);
    Halves y(outputs, 0x7fa1);
    Floats pool(wanted_pool.size(), NAN);
    const unsigned chunks = p.channels / 8, columns = ceil_div(chunks, 8), groups = ceil_div(chunks, columns);
    const unsigned threads = 128 / groups, strips = ceil_div(out, 4) * out, workers = strips < threads ? strips : threads;
    const Args args = {x_bits.data(), w.data(),   scale.data(), shift.data(), y.data(), p.pooled ? pool.data() : nullptr,
                       p.images,      p.side,     out,          p.channels,   stored,   k,
                       stride,        1,          check::number(format), groups,     workers};
    natv2_emulator_bank_counts counts = {};
    check::options().bank_counts = &counts;
    check::launch(kernel.c_str(), {columns * ceil_div(p.images, threads / workers)}, {128}, 0, args);
    check::options().bank_counts = nullptr;
    for (unsigned i = 0; i < outputs; ++i) {
        const bool same = check::same_number(y[i], wanted_bits[i]);
        check::expect(same, "%s: element %u is %04x, not %04x", kernel.c_str(), i, y[i], wanted_bits[i]);
    }
    for (unsigned i = 0; p.pooled && i < pool.size(); ++i) {
        check::expect(pool[i] == wanted_pool[i], "%s: mean %u is %g, not %g", kernel.c_str(), i, pool[i], wanted_pool[i]);
    }
    return counts;
}

}  // namespace

NAT_CHECK(depthwise_half_is_exact_on_whole_numbers_without_bank_conflicts) {
    for (const unsigned kernel : {3u, 5u, 7u}) {
        for (const unsigned stride : {1u, 2u}) {
            for (const Format format : check::kHalfFormats) {
                for (const Problem& problem : kProblems) {
                    const natv2_emulator_bank_counts counts = check_kernel(kernel, stride, format, problem);
                    unsigned long long turns = 0, conflicts = 0;
                    for (int kind = 0; kind < 3; ++kind) turns += counts.turns[kind], conflicts += counts.conflicts[kind];
                    check::expect(turns > 0, "no access was seen");
                    // Eight threads that the banks serve at a time have one strip where a block has one or eight
                    // chunks. Else they have two, of which one may leave out rows at the edge of the map: the
                    // counter takes a thread's n-th access for the warp's, which then are of different rows.
                    if (ceil_div(problem.channels / 8, ceil_div(problem.channels / 8, 8)) % 8 > 1) continue;
                    check::expect(conflicts == 0, "depthwise_half %u/%u, %u x %u pixels of %u channels: %llu bank conflicts in %llu turns",
                                  kernel, stride, problem.images, problem.side, problem.channels, conflicts, turns);
                }
            }
        }
    }
}
