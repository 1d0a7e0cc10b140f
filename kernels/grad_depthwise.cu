// Gradients of the depthwise convolution.
//
//   dx[i, iy, ix, c] = sum over taps and outputs that read it of dz[i, oy, ox, c] * w[ky, kx, c] + residual
//   dw[ky, kx, c] += sum_{i, oy, ox} dz[i, oy, ox, c] * x[i, oy s + ky - k/2, ox s + kx - k/2, c]
//
//   kernel                          computes                           bytes                      FLOPs
//   depthwise_input_<k>_<stride>    dx                                 4 C (outputs + inputs)     2 k^2 C outputs
//   depthwise_weights_<k>_<stride>  sums of blocks of images           4 C (inputs + outputs)     2 k^2 C outputs
//   depthwise_weights_merge         dw += their sum                    4 k^2 C (blocks + 2)       k^2 C blocks
//
// The input's gradient gathers, so that nothing is added in memory: a thread makes four neighbours of a row
// for a quad of channels. For each row of the filter that meets a row of outputs it holds the taps in
// registers and reads each output's gradient once for all inputs that it goes to.
//
// The filter's gradient: a block of threads takes 32 channels of some images, at least 128 output pixels
// where there are that many. A thread keeps one row of taps of a quad in registers, and runs along rows of
// outputs: what it reads of x serves up to k outputs, what it reads of dz all k taps. Different rows of taps
// read the same lines, which stay in the L1 cache. Where threads are left, rows of outputs are dealt out to
// them and their sums added in order at the end.
#include "nat_convolutions.cuh"
#include "nat_partials.cuh"

struct DepthwiseInputArgs {
    const float* dz;
    const float* w;
    const float* residual;  // or null
    float* dx;
    DepthwiseParams p;
};
NAT_LAYOUT(DepthwiseInputArgs, dz, w, residual, dx, p);

constexpr unsigned kThreads = 128;
constexpr unsigned kInputStrip = 4;  // inputs of a thread

template <int kKernel, int kStride>
__device__ __forceinline__ void depthwise_input(const DepthwiseInputArgs& a) {
    constexpr int kHalf = kKernel / 2;
    constexpr int kBefore = kHalf / kStride;  // outputs left of ix / stride that read the first input
    constexpr int kColumns = kBefore + (static_cast<int>(kInputStrip) - 1 + kHalf) / kStride + 1;
    const DepthwiseParams& p = a.p;
    const unsigned quads = p.channels / 4, strips = ceil_div(p.side_in, kInputStrip);
    const unsigned i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= p.images * p.side_in * strips * quads) return;
    const unsigned c = i % quads * 4, ix = i / quads % strips * kInputStrip;
    const unsigned iy = i / quads / strips % p.side_in;
    const size_t image = i / quads / strips / p.side_in;

    const float* dz = a.dz + image * p.side_out * p.side_out * p.channels + c;
    Quad sums[kInputStrip];
    NAT_UNROLL
    for (int n = 0; n < static_cast<int>(kInputStrip); ++n) sums[n] = splat(0.0f);
    for (int ky = 0; ky < kKernel; ++ky) {
        const unsigned reach = iy + kHalf - ky, oy = reach / kStride;  // -1 wraps round
        if (reach % kStride != 0 || oy >= p.side_out) continue;
        Quad taps[kKernel];
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) taps[kx] = load_quad(a.w + (ky * kKernel + kx) * p.weight_channels + c);
        NAT_UNROLL
        for (int column = 0; column < kColumns; ++column) {
            const unsigned ox = ix / kStride + column - kBefore;
            if (ox >= p.side_out) continue;
            const Quad gradient = load_quad(dz + (oy * p.side_out + ox) * p.channels);
            NAT_UNROLL
            for (int n = 0; n < static_cast<int>(kInputStrip); ++n) {
                const int kx = n + kHalf + kStride * (kBefore - column);
                if (kx >= 0 && kx < kKernel) sums[n] = multiply_add(gradient, taps[kx], sums[n]);
            }
        }
    }
    NAT_UNROLL
    for (int n = 0; n < static_cast<int>(kInputStrip); ++n) {
        if (ix + n >= p.side_in) continue;
        const size_t at = ((image * p.side_in + iy) * p.side_in + ix + n) * p.channels + c;
        store_quad(a.dx + at, a.residual != nullptr ? sums[n] + load_quad(a.residual + at) : sums[n]);
    }
}

struct DepthwiseWeightsArgs {
    const float* x;
    const float* dz;
    float* partials;  // [blocks][ceil(channels / 32)][kernel][kernel][32]
    float* dw;        // [kernel][kernel][weight_channels]
    DepthwiseParams p;
};
NAT_LAYOUT(DepthwiseWeightsArgs, x, dz, partials, dw, p);

constexpr unsigned kBlockPixels = 128;  // crate::ops::grad::depthwise::BLOCK_PIXELS
constexpr unsigned kChunk = 32;         // crate::ops::grad::depthwise::CHUNK
constexpr unsigned kChunkQuads = kChunk / 4, kLanes = kThreads / kChunkQuads;

// Images that a partial sum covers.
__device__ __forceinline__ unsigned block_images(const DepthwiseParams& p) {
    return max(1u, min(kBlockPixels / (p.side_out * p.side_out), p.images));
}

