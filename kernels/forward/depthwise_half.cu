// Depthwise convolution on 16-bit maps, "same" padding, with folded batch norm, activation and means over pixels.
// Checked on the emulator, not yet on a card.
//
//   y[i, oy, ox, c] = activation(scale[c] * sum_{ky, kx} x[i, oy s + ky - k/2, ox s + kx - k/2, c] * w[ky, kx, c] + shift[c])
//   pool[i, c] = mean over oy, ox of y[i, oy, ox, c], before it is rounded; where it is wanted
//
// bytes: (2 images (side_in^2 + side_out^2) + 4 k^2) channels (+ 4 images channels)
// FLOPs: 2 k^2 images side_out^2 channels
//
// A thread makes strips of four outputs of a row for eight channels, which are 16 bytes: a window slides along the
// row, each input is read and widened once a row of taps and goes to up to four sums while the row's weights are in
// registers. A block has all pixels of some chunks of channels of one image, or of several where maps are small, so
// means need no second kernel: a thread adds up its own outputs, and those of a channel's threads meet in shared
// memory and are added in order. Neighbouring threads have neighbouring channels; rows that several threads read
// come from the L1 cache.
#include "nat_convolutions.cuh"
#include "nat_formats.cuh"

constexpr unsigned kHalfThreads = 128;
constexpr unsigned kMostGroups = 8;
constexpr int kHalfStrip = 4;

template <class T, int kKernel, int kStride>
struct DepthwiseHalf {
    static constexpr int kInputs = (kHalfStrip - 1) * kStride + kKernel;  // of a strip, in a row
    static constexpr unsigned kFilterQuads = kKernel * kKernel * 2 * kMostGroups;

    // filters: [taps][2][groups] quads, the first of each chunk and then the second, so that neighbouring
    // threads read neighbouring quads; sums: [2][kHalfThreads] alike.
    static __device__ __forceinline__ void run(const DepthwiseArgs& a, Quad* filters, Quad* sums) {
        const DepthwiseParams& p = a.p;
        const unsigned groups = a.groups, columns = ceil_div(p.channels / 8, groups);
        const unsigned group = threadIdx.x % groups, worker = threadIdx.x / groups;
        const unsigned first_group = blockIdx.x % columns * groups;
        const unsigned c = (first_group + group) * 8;
        const unsigned images = kHalfThreads / groups / a.workers;  // of a block
        const size_t first_image = static_cast<size_t>(blockIdx.x / columns) * images;
        const size_t image = first_image + worker / a.workers;

        for (unsigned i = threadIdx.x; i < kKernel * kKernel * 2 * groups; i += kHalfThreads) {
            const unsigned channel = (first_group + i % groups) * 8 + i / groups % 2 * 4;
            const bool there = channel < p.channels;
            nat_note_shared(filters + i, sizeof(Quad));
            filters[i] = there ? load_quad(a.w + i / (2 * groups) * p.weight_channels + channel) : splat(0.0f);
        }
        __syncthreads();

        // What this thread adds up for the means stays in shared memory: registers are short.
        Quad* totals = sums + threadIdx.x;
        totals[0] = totals[kHalfThreads] = splat(0.0f);
        if (c < p.channels && worker < images * a.workers && image < p.images) {
            const T* x = static_cast<const T*>(a.x) + image * p.side_in * p.side_in * p.channels + c;
            T* y = static_cast<T*>(a.y) + image * p.side_out * p.side_out * p.channels + c;
            const unsigned across = ceil_div(p.side_out, kHalfStrip);
            NAT_ROLLED
            for (unsigned strip = worker % a.workers; strip < across * p.side_out; strip += a.workers) {
                const unsigned oy = strip / across, ox = strip % across * kHalfStrip;
                Chunk<T> outputs[kHalfStrip];
                convolve(p, x, filters + group, groups, oy, ox, outputs);
                const Chunk<T> scale = {{load_quad_or(a.scale, c, 1.0f), load_quad_or(a.scale, c + 4, 1.0f)}};
                const Chunk<T> shift = {{load_quad_or(a.shift, c, 0.0f), load_quad_or(a.shift, c + 4, 0.0f)}};
                Chunk<T> total = {};
                NAT_UNROLL
                for (int i = 0; i < kHalfStrip; ++i) {
                    if (ox + i < p.side_out) {
                        NAT_UNROLL
                        for (int q = 0; q < 2; ++q) {
                            outputs[i].quads[q] = activate_by_branch(
                                p.activation, multiply_add(outputs[i].quads[q], scale.quads[q], shift.quads[q]));
                        }
                        store_chunk(y + (oy * p.side_out + ox + i) * p.channels, outputs[i]);
                        total = total + outputs[i];
                    }
                }
                NAT_UNROLL
                for (unsigned q = 0; q < 2; ++q) {
                    nat_note_shared(totals + q * kHalfThreads, sizeof(Quad));
                    totals[q * kHalfThreads] = totals[q * kHalfThreads] + total.quads[q];
                }
            }
        }
        if (a.pool == nullptr) return;
        __syncthreads();
        const float share = 1.0f / static_cast<float>(p.side_out * p.side_out);
        for (unsigned i = threadIdx.x; i < images * 2 * groups; i += kHalfThreads) {
            const unsigned part = i % groups, q = i / groups % 2, place = i / (2 * groups);
            const unsigned channel = (first_group + part) * 8 + q * 4;
            if (channel >= p.channels || first_image + place >= p.images) continue;
            const Quad* from = sums + q * kHalfThreads + place * a.workers * groups + part;
            Quad sum = from[0];
            for (unsigned j = 1; j < a.workers; ++j) sum = sum + from[j * groups];
            store_quad(a.pool + (first_image + place) * p.channels + channel, sum * splat(share));
        }
    }

