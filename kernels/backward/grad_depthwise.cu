// Gradients of the depthwise convolution.
//
//   dx[i, iy, ix, c] = sum over taps and outputs that read it of dz[i, oy, ox, c] * w[ky, kx, c] + residual
//   dw[ky, kx, c] += sum_{i, oy, ox} dz[i, oy, ox, c] * x[i, oy s + ky - k/2, ox s + kx - k/2, c]
//
//   kernel                            computes                         bytes, s a number          FLOPs
//   depthwise_input_<k>_<stride>_*    dx                               s C (outputs + inputs)     2 k^2 C outputs
//   depthwise_weights_<k>_<stride>_*  sums of blocks of images         s C (inputs + outputs)     2 k^2 C outputs
//   depthwise_weights_merge           dw += their sum                  4 k^2 C (blocks + 2)       k^2 C blocks
//
// Maps are f32, f16 or bf16; filters and their gradients are f32. 16-bit maps: checked on the emulator, not yet on
// a card.
//
// The input's gradient gathers, so that nothing is added in memory: a thread makes four neighbours of a row
// for 16 bytes of channels. For each row of the filter that meets a row of outputs it holds the taps in
// registers and reads each output's gradient once for all inputs that it goes to.
//
// The filter's gradient: a block of threads takes 32 channels of some images, at least 128 output pixels
// where there are that many. A thread keeps one row of taps of 16 bytes of channels in registers, and runs along rows of
// outputs: what it reads of x serves up to k outputs, what it reads of dz all k taps. Different rows of taps
// read the same lines, which stay in the L1 cache. Where threads are left, rows of outputs are dealt out to
// them and their sums added in order at the end.
#include "nat_convolutions.cuh"
#include "nat_formats.cuh"
#include "nat_partials.cuh"

struct DepthwiseInputArgs {
    const void* dz;
    const float* w;
    const void* residual;  // or null
    void* dx;
    DepthwiseParams p;
};
NAT_LAYOUT(DepthwiseInputArgs, dz, w, residual, dx, p);

constexpr unsigned kThreads = 128;
constexpr unsigned kInputStrip = 4;  // inputs of a thread

template <class T, int kKernel, int kStride>
__device__ __forceinline__ void depthwise_input(const DepthwiseInputArgs& a) {
    constexpr int kHalf = kKernel / 2;
    constexpr int kBefore = kHalf / kStride;  // outputs left of ix / stride that read the first input
    constexpr int kColumns = kBefore + (static_cast<int>(kInputStrip) - 1 + kHalf) / kStride + 1;
    constexpr int kQuads = kChunkQuads<T>;
    const DepthwiseParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, strips = ceil_div(p.side_in, kInputStrip);
    const unsigned i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= p.images * p.side_in * strips * chunks) return;
    const unsigned c = i % chunks * kChunk<T>, ix = i / chunks % strips * kInputStrip;
    const unsigned iy = i / chunks / strips % p.side_in;
    const size_t image = i / chunks / strips / p.side_in;

    const T* dz = static_cast<const T*>(a.dz) + image * p.side_out * p.side_out * p.channels + c;
    Chunk<T> sums[kInputStrip];
    NAT_UNROLL
    for (int n = 0; n < static_cast<int>(kInputStrip); ++n) sums[n] = {};
    for (int ky = 0; ky < kKernel; ++ky) {
        const unsigned reach = iy + kHalf - ky, oy = reach / kStride;  // -1 wraps round
        if (reach % kStride != 0 || oy >= p.side_out) continue;
        Quad taps[kKernel][kQuads];
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) {
            NAT_UNROLL
            for (int q = 0; q < kQuads; ++q) {
                taps[kx][q] = load_quad(a.w + (ky * kKernel + kx) * p.weight_channels + c + 4 * q);
            }
        }
        NAT_UNROLL
        for (int column = 0; column < kColumns; ++column) {
            const unsigned ox = ix / kStride + column - kBefore;
            if (ox >= p.side_out) continue;
            const Chunk<T> gradient = load_chunk(dz + (oy * p.side_out + ox) * p.channels);
            NAT_UNROLL
            for (int n = 0; n < static_cast<int>(kInputStrip); ++n) {
                const int kx = n + kHalf + kStride * (kBefore - column);
                if (kx < 0 || kx >= kKernel) continue;
                NAT_UNROLL
                for (int q = 0; q < kQuads; ++q) {
                    sums[n].quads[q] = multiply_add(gradient.quads[q], taps[kx][q], sums[n].quads[q]);
                }
            }
        }
    }
    NAT_UNROLL
    for (int n = 0; n < static_cast<int>(kInputStrip); ++n) {
        if (ix + n >= p.side_in) continue;
        const size_t at = ((image * p.side_in + iy) * p.side_in + ix + n) * p.channels + c;
        if (a.residual != nullptr) sums[n] = sums[n] + load_chunk(static_cast<const T*>(a.residual) + at);
        store_chunk(static_cast<T*>(a.dx) + at, sums[n]);
    }
}

