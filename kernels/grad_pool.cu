// Gradients of pooling.
//
//   kernel                dx                                                 bytes                          FLOPs
//   global_pool_grad_f32  dy / pixels, at every pixel                        4 channels images (pixels + 1) channels images pixels
//   max_pool_grad_f32     dy at the first largest pixel of its 2x2 window,   4 channels images (2 in^2 + out^2)   as many
//                         row by row; else 0; plus residual
//
// A thread makes a quad of channels: of an input pixel for the mean, of a window (up to four input pixels, which
// no other window has) for the maximum. So nothing is written twice.
#include "nat_common.cuh"

struct PoolGradParams {
    unsigned images, side_in, side_out, channels, format;
};
NAT_LAYOUT(PoolGradParams, images, side_in, side_out, channels, format);

struct GlobalPoolGradArgs {
    const float* dy;
    float* dx;
    PoolGradParams p;
};
NAT_LAYOUT(GlobalPoolGradArgs, dy, dx, p);

constexpr unsigned kPoolGradThreads = 128;

NAT_KERNEL_BOUNDED(global_pool_grad_f32, kPoolGradThreads, GlobalPoolGradArgs a) {
    const PoolGradParams& p = a.p;
    const unsigned quads = p.channels / 4, pixels = p.side_in * p.side_in;
    const unsigned i = blockIdx.x * kPoolGradThreads + threadIdx.x;
    if (i >= p.images * pixels * quads) return;
    const unsigned image = i / quads / pixels, c = i % quads * 4;
    const Quad dy = load_quad(a.dy + static_cast<size_t>(image) * p.channels + c);
    const float count = static_cast<float>(pixels);
    store_quad(a.dx + 4 * static_cast<size_t>(i), make_float4(dy.x / count, dy.y / count, dy.z / count, dy.w / count));
}

struct MaxPoolGradArgs {
    const float* x;
    const float* dy;
    const float* residual;  // or null
    float* dx;
    PoolGradParams p;
};
NAT_LAYOUT(MaxPoolGradArgs, x, dy, residual, dx, p);

// Which of the pixels seen so far is the first largest, a channel a component.
struct Winner {
    Quad largest;
    uint4 pixel;
};

__device__ __forceinline__ void challenge(float& largest, unsigned& winner, float x, unsigned pixel) {
    if (x > largest) {
        largest = x;
        winner = pixel;
    }
}

__device__ __forceinline__ void challenge(Winner& winner, Quad x, unsigned pixel) {
    challenge(winner.largest.x, winner.pixel.x, x.x, pixel);
    challenge(winner.largest.y, winner.pixel.y, x.y, pixel);
    challenge(winner.largest.z, winner.pixel.z, x.z, pixel);
    challenge(winner.largest.w, winner.pixel.w, x.w, pixel);
}

NAT_KERNEL_BOUNDED(max_pool_grad_f32, kPoolGradThreads, MaxPoolGradArgs a) {
    const PoolGradParams& p = a.p;
    const unsigned quads = p.channels / 4, pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPoolGradThreads + threadIdx.x;
    if (i >= p.images * pixels * quads) return;
    const unsigned window = i / quads % pixels;
    const size_t image = i / quads / pixels;
    const unsigned iy = window / p.side_out * 2, ix = window % p.side_out * 2;
    const size_t first = ((image * p.side_in + iy) * p.side_in + ix) * p.channels + i % quads * 4;
    const bool right = ix + 1 < p.side_in, below = iy + 1 < p.side_in;
    const unsigned row = p.side_in * p.channels;

    Winner winner = {load_quad(a.x + first), make_uint4(0, 0, 0, 0)};
    if (right) challenge(winner, load_quad(a.x + first + p.channels), 1);
    if (below) challenge(winner, load_quad(a.x + first + row), 2);
    if (right && below) challenge(winner, load_quad(a.x + first + row + p.channels), 3);

    const Quad dy = load_quad(a.dy + 4 * static_cast<size_t>(i));
    for (unsigned pixel = 0; pixel < 4; ++pixel) {
        if ((pixel % 2 == 1 && !right) || (pixel / 2 == 1 && !below)) continue;
        const size_t at = first + pixel / 2 * row + pixel % 2 * p.channels;
        Quad dx = make_float4(winner.pixel.x == pixel ? dy.x : 0.0f, winner.pixel.y == pixel ? dy.y : 0.0f,
                              winner.pixel.z == pixel ? dy.z : 0.0f, winner.pixel.w == pixel ? dy.w : 0.0f);
        if (a.residual != nullptr) dx = dx + load_quad(a.residual + at);
        store_quad(a.dx + at, dx);
    }
}
