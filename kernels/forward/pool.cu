// Pooling: the mean over an image, and the 2x2 maximum in ceil mode. Maps are f32, f16 or bf16; means are f32.
//
//   kernel         y                                                 bytes, s a number                      FLOPs
//   global_pool_*  y[i, c] = mean over pixels of x[i, :, :, c]       channels images (s pixels + 4)         channels images pixels
//   max_pool_*     y[i, oy, ox, c] = max of x[i, 2 oy.., 2 ox.., c]  s channels images (in^2 + out^2)       as many
//
// A thread makes 16 bytes of channels; neighbouring threads have neighbouring ones, so every access of a warp
// is to consecutive bytes. Pixels are added in order. 16-bit maps: checked on the emulator, not yet on a card.
#include "nat_formats.cuh"

struct PoolParams {
    unsigned images, side_in, side_out, channels, format;
};
NAT_LAYOUT(PoolParams, images, side_in, side_out, channels, format);

struct GlobalPoolArgs {
    const void* x;
    float* y;
    PoolParams p;
};
NAT_LAYOUT(GlobalPoolArgs, x, y, p);

struct MaxPoolArgs {
    const void* x;
    void* y;
    PoolParams p;
};
NAT_LAYOUT(MaxPoolArgs, x, y, p);

constexpr unsigned kPoolThreads = 128;

template <class T>
__device__ __forceinline__ void global_pool(const GlobalPoolArgs& a) {
    const PoolParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, pixels = p.side_in * p.side_in;
    const unsigned i = blockIdx.x * kPoolThreads + threadIdx.x;
    if (i >= p.images * chunks) return;
    const size_t image = i / chunks;
    const T* x = static_cast<const T*>(a.x) + image * pixels * p.channels + i % chunks * kChunk<T>;
    Chunk<T> sum = {};
    for (unsigned pixel = 0; pixel < pixels; ++pixel) sum = sum + load_chunk(x + pixel * p.channels);
    const float count = static_cast<float>(pixels);
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad s = sum.quads[q];
        sum.quads[q] = make_float4(s.x / count, s.y / count, s.z / count, s.w / count);
    }
    store_floats(a.y + kChunk<T> * static_cast<size_t>(i), sum);
}

template <class T>
__device__ __forceinline__ Chunk<T> max_chunk(Chunk<T> a, const Chunk<T>& b) {
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) a.quads[q] = max_quad(a.quads[q], b.quads[q]);
    return a;
}

template <class T>
__device__ __forceinline__ void max_pool(const MaxPoolArgs& a) {
    const PoolParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPoolThreads + threadIdx.x;
    if (i >= p.images * pixels * chunks) return;
    const unsigned pixel = i / chunks % pixels;
    const size_t image = i / chunks / pixels;
    const unsigned iy = pixel / p.side_out * 2, ix = pixel % p.side_out * 2;
    const T* x = static_cast<const T*>(a.x) + ((image * p.side_in + iy) * p.side_in + ix) * p.channels +
                 i % chunks * kChunk<T>;
    const bool right = ix + 1 < p.side_in, below = iy + 1 < p.side_in;
    const unsigned row = p.side_in * p.channels;
    Chunk<T> best = load_chunk(x);
    if (right) best = max_chunk(best, load_chunk(x + p.channels));
    if (below) best = max_chunk(best, load_chunk(x + row));
    if (right && below) best = max_chunk(best, load_chunk(x + row + p.channels));
    store_chunk(static_cast<T*>(a.y) + kChunk<T> * static_cast<size_t>(i), best);
}

#define POOL_KERNELS(suffix, T)                                                                     \
    NAT_KERNEL_BOUNDED(global_pool_##suffix, kPoolThreads, GlobalPoolArgs a) { global_pool<T>(a); } \
    NAT_KERNEL_BOUNDED(max_pool_##suffix, kPoolThreads, MaxPoolArgs a) { max_pool<T>(a); }

NAT_EVERY_FORMAT(POOL_KERNELS)