template <int kKernel, int kStride>
struct DepthwiseFilter {
    static constexpr int kHalf = kKernel / 2;
    static constexpr int kStrip = kStride == 1 ? 4 : 2;              // outputs at a time
    static constexpr int kInputs = (kStrip - 1) * kStride + kKernel;  // that they read, in a row
    static constexpr int kParts = kLanes / kKernel;                  // that rows of outputs are dealt out to
    static constexpr int kShared = kKernel * kThreads;

    // sums: [kKernel][kThreads]
    static __device__ __forceinline__ void run(const DepthwiseWeightsArgs& a, Quad* shared) {
        const DepthwiseParams& p = a.p;
        const unsigned chunks = ceil_div(p.channels, kChunk);
        const unsigned chunk = blockIdx.x % chunks, block = blockIdx.x / chunks;
        const unsigned first = block * block_images(p), images = min(block_images(p), p.images - first);
        const unsigned lane = threadIdx.x / kChunkQuads, ky = lane % kKernel, part = lane / kKernel;
        const unsigned c = chunk * kChunk + threadIdx.x % kChunkQuads * 4;

        Quad sums[kKernel];
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) sums[kx] = splat(0.0f);
        const unsigned rows = c < p.channels && part < kParts ? images * p.side_out : 0;
        for (unsigned row = part; row < rows; row += kParts) {
            const unsigned oy = row % p.side_out, iy = oy * kStride + ky - kHalf;  // -1 wraps round
            if (iy >= p.side_in) continue;
            const size_t image = first + row / p.side_out;
            const float* dz = a.dz + (image * p.side_out + oy) * p.side_out * p.channels + c;
            const float* x = a.x + (image * p.side_in + iy) * p.side_in * p.channels + c;
            for (unsigned ox = 0; ox < p.side_out; ox += kStrip) {
                Quad gradients[kStrip];
                NAT_UNROLL
                for (int n = 0; n < kStrip; ++n) {
                    gradients[n] = ox + n < p.side_out ? load_quad(dz + (ox + n) * p.channels) : splat(0.0f);
                }
                NAT_UNROLL
                for (int column = 0; column < kInputs; ++column) {
                    const unsigned ix = ox * kStride + column - kHalf;
                    if (ix >= p.side_in) continue;
                    const Quad input = load_quad(x + ix * p.channels);
                    NAT_UNROLL
                    for (int n = 0; n < kStrip; ++n) {
                        const int kx = column - n * kStride;
                        if (kx >= 0 && kx < kKernel) sums[kx] = multiply_add(input, gradients[n], sums[kx]);
                    }
                }
            }
        }
        NAT_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) shared[kx * kThreads + threadIdx.x] = sums[kx];
        __syncthreads();
        float* out = a.partials + static_cast<size_t>(blockIdx.x) * kKernel * kKernel * kChunk;
        for (unsigned i = threadIdx.x; i < kKernel * kKernel * kChunkQuads; i += kThreads) {
            const unsigned quad = i % kChunkQuads, tap = i / kChunkQuads;
            const Quad* from = shared + tap % kKernel * kThreads + tap / kKernel * kChunkQuads + quad;
            Quad sum = from[0];
            for (unsigned j = 1; j < kParts; ++j) sum = sum + from[j * kKernel * kChunkQuads];
            store_quad(out + tap * kChunk + 4 * quad, sum);
        }
    }
};

#define DEPTHWISE_GRADIENT_KERNELS(kernel, stride)                                             \
    NAT_KERNEL_BOUNDED(depthwise_input_##kernel##_##stride, kThreads, DepthwiseInputArgs a) {  \
        depthwise_input<kernel, stride>(a);                                                    \
    }                                                                                          \
    NAT_KERNEL_BOUNDED(depthwise_weights_##kernel##_##stride, kThreads, DepthwiseWeightsArgs a) { \
        using Filter = DepthwiseFilter<kernel, stride>;                                        \
        NAT_SHARED(Quad, shared, Filter::kShared);                                             \
        Filter::run(a, shared);                                                                \
    }

DEPTHWISE_GRADIENT_KERNELS(3, 1)
DEPTHWISE_GRADIENT_KERNELS(5, 1)
DEPTHWISE_GRADIENT_KERNELS(7, 1)
DEPTHWISE_GRADIENT_KERNELS(3, 2)
DEPTHWISE_GRADIENT_KERNELS(5, 2)
DEPTHWISE_GRADIENT_KERNELS(7, 2)

NAT_KERNEL_BOUNDED(depthwise_weights_merge, kPartialThreads, DepthwiseWeightsArgs a) {
    NAT_SHARED(Quad, segments, kPartialThreads);
    const DepthwiseParams& p = a.p;
    const unsigned quads = p.channels / 4, taps = p.kernel * p.kernel, chunks = ceil_div(p.channels, kChunk);
    const unsigned tap = partial_quad() / quads, c = partial_quad() % quads * 4;
    const bool there = tap < taps;
    const float* from = there ? a.partials + (c / kChunk * taps + tap) * kChunk + c % kChunk : nullptr;
    const size_t stride = static_cast<size_t>(chunks) * taps * kChunk;
    const Quad sum = merge_partials(from, stride, ceil_div(p.images, block_images(p)), segments);
    if (partial_segment() != 0 || !there) return;
    float* to = a.dw + tap * p.weight_channels + c;
    store_quad(to, load_quad(to) + sum);
}