struct DepthwiseWeightsArgs {
    const void* x;
    const void* dz;
    float* partials;  // [blocks][ceil(channels / 32)][kernel][kernel][32]
    float* dw;        // [kernel][kernel][weight_channels]
    DepthwiseParams p;
};
NAT_LAYOUT(DepthwiseWeightsArgs, x, dz, partials, dw, p);

constexpr unsigned kBlockPixels = 128;  // crate::ops::grad::depthwise::BLOCK_PIXELS
constexpr unsigned kGroup = 32;         // channels of a partial sum; crate::ops::grad::depthwise::CHUNK

// Images that a partial sum covers.
__device__ __forceinline__ unsigned block_images(const DepthwiseParams& p) {
    return max(1u, min(kBlockPixels / (p.side_out * p.side_out), p.images));
}

template <class T, int kKernel, int kStride>
struct DepthwiseFilter {
    static constexpr int kHalf = kKernel / 2;
    static constexpr int kStrip = kStride == 1 ? 4 : 2;              // outputs at a time
    static constexpr int kInputs = (kStrip - 1) * kStride + kKernel;  // that they read, in a row
    static constexpr int kQuads = kChunkQuads<T>;
    static constexpr unsigned kChunks = kGroup / kChunk<T>, kLanes = kThreads / kChunks;
    static constexpr unsigned kParts = kLanes / kKernel;  // that rows of outputs are dealt out to
    static constexpr unsigned kShared = kKernel * kQuads * kThreads;

