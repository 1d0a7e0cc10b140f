// Element-wise kernels on f32: fill, and sums of up to four arrays.
//
// Sizes are counts of float4 (16 bytes), since every channel count is a multiple of 8. One thread
// handles one float4, so a warp moves 512 consecutive bytes an access.
//
//   kernel       computes                      bytes       FLOPs
//   fill_f32     y[i] = value                  4 n         0
//   sum_f32      y[i] = a[i] + b[i] (+ c + d)  4 n (k + 1) n (k - 1)   for k arrays, n elements
#include "nat_common.cuh"

constexpr int kElementwiseThreads = 256;

struct FillParams {
    float4* y;
    unsigned quads;  // n / 4
    float value;
};
NAT_LAYOUT(FillParams, y, quads, value);

NAT_KERNEL_BOUNDED(fill_f32, kElementwiseThreads, FillParams p) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.quads) p.y[i] = make_float4(p.value, p.value, p.value, p.value);
}

// y may be one of the inputs. c, and d with it, may be null.
struct SumParams {
    const float4* a;
    const float4* b;
    const float4* c;
    const float4* d;
    float4* y;
    unsigned quads;  // n / 4
};
NAT_LAYOUT(SumParams, a, b, c, d, y, quads);

NAT_KERNEL_BOUNDED(sum_f32, kElementwiseThreads, SumParams p) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.quads) return;
    Quad sum = p.a[i] + p.b[i];
    if (p.c != nullptr) sum = sum + p.c[i];
    if (p.d != nullptr) sum = sum + p.d[i];
    p.y[i] = sum;
}
