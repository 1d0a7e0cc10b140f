// Depthwise convolution, "same" padding, with folded batch norm and activation.
//
//   y[i, oy, ox, c] = activation(scale[c] * sum_{ky, kx} x[i, oy s + ky - k/2, ox s + kx - k/2, c] * w[ky, kx, c] + shift[c])
//
// bytes: 4 (images side_in^2 + images side_out^2 + k^2) channels   FLOPs: 2 k^2 images side_out^2 channels
//
//   kernel                     for maps of side_out
//   depthwise_<k>_<stride>     above 4: tiles in shared memory
//   depthwise_small_<k>        up to 4: a thread an output, straight from memory
//
// Tiled: a block takes one tile of an image's outputs, 8 x 8 at stride 1, 4 rows of 8 at stride 2, for 32
// channels. The inputs of the tile with their halo, zeros outside the image, and the filters go to shared
// memory by 16-byte accesses, eight neighbouring threads reading the 128 bytes of a pixel. A thread makes a
// strip of outputs of one row for one quad of channels, so an input that it has read serves up to k of them.
//
// Small: the whole image is a few kilobytes a channel group and stays in the L1 cache; taps outside the
// image are not visited. Both add the taps of an output in the same order.
#include "nat_convolutions.cuh"

NAT_LAYOUT(DepthwiseParams, images, side_in, side_out, channels, weight_channels, kernel, stride, activation,
           format);
NAT_LAYOUT(DepthwiseArgs, x, w, scale, shift, y, pool, p, groups, workers);

constexpr unsigned kTileQuads = 8;  // of channels, in a block
constexpr unsigned kDepthwiseThreads = 128;

__device__ __forceinline__ void finish(const DepthwiseArgs& a, size_t at, unsigned c, Quad sum) {
    const Quad scale = load_quad_or(a.scale, c, 1.0f), shift = load_quad_or(a.shift, c, 0.0f);
    store_quad(static_cast<float*>(a.y) + at + c, activate(a.p.activation, multiply_add(sum, scale, shift)));
}

template <int kKernel, int kStride>
struct DepthwiseTile {
    static constexpr int kTileX = 8, kTileY = kStride == 1 ? 8 : 4;
    static constexpr int kStrip = kStride == 1 ? 4 : 2;
    static constexpr int kInX = (kTileX - 1) * kStride + kKernel, kInY = (kTileY - 1) * kStride + kKernel;
    static constexpr int kInputs = (kStrip - 1) * kStride + kKernel;  // of a strip, in a row
    static constexpr int kInQuads = kInX * kInY * kTileQuads;
    static constexpr int kFilterQuads = kKernel * kKernel * kTileQuads;
    static_assert(kTileX / kStrip * kTileY * kTileQuads == kDepthwiseThreads, "a thread a strip");

