// Smaller depthwise filters from larger ones: the centre of the larger filter, as a vector of taps, times a
// matrix that all channels share.
//
//   y[t, c] = sum_u matrix[t, u] * centre(x)[u, c]
//
// bytes: 4 taps (2 channels + taps)   FLOPs: 2 taps^2 channels, for taps = to * to
//
// A thread makes a quad of channels of one tap. Run once whenever the weights change, not once a network, for all
// layers together.
#include "nat_common.cuh"

struct KernelTransformParams {
    unsigned channels, from, to;
};
NAT_LAYOUT(KernelTransformParams, channels, from, to);

struct KernelTransformArgs {
    const float* x;
    const float* matrix;
    float* y;
    KernelTransformParams p;
};
NAT_LAYOUT(KernelTransformArgs, x, matrix, y, p);

constexpr unsigned kTransformThreads = 128;
constexpr unsigned kTransforms = 64;  // of a launch, a row of the grid each

struct KernelTransformGroup {
    KernelTransformArgs calls[kTransforms];
};
NAT_LAYOUT(KernelTransformGroup, calls);

NAT_KERNEL_BOUNDED(kernel_transform_f32, kTransformThreads, KernelTransformGroup all) {
    const KernelTransformArgs& a = all.calls[blockIdx.y];
    const KernelTransformParams& p = a.p;
    const unsigned quads = p.channels / 4, taps = p.to * p.to, border = (p.from - p.to) / 2;
    const unsigned i = blockIdx.x * kTransformThreads + threadIdx.x;
    if (i >= taps * quads) return;
    const unsigned tap = i / quads, c = i % quads * 4;
    Quad sum = splat(0.0f);
    for (unsigned u = 0; u < taps; ++u) {
        const unsigned centre = (u / p.to + border) * p.from + u % p.to + border;
        sum = multiply_add(a.matrix[tap * taps + u], load_quad(a.x + centre * p.channels + c), sum);
    }
    store_quad(a.y + tap * p.channels + c, sum);
}
