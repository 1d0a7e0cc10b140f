// What a card can do at most: the yardsticks of `natv2 bench kernels`.
//
//   kernel     does                                            bytes  FLOPs
//   copy_f32   y[i] = x[i], a quad a thread                    8 n    0
//   peak_f32   8 independent chains of multiply-adds a thread  0      16 rounds threads
#include "nat_common.cuh"

constexpr unsigned kPeakThreads = 256;

struct CopyArgs {
    const Quad* x;
    Quad* y;
    unsigned quads;
};
NAT_LAYOUT(CopyArgs, x, y, quads);

NAT_KERNEL_BOUNDED(copy_f32, kPeakThreads, CopyArgs a) {
    const unsigned i = blockIdx.x * kPeakThreads + threadIdx.x;
    if (i < a.quads) a.y[i] = a.x[i];
}

struct PeakArgs {
    float* y;  // a float a thread
    unsigned rounds;
    float factor, term;
};
NAT_LAYOUT(PeakArgs, y, rounds, factor, term);

NAT_KERNEL_BOUNDED(peak_f32, kPeakThreads, PeakArgs a) {
    const unsigned i = blockIdx.x * kPeakThreads + threadIdx.x;
    float chain[8];
    NAT_UNROLL
    for (int j = 0; j < 8; ++j) chain[j] = static_cast<float>(i + j);
    for (unsigned round = 0; round < a.rounds; ++round) {
        NAT_UNROLL
        for (int j = 0; j < 8; ++j) chain[j] = chain[j] * a.factor + a.term;
    }
    float sum = 0.0f;
    NAT_UNROLL
    for (int j = 0; j < 8; ++j) sum += chain[j];
    a.y[i] = sum;
}
