// What a card can do at most: the yardsticks of `natv2 bench kernels`.
//
//   kernel     does                                            bytes  FLOPs
//   copy_f32   y[i] = x[i], a quad a thread                    8 n    0
//   peak_f32   8 independent chains of multiply-adds a thread  0      16 rounds threads
//   peak_bf16  8 independent chains of products a warp         0      8 rounds 4096 threads / 32
#include "nat_halves.cuh"

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

struct ProductPeakArgs {
    float* y;  // a float a thread
    unsigned rounds;
};
NAT_LAYOUT(ProductPeakArgs, y, rounds);

// Products of 16 x 16 by 16 x 8 whose operands stay in registers, chain j beginning with sums of j. With
// t = k / 2 % 4, A[m][k] = (1 + m % 8) / 16, negative where t is odd, and B[k][n] = (1 + t) (1 + n) / 16, so that a
// round adds -(1 + m % 8) (1 + n) / 32 to every sum: all of it is exact for 2^18 rounds. y is the sum over the chains
// of what a thread has.
NAT_KERNEL_BOUNDED(peak_bf16, kPeakThreads, ProductPeakArgs args) {
    using Format = Halves<__nv_bfloat16>;
    constexpr int kChains = 8;
    const unsigned group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const float left = (t % 2 == 0 ? 1.0f : -1.0f) * (1.0f + group) / 16.0f;
    const float right = (1.0f + t) * (1.0f + group) / 16.0f;
    const unsigned row = Format::pack(left, left), column = Format::pack(right, right);
    const unsigned a[4] = {row, row, row, row}, b[2] = {column, column};
    float sums[kChains][4];
    NAT_UNROLL
    for (int j = 0; j < kChains; ++j) {
        NAT_UNROLL
        for (int i = 0; i < 4; ++i) sums[j][i] = static_cast<float>(j);
    }
    for (unsigned round = 0; round < args.rounds; ++round) {
        NAT_UNROLL
        for (int j = 0; j < kChains; ++j) Format::multiply_add(sums[j], a, b);
    }
    float sum = 0.0f;
    NAT_UNROLL
    for (int j = 0; j < kChains; ++j) sum += sums[j][0] + sums[j][1] + sums[j][2] + sums[j][3];
    args.y[blockIdx.x * kPeakThreads + threadIdx.x] = sum;
}
