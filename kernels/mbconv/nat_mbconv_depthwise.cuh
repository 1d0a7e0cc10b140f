// The depthwise filter of mbconv.cu on a slice of the expanded map: from shared memory to shared memory.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

// The zeros before each row of the expanded slice, which are also those behind the row before it, with the
// up to 7 chunks between the two. Before the first row these fall into the front.
template <class T>
__device__ NAT_PHASE void clear_margins(const MbconvBlock<T>& b) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const unsigned margin = p.kernel / 2 * c.expanded_pixel;
    const unsigned gap = c.expanded_row - margin - p.side_in * c.expanded_pixel, chunks = gap + margin;
    for (unsigned i = threadIdx.x; i < (b.lines_in + 1) * chunks; i += kMbconvThreads) {
        store_shared(b.expanded() - gap + i / chunks * c.expanded_row + i % chunks, make_uint4(0, 0, 0, 0));
    }
}

template <MbconvPass kPass, class T>
__device__ __forceinline__ void copy_filter(const MbconvBlock<T>& b, unsigned c0) {
    const MbconvArgs& a = b.a;
    const unsigned taps = b.p.kernel * b.p.kernel;
    uint4* to = b.shared + b.c.filter_at;
    copy_taps(b, to, a.filter, taps, b.p.weight_channels, c0);
    if constexpr (kPass == MbconvPass::kFiltered) return;
    copy_vectors(b, to + taps * (b.c.slice / 4), a.filter_scale, a.filter_shift, c0);
}

// Where there is no expansion: the slice of the map itself.
template <class T>
__device__ NAT_PHASE void copy_map(const MbconvBlock<T>& b, unsigned c0) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const unsigned chunks = min(c.slice, p.mid - c0) / kHalfChunk;
    const uint16_t* from = static_cast<const uint16_t*>(b.a.x) + b.first_row_in() * p.mid + c0;
    for (unsigned i = threadIdx.x; i < b.rows_in() * c.expanded_pixel; i += kMbconvThreads) {
        const unsigned pixel = i / c.expanded_pixel, chunk = i % c.expanded_pixel;
        if (chunk < chunks) {
            nat_async_copy<16>(b.expanded() + b.pixel_at(pixel) + chunk,
                               from + static_cast<size_t>(pixel) * p.mid + kHalfChunk * chunk);
        }
    }
}

// Sums of a strip of a row for a quad of channels: an input that is read serves every output of the strip
// that it touches, and a row of the filter stays in registers. Rows outside the image are left out; columns
// outside are zeros. Behind the last output of a row a strip reads anything, for outputs that are not there.
template <int kKernel, int kStride, int kStrip, class T>
__device__ NAT_PHASE void filter_strip(const MbconvBlock<T>& b, const Quad* filter, unsigned row, unsigned first_x,
                                       unsigned quad, Quad (&sums)[kStrip]) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    constexpr int kInputs = (kStrip - 1) * kStride + kKernel;
    const unsigned quads = c.slice / 4, image = row / p.side_out, oy = b.first_out + row % p.side_out;
    const int top = static_cast<int>(oy * kStride) - kKernel / 2;
    const uint2* column = reinterpret_cast<const uint2*>(b.expanded() + first_x * kStride * c.expanded_pixel) + quad;
    NAT_UNROLL_ON_CARD
    for (int o = 0; o < kStrip; ++o) sums[o] = splat(0.0f);
    NAT_ROLLED
    for (int ky = 0; ky < kKernel; ++ky) {
        const unsigned iy = top + ky;  // -1 wraps round
        if (iy >= p.side_in) continue;
        const uint2* from = column + 2 * (image * p.side_in + iy - b.first_in) * c.expanded_row;
        uint2 inputs[kInputs];
        NAT_UNROLL_ON_CARD
        for (int j = 0; j < kInputs; ++j) inputs[j] = load_shared<uint2>(from + 2 * j * c.expanded_pixel);
        Quad w[kKernel];
        NAT_UNROLL_ON_CARD
        for (int kx = 0; kx < kKernel; ++kx) w[kx] = load_shared<Quad>(filter + (ky * kKernel + kx) * quads + quad);
        NAT_UNROLL_ON_CARD
        for (int j = 0; j < kInputs; ++j) {
            const Quad x = unpack_quad<T>(inputs[j]);
            NAT_UNROLL_ON_CARD
            for (int o = 0; o < kStrip; ++o) {
                const int kx = j - o * kStride;
                if (kx >= 0 && kx < kKernel) sums[o] = multiply_add(x, w[kx], sums[o]);
            }
        }
    }
}

// The slice of the depthwise output, a strip a thread. A second pass leaves the sums as they are.
template <int kKernel, int kStride, int kStrip, MbconvPass kPass, class T>
__device__ NAT_PHASE void depthwise(const MbconvBlock<T>& b, unsigned c0) {
    const MbconvParams& p = b.p;
    const unsigned quads = b.c.slice / 4, across = ceil_div(p.side_out, kStrip), rows = b.lines_out;
    const Quad* filter = reinterpret_cast<const Quad*>(b.shared + b.c.filter_at);
    for (unsigned i = threadIdx.x; i < rows * across * quads; i += kMbconvThreads) {
        // Neighbours are one below the other: `expanded_row` puts them on different banks.
        const unsigned quad = i % quads, row = i / quads % rows, first_x = i / quads / rows * kStrip;
        if (c0 + 4 * quad >= p.mid) continue;
        Quad sums[kStrip];
        filter_strip<kKernel, kStride>(b, filter, row, first_x, quad, sums);
        Quad scale, shift;
        if constexpr (kPass != MbconvPass::kFiltered) {
            const Quad* vectors = filter + kKernel * kKernel * quads + quad;
            scale = load_shared<Quad>(vectors), shift = load_shared<Quad>(vectors + quads);
        }
        NAT_UNROLL
        for (int o = 0; o < kStrip; ++o) {
            const unsigned ox = first_x + o;
            if (ox >= p.side_out) break;
            Quad value = sums[o];
            if constexpr (kPass != MbconvPass::kFiltered) {
                value = activate(p.activation, multiply_add(raw_quad<kPass>(b, value), scale, shift));
            }
            const unsigned pixel = row * p.side_out + ox;
            uint2* to;
            if constexpr (keeps_slice(kPass)) {
                to = reinterpret_cast<uint2*>(b.shared + b.c.kept_at + pixel * b.c.expanded_pixel) + quad;
            } else {
                to = b.kept_quad(pixel, c0 / 4 + quad);
            }
            store_shared(to, pack_quad<T>(value));
        }
    }
}

// The same with as long strips as the output's side has a use for.
template <int kKernel, int kStride, MbconvPass kPass, class T>
__device__ __forceinline__ void depthwise_slice(const MbconvBlock<T>& b, unsigned c0) {
    if (b.p.side_out > 4) {
        depthwise<kKernel, kStride, 8, kPass>(b, c0);
    } else if (b.p.side_out > 2) {
        depthwise<kKernel, kStride, 4, kPass>(b, c0);
    } else {
        depthwise<kKernel, kStride, 2, kPass>(b, c0);
    }
}

}  // namespace mbconv
