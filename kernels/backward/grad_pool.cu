// Gradients of pooling. Maps are f32, f16 or bf16; gradients of means are f32. 16-bit maps: checked on the emulator,
// not yet on a card.
//
//   kernel              dx                                               bytes, s a number                FLOPs
//   global_pool_grad_*  dy / pixels, at every pixel                      channels images (s pixels + 4)   channels images pixels
//   max_pool_grad_*     dy at the first largest pixel of its 2x2 window, s channels images (2 in^2 + out^2)   as many
//                       row by row (NaN is the largest); else 0; plus residual
//
// A thread makes 16 bytes of channels: of an input pixel for the mean, of a window (up to four input pixels, which
// no other window has) for the maximum. So nothing is written twice.
#include "nat_formats.cuh"

struct PoolGradParams {
    unsigned images, side_in, side_out, channels, format;
};
NAT_LAYOUT(PoolGradParams, images, side_in, side_out, channels, format);

struct GlobalPoolGradArgs {
    const float* dy;
    void* dx;
    PoolGradParams p;
};
NAT_LAYOUT(GlobalPoolGradArgs, dy, dx, p);

constexpr unsigned kPoolGradThreads = 128;

template <class T>
__device__ __forceinline__ void global_pool_grad(const GlobalPoolGradArgs& a) {
    const PoolGradParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, pixels = p.side_in * p.side_in;
    const unsigned i = blockIdx.x * kPoolGradThreads + threadIdx.x;
    if (i >= p.images * pixels * chunks) return;
    const unsigned image = i / chunks / pixels, c = i % chunks * kChunk<T>;
    const float* from = a.dy + static_cast<size_t>(image) * p.channels + c;
    const float count = static_cast<float>(pixels);
    Chunk<T> dx;
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad dy = load_quad(from + 4 * q);
        dx.quads[q] = make_float4(dy.x / count, dy.y / count, dy.z / count, dy.w / count);
    }
    store_chunk(static_cast<T*>(a.dx) + kChunk<T> * static_cast<size_t>(i), dx);
}

struct MaxPoolGradArgs {
    const void* x;
    const void* dy;
    const void* residual;  // or null
    void* dx;
    PoolGradParams p;
};
NAT_LAYOUT(MaxPoolGradArgs, x, dy, residual, dx, p);

// Which of the pixels seen so far is the first largest, a channel a component.
template <class T>
struct Winner {
    Chunk<T> largest;
    uint4 pixel[kChunkQuads<T>];
};

__device__ __forceinline__ void challenge(float& largest, unsigned& winner, float x, unsigned pixel) {
    if (x > largest || (x != x && largest == largest)) {
        largest = x;
        winner = pixel;
    }
}

template <class T>
__device__ __forceinline__ void challenge(Winner<T>& winner, const Chunk<T>& x, unsigned pixel) {
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        challenge(winner.largest.quads[q].x, winner.pixel[q].x, x.quads[q].x, pixel);
        challenge(winner.largest.quads[q].y, winner.pixel[q].y, x.quads[q].y, pixel);
        challenge(winner.largest.quads[q].z, winner.pixel[q].z, x.quads[q].z, pixel);
        challenge(winner.largest.quads[q].w, winner.pixel[q].w, x.quads[q].w, pixel);
    }
}

template <class T>
__device__ __forceinline__ void max_pool_grad(const MaxPoolGradArgs& a) {
    const PoolGradParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPoolGradThreads + threadIdx.x;
    if (i >= p.images * pixels * chunks) return;
    const unsigned window = i / chunks % pixels;
    const size_t image = i / chunks / pixels;
    const unsigned iy = window / p.side_out * 2, ix = window % p.side_out * 2;
    const size_t first = ((image * p.side_in + iy) * p.side_in + ix) * p.channels + i % chunks * kChunk<T>;
    const bool right = ix + 1 < p.side_in, below = iy + 1 < p.side_in;
    const unsigned row = p.side_in * p.channels;

    const T* x = static_cast<const T*>(a.x) + first;
    Winner<T> winner = {load_chunk(x), {}};
    if (right) challenge(winner, load_chunk(x + p.channels), 1);
    if (below) challenge(winner, load_chunk(x + row), 2);
    if (right && below) challenge(winner, load_chunk(x + row + p.channels), 3);

    const Chunk<T> dy = load_chunk(static_cast<const T*>(a.dy) + kChunk<T> * static_cast<size_t>(i));
    for (unsigned pixel = 0; pixel < 4; ++pixel) {
        if ((pixel % 2 == 1 && !right) || (pixel / 2 == 1 && !below)) continue;
        const size_t at = first + pixel / 2 * row + pixel % 2 * p.channels;
        Chunk<T> dx;
        NAT_UNROLL
        for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
            const uint4 won = winner.pixel[q];
            const Quad gradient = dy.quads[q];
            dx.quads[q] = make_float4(won.x == pixel ? gradient.x : 0.0f, won.y == pixel ? gradient.y : 0.0f,
                                      won.z == pixel ? gradient.z : 0.0f, won.w == pixel ? gradient.w : 0.0f);
        }
        if (a.residual != nullptr) dx = dx + load_chunk(static_cast<const T*>(a.residual) + at);
        store_chunk(static_cast<T*>(a.dx) + at, dx);
    }
}

#define POOL_GRADIENT_KERNELS(suffix, T)                                                                            \
    NAT_KERNEL_BOUNDED(global_pool_grad_##suffix, kPoolGradThreads, GlobalPoolGradArgs a) { global_pool_grad<T>(a); } \
    NAT_KERNEL_RESIDENT(max_pool_grad_##suffix, kPoolGradThreads, 10, MaxPoolGradArgs a) { max_pool_grad<T>(a); }

NAT_EVERY_FORMAT(POOL_GRADIENT_KERNELS)
