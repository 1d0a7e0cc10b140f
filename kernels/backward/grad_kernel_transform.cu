// The gradient of the kernel transform, y[t, c] = sum_u matrix[t, u] centre(x)[u, c], for taps = to * to.
//
//   kernel                        computes                                       FLOPs
//   kernel_transform_input_f32    centre(dx)[u, c] += sum_t matrix[t, u] dy[t, c]  2 taps^2 channels
//   kernel_transform_matrix_f32   dmatrix[t, u] += sum_c dy[t, c] centre(x)[u, c]  2 taps^2 channels
//
// bytes of both: 4 taps (4 channels + 3 taps)
//
// For the filter a thread makes a quad of channels of one tap. For the matrix a block makes one element: its
// threads take a quad of channels each, and meet in shared memory in a tree of fixed shape. Once a layer and
// step, over all stored channels, for all layers together.
#include "nat_common.cuh"

struct KernelTransformGradParams {
    unsigned channels, from, to;
};
NAT_LAYOUT(KernelTransformGradParams, channels, from, to);

struct KernelTransformGradArgs {
    const float* x;
    const float* matrix;
    const float* dy;
    float* dx;
    float* dmatrix;
    KernelTransformGradParams p;
};
NAT_LAYOUT(KernelTransformGradArgs, x, matrix, dy, dx, dmatrix, p);

// The row of the larger filter that tap `u` of its centre is.
__device__ __forceinline__ unsigned centre_row(const KernelTransformGradParams& p, unsigned u) {
    const unsigned border = (p.from - p.to) / 2;
    return (u / p.to + border) * p.from + u % p.to + border;
}

constexpr unsigned kTransformInputThreads = 128;
constexpr unsigned kTransforms = 64;  // of a launch, a row of the grid each

struct KernelTransformGradGroup {
    KernelTransformGradArgs calls[kTransforms];
};
NAT_LAYOUT(KernelTransformGradGroup, calls);

NAT_KERNEL_BOUNDED(kernel_transform_input_f32, kTransformInputThreads, KernelTransformGradGroup all) {
    const KernelTransformGradArgs& a = all.calls[blockIdx.y];
    const KernelTransformGradParams& p = a.p;
    const unsigned quads = p.channels / 4, taps = p.to * p.to;
    const unsigned i = blockIdx.x * kTransformInputThreads + threadIdx.x;
    if (i >= taps * quads) return;
    const unsigned u = i / quads, c = i % quads * 4;
    Quad sum = splat(0.0f);
    for (unsigned t = 0; t < taps; ++t) {
        sum = multiply_add(a.matrix[t * taps + u], load_quad(a.dy + t * p.channels + c), sum);
    }
    float* dx = a.dx + centre_row(p, u) * p.channels + c;
    store_quad(dx, load_quad(dx) + sum);
}

constexpr unsigned kTransformMatrixThreads = 64;

NAT_KERNEL_BOUNDED(kernel_transform_matrix_f32, kTransformMatrixThreads, KernelTransformGradGroup all) {
    NAT_SHARED(float, sums, kTransformMatrixThreads);
    const KernelTransformGradArgs& a = all.calls[blockIdx.y];
    const KernelTransformGradParams& p = a.p;
    const unsigned taps = p.to * p.to, t = blockIdx.x / taps, u = blockIdx.x % taps;
    if (t >= taps) return;
    const float* dy = a.dy + t * p.channels;
    const float* x = a.x + centre_row(p, u) * p.channels;
    Quad sum = splat(0.0f);
    for (unsigned c = threadIdx.x * 4; c < p.channels; c += kTransformMatrixThreads * 4) {
        sum = multiply_add(load_quad(dy + c), load_quad(x + c), sum);
    }
    sums[threadIdx.x] = (sum.x + sum.y) + (sum.z + sum.w);
    for (unsigned half = kTransformMatrixThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) a.dmatrix[blockIdx.x] += sums[0];
}