    // shared: [kKernel][kQuads][kThreads]
    static __device__ __forceinline__ void run(const DepthwiseWeightsArgs& a, Quad* shared) {
        const DepthwiseParams& p = a.p;
        const unsigned groups = ceil_div(p.channels, kGroup);
        const unsigned group = blockIdx.x % groups, block = blockIdx.x / groups;
        const unsigned first = block * block_images(p), images = min(block_images(p), p.images - first);
        const unsigned lane = threadIdx.x / kChunks, ky = lane % kKernel, part = lane / kKernel;
        const unsigned c = group * kGroup + threadIdx.x % kChunks * kChunk<T>;

        Chunk<T> sums[kKernel];
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) sums[kx] = {};
        const unsigned rows = c < p.channels && part < kParts ? images * p.side_out : 0;
        for (unsigned row = part; row < rows; row += kParts) {
            const unsigned oy = row % p.side_out, iy = oy * kStride + ky - kHalf;  // -1 wraps round
            if (iy >= p.side_in) continue;
            const size_t image = first + row / p.side_out;
            const T* dz = static_cast<const T*>(a.dz) + (image * p.side_out + oy) * p.side_out * p.channels + c;
            const T* x = static_cast<const T*>(a.x) + (image * p.side_in + iy) * p.side_in * p.channels + c;
            for (unsigned ox = 0; ox < p.side_out; ox += kStrip) {
                Chunk<T> gradients[kStrip];
                NAT_UNROLL
                for (int n = 0; n < kStrip; ++n) {
                    gradients[n] = {};
                    if (ox + n < p.side_out) gradients[n] = load_chunk(dz + (ox + n) * p.channels);
                }
                NAT_UNROLL
                for (int column = 0; column < kInputs; ++column) {
                    const unsigned ix = ox * kStride + column - kHalf;
                    if (ix >= p.side_in) continue;
                    const Chunk<T> input = load_chunk(x + ix * p.channels);
                    NAT_UNROLL
                    for (int n = 0; n < kStrip; ++n) {
                        const int kx = column - n * kStride;
                        if (kx < 0 || kx >= kKernel) continue;
                        NAT_UNROLL
                        for (int q = 0; q < kQuads; ++q) {
                            Quad& sum = sums[kx].quads[q];
                            sum = multiply_add(input.quads[q], gradients[n].quads[q], sum);
                        }
                    }
                }
            }
        }
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) {
            NAT_UNROLL
            for (int q = 0; q < kQuads; ++q) shared[(kx * kQuads + q) * kThreads + threadIdx.x] = sums[kx].quads[q];
        }
        __syncthreads();
        constexpr unsigned kGroupQuads = kGroup / 4;
        float* out = a.partials + static_cast<size_t>(blockIdx.x) * kKernel * kKernel * kGroup;
        for (unsigned i = threadIdx.x; i < kKernel * kKernel * kGroupQuads; i += kThreads) {
            const unsigned quad = i % kGroupQuads, tap = i / kGroupQuads;
            const Quad* from = shared + (tap % kKernel * kQuads + quad % kQuads) * kThreads + tap / kKernel * kChunks +
                               quad / kQuads;
            Quad sum = from[0];
            for (unsigned j = 1; j < kParts; ++j) sum = sum + from[j * kKernel * kChunks];
            store_quad(out + tap * kGroup + 4 * quad, sum);
        }
    }
};

#define DEPTHWISE_GRADIENT(suffix, T, kernel, stride)                                                         \
    NAT_KERNEL_BOUNDED(depthwise_input_##kernel##_##stride##_##suffix, kThreads, DepthwiseInputArgs a) {      \
        depthwise_input<T, kernel, stride>(a);                                                                \
    }                                                                                                         \
    NAT_KERNEL_BOUNDED(depthwise_weights_##kernel##_##stride##_##suffix, kThreads, DepthwiseWeightsArgs a) {  \
        using Filter = DepthwiseFilter<T, kernel, stride>;                                                    \
        NAT_SHARED(Quad, shared, Filter::kShared);                                                            \
        Filter::run(a, shared);                                                                               \
    }
#define DEPTHWISE_GRADIENT_KERNELS(suffix, T) \
    DEPTHWISE_GRADIENT(suffix, T, 3, 1)       \
    DEPTHWISE_GRADIENT(suffix, T, 5, 1)       \
    DEPTHWISE_GRADIENT(suffix, T, 7, 1)       \
    DEPTHWISE_GRADIENT(suffix, T, 3, 2)       \
    DEPTHWISE_GRADIENT(suffix, T, 5, 2)       \
    DEPTHWISE_GRADIENT(suffix, T, 7, 2)

NAT_EVERY_FORMAT(DEPTHWISE_GRADIENT_KERNELS)

NAT_KERNEL_BOUNDED(depthwise_weights_merge, kPartialThreads, DepthwiseWeightsArgs a) {
    NAT_SHARED(Quad, segments, kPartialThreads);
    const DepthwiseParams& p = a.p;
    const unsigned quads = p.channels / 4, taps = p.kernel * p.kernel, groups = ceil_div(p.channels, kGroup);
    const unsigned tap = partial_quad() / quads, c = partial_quad() % quads * 4;
    const bool there = tap < taps;
    const float* from = there ? a.partials + (c / kGroup * taps + tap) * kGroup + c % kGroup : nullptr;
    const size_t stride = static_cast<size_t>(groups) * taps * kGroup;
    const Quad sum = merge_partials(from, stride, ceil_div(p.images, block_images(p)), segments);
    if (partial_segment() != 0 || !there) return;
    float* to = a.dw + tap * p.weight_channels + c;
    store_quad(to, load_quad(to) + sum);
}
