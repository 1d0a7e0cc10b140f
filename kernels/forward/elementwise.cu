// Element-wise kernels: fill, and sums of up to four arrays, in f32, f16 or bf16.
//
// Sizes are counts of 16 bytes, since every channel count is a multiple of 8. One thread handles 16
// bytes, so a warp moves 512 consecutive bytes an access.
//
//   kernel       computes                      bytes       FLOPs
//   fill_f32     y[i] = value                  4 n         0
//   sum_*        y[i] = a[i] + b[i] (+ c + d)  s n (k + 1) n (k - 1)   for k arrays, n numbers of s bytes
//
// 16-bit sums: checked on the emulator, not yet on a card.
#include "nat_formats.cuh"

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

struct SumParams {
    unsigned len, terms, format;
};
NAT_LAYOUT(SumParams, len, terms, format);

// y may be one of the inputs. The third, and the fourth with it, may be null.
struct SumArgs {
    const void* x[4];
    void* y;
    SumParams p;
    unsigned quads;  // of 16 bytes
};
NAT_LAYOUT(SumArgs, x, y, p, quads);

template <class T>
__device__ __forceinline__ void sum(const SumArgs& a) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.quads) return;
    const size_t at = kChunk<T> * static_cast<size_t>(i);
    Chunk<T> total = load_chunk(static_cast<const T*>(a.x[0]) + at) + load_chunk(static_cast<const T*>(a.x[1]) + at);
    if (a.x[2] != nullptr) total = total + load_chunk(static_cast<const T*>(a.x[2]) + at);
    if (a.x[3] != nullptr) total = total + load_chunk(static_cast<const T*>(a.x[3]) + at);
    store_chunk(static_cast<T*>(a.y) + at, total);
}

#define SUM_KERNEL(suffix, T) \
    NAT_KERNEL_BOUNDED(sum_##suffix, kElementwiseThreads, SumArgs a) { sum<T>(a); }

NAT_EVERY_FORMAT(SUM_KERNEL)