    // The sums of a strip.
    static __device__ __forceinline__ void convolve(const DepthwiseParams& p, const T* x, const Quad* filters,
                                                    unsigned groups, unsigned oy, unsigned ox,
                                                    Chunk<T> (&outputs)[kHalfStrip]) {
        const unsigned top = oy * kStride - kKernel / 2, left = ox * kStride - kKernel / 2;  // -1 wraps round
        NAT_UNROLL
        for (int i = 0; i < kHalfStrip; ++i) outputs[i] = {};
        NAT_ROLLED
        for (unsigned ky = 0; ky < kKernel; ++ky) {
            if (top + ky >= p.side_in) continue;
            Quad w[kKernel][2];
            NAT_UNROLL
            for (unsigned i = 0; i < 2 * kKernel; ++i) {
                const Quad* from = filters + (ky * 2 * kKernel + i) * groups;
                nat_note_shared(from, sizeof(Quad));
                w[i / 2][i % 2] = *from;
            }
            const T* row = x + (top + ky) * p.side_in * p.channels;
            NAT_UNROLL
            for (int i = 0; i < kInputs; ++i) {
                const unsigned ix = left + i;
                Chunk<T> input = {};
                if (ix < p.side_in) input = load_chunk(row + ix * p.channels);
                NAT_UNROLL
                for (int j = 0; j < kHalfStrip; ++j) {
                    const int kx = i - j * kStride;
                    if (kx >= 0 && kx < kKernel) {
                        NAT_UNROLL
                        for (int q = 0; q < 2; ++q) {
                            outputs[j].quads[q] = multiply_add(input.quads[q], w[kx][q], outputs[j].quads[q]);
                        }
                    }
                }
            }
        }
    }
};

// Blocks that a multiprocessor is to have room for: what the compiler takes without being told is a few registers
// more or less than that.
__host__ __device__ constexpr unsigned half_blocks(unsigned kernel, unsigned stride) {
    return stride == 2 && kernel > 3 ? 3 : 4;
}

#define DEPTHWISE_HALF(suffix, T, kernel, stride)                                    \
    NAT_KERNEL_RESIDENT(depthwise_half_##kernel##_##stride##_##suffix, kHalfThreads, \
                        half_blocks(kernel, stride), DepthwiseArgs a) {          \
        using Half = DepthwiseHalf<T, kernel, stride>;                               \
        NAT_SHARED(Quad, filters, Half::kFilterQuads);                               \
        NAT_SHARED(Quad, sums, 2 * kHalfThreads);                                    \
        Half::run(a, filters, sums);                                                 \
    }
#define DEPTHWISE_HALVES(suffix, T)    \
    DEPTHWISE_HALF(suffix, T, 3, 1)    \
    DEPTHWISE_HALF(suffix, T, 5, 1)    \
    DEPTHWISE_HALF(suffix, T, 7, 1)    \
    DEPTHWISE_HALF(suffix, T, 3, 2)    \
    DEPTHWISE_HALF(suffix, T, 5, 2)    \
    DEPTHWISE_HALF(suffix, T, 7, 2)

DEPTHWISE_HALVES(f16, __half)
DEPTHWISE_HALVES(bf16, __nv_bfloat16)
