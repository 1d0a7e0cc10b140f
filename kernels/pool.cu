// Pooling: the mean over an image, and the 2x2 maximum in ceil mode.
//
//   kernel       y                                                 bytes                       FLOPs
//   global_pool  y[i, c] = mean over pixels of x[i, :, :, c]       4 channels images (pixels + 1)     channels images pixels
//   max_pool     y[i, oy, ox, c] = max of x[i, 2 oy.., 2 ox.., c]  4 channels images (in^2 + out^2)   as many
//
// A thread makes a quad of channels; neighbouring threads have neighbouring quads, so every access of a warp
// is to consecutive bytes. Pixels are added in order.
#include "nat_common.cuh"

struct PoolParams {
    unsigned images, side_in, side_out, channels;
};
NAT_LAYOUT(PoolParams, images, side_in, side_out, channels);

struct PoolArgs {
    const float* x;
    float* y;
    PoolParams p;
};
NAT_LAYOUT(PoolArgs, x, y, p);

constexpr unsigned kPoolThreads = 128;

NAT_KERNEL_BOUNDED(global_pool_f32, kPoolThreads, PoolArgs a) {
    const PoolParams& p = a.p;
    const unsigned quads = p.channels / 4, pixels = p.side_in * p.side_in;
    const unsigned i = blockIdx.x * kPoolThreads + threadIdx.x;
    if (i >= p.images * quads) return;
    const size_t image = i / quads;
    const float* x = a.x + image * pixels * p.channels + i % quads * 4;
    Quad sum = splat(0.0f);
    for (unsigned pixel = 0; pixel < pixels; ++pixel) sum = sum + load_quad(x + pixel * p.channels);
    const float count = static_cast<float>(pixels);
    store_quad(a.y + 4 * static_cast<size_t>(i), make_float4(sum.x / count, sum.y / count, sum.z / count, sum.w / count));
}

NAT_KERNEL_BOUNDED(max_pool_f32, kPoolThreads, PoolArgs a) {
    const PoolParams& p = a.p;
    const unsigned quads = p.channels / 4, pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPoolThreads + threadIdx.x;
    if (i >= p.images * pixels * quads) return;
    const unsigned pixel = i / quads % pixels;
    const size_t image = i / quads / pixels;
    const unsigned iy = pixel / p.side_out * 2, ix = pixel % p.side_out * 2;
    const float* x = a.x + ((image * p.side_in + iy) * p.side_in + ix) * p.channels + i % quads * 4;
    const bool right = ix + 1 < p.side_in, below = iy + 1 < p.side_in;
    const unsigned row = p.side_in * p.channels;
    Quad best = load_quad(x);
    if (right) best = max_quad(best, load_quad(x + p.channels));
    if (below) best = max_quad(best, load_quad(x + row));
    if (right && below) best = max_quad(best, load_quad(x + row + p.channels));
    store_quad(a.y + 4 * static_cast<size_t>(i), best);
}