    static __device__ __forceinline__ void run(const DepthwiseArgs& a, Quad* inputs, Quad* filters) {
        const DepthwiseParams& p = a.p;
        const unsigned chunks = ceil_div(p.channels, 4 * kTileQuads);
        const unsigned across = ceil_div(p.side_out, kTileX), down = ceil_div(p.side_out, kTileY);
        const unsigned chunk = blockIdx.x % chunks, tile = blockIdx.x / chunks % (across * down);
        const size_t image = blockIdx.x / chunks / (across * down);
        const unsigned first_x = tile % across * kTileX, first_y = tile / across * kTileY;
        const unsigned quad = threadIdx.x % kTileQuads;
        const unsigned c = (chunk * kTileQuads + quad) * 4;
        const bool there = c < p.channels;

        const float* x = static_cast<const float*>(a.x) + image * p.side_in * p.side_in * p.channels + c;
        const int left = static_cast<int>(first_x * kStride) - kKernel / 2;
        const int top = static_cast<int>(first_y * kStride) - kKernel / 2;
        for (unsigned i = threadIdx.x; i < kInQuads; i += kDepthwiseThreads) {
            const unsigned ix = left + i / kTileQuads % kInX, iy = top + i / kTileQuads / kInX;  // -1 wraps round
            const bool inside = there && ix < p.side_in && iy < p.side_in;
            inputs[i] = inside ? load_quad(x + (iy * p.side_in + ix) * p.channels) : splat(0.0f);
        }
        for (unsigned i = threadIdx.x; i < kFilterQuads; i += kDepthwiseThreads) {
            filters[i] = there ? load_quad(a.w + i / kTileQuads * p.weight_channels + c) : splat(0.0f);
        }
        __syncthreads();

        const unsigned strip = threadIdx.x / kTileQuads;
        const unsigned tile_x = strip % (kTileX / kStrip) * kStrip, tile_y = strip / (kTileX / kStrip);
        const unsigned oy = first_y + tile_y;
        if (!there || oy >= p.side_out || first_x + tile_x >= p.side_out) return;
        Quad sums[kStrip];
        NAT_UNROLL
        for (int i = 0; i < kStrip; ++i) sums[i] = splat(0.0f);
        for (int ky = 0; ky < kKernel; ++ky) {
            const Quad* from = inputs + ((tile_y * kStride + ky) * kInX + tile_x * kStride) * kTileQuads + quad;
            Quad row[kInputs];
            NAT_UNROLL
            for (int i = 0; i < kInputs; ++i) row[i] = from[i * kTileQuads];
            NAT_UNROLL
            for (int kx = 0; kx < kKernel; ++kx) {
                const Quad w = filters[(ky * kKernel + kx) * kTileQuads + quad];
                NAT_UNROLL
                for (int i = 0; i < kStrip; ++i) sums[i] = multiply_add(row[i * kStride + kx], w, sums[i]);
            }
        }
        NAT_UNROLL
        for (int i = 0; i < kStrip; ++i) {
            const unsigned ox = first_x + tile_x + i;
            if (ox < p.side_out) {
                finish(a, ((image * p.side_out + oy) * p.side_out + ox) * p.channels, c, sums[i]);
            }
        }
    }
};

template <int kKernel>
__device__ __forceinline__ void depthwise_small(const DepthwiseArgs& a) {
    const DepthwiseParams& p = a.p;
    const unsigned quads = p.channels / 4, pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kDepthwiseThreads + threadIdx.x;
    if (i >= p.images * pixels * quads) return;
    const unsigned c = i % quads * 4, pixel = i / quads % pixels;
    const size_t image = i / quads / pixels;
    const unsigned oy = pixel / p.side_out, ox = pixel % p.side_out;
    const float* x = static_cast<const float*>(a.x) + image * p.side_in * p.side_in * p.channels + c;
    const int top = static_cast<int>(oy * p.stride) - kKernel / 2, left = static_cast<int>(ox * p.stride) - kKernel / 2;
    const int side = static_cast<int>(p.side_in);
    Quad sum = splat(0.0f);
    for (int iy = max(top, 0); iy < min(top + kKernel, side); ++iy) {
        for (int ix = max(left, 0); ix < min(left + kKernel, side); ++ix) {
            const unsigned tap = (iy - top) * kKernel + (ix - left);
            sum = multiply_add(load_quad(x + static_cast<unsigned>(iy * side + ix) * p.channels),
                               load_quad(a.w + tap * p.weight_channels + c), sum);
        }
    }
    finish(a, (image * pixels + pixel) * p.channels, c, sum);
}

#define DEPTHWISE_KERNEL(kernel, stride)                                                    \
    NAT_KERNEL_BOUNDED(depthwise_##kernel##_##stride, kDepthwiseThreads, DepthwiseArgs a) { \
        using Tile = DepthwiseTile<kernel, stride>;                                         \
        NAT_SHARED(Quad, inputs, Tile::kInQuads);                                           \
        NAT_SHARED(Quad, filters, Tile::kFilterQuads);                                      \
        Tile::run(a, inputs, filters);                                                      \
    }

DEPTHWISE_KERNEL(3, 1)
DEPTHWISE_KERNEL(5, 1)
DEPTHWISE_KERNEL(7, 1)
DEPTHWISE_KERNEL(3, 2)
DEPTHWISE_KERNEL(5, 2)
DEPTHWISE_KERNEL(7, 2)

NAT_KERNEL_BOUNDED(depthwise_small_3, kDepthwiseThreads, DepthwiseArgs a) { depthwise_small<3>(a); }
NAT_KERNEL_BOUNDED(depthwise_small_5, kDepthwiseThreads, DepthwiseArgs a) { depthwise_small<5>(a); }
NAT_KERNEL_BOUNDED(depthwise_small_7, kDepthwiseThreads, DepthwiseArgs a) { depthwise_small<7>(a); }
