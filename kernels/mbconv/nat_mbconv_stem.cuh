// The stem of mbconv.cu in place of an expansion: 3x3, stride 2, padding 1, of f32 images in shared memory.
//
// An image has a row of zeros before its first, and a row a chunk of zeros before its first pixel and
// zeros behind its last: a window that leaves the image needs no question, and the zeros of the next image,
// or those behind the last, are below this one. Of a band there are the rows that its rows of the map need, one more
// than twice as many. A strip of four outputs reads 27 numbers of a row, which lie in
// seven chunks of their own: 4 + 3 (2 ox - 1) = 24 strip + 1. Rows of an odd number of chunks put the
// rows of neighbouring threads, two apart, on different banks.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

constexpr unsigned kStemStrip = 4, kStemChunks = 6 * kStemStrip / 4;  // outputs of a thread, what lies between two

// Chunks from one row of an image to the next.
__host__ __device__ constexpr unsigned image_row(unsigned side) {
    const unsigned pixels = 1 + ceil_div(3 * side + 3, 4);
    const unsigned strips = kStemChunks * ceil_div(ceil_div(side, 2), kStemStrip) + 1;
    return odd(pixels > strips ? pixels : strips);
}

// Rows of so many images, or for so many rows of the map of a band.
__host__ __device__ constexpr unsigned image_rows(unsigned images, unsigned side) { return images * (side + 1) + 1; }
__host__ __device__ constexpr unsigned band_image_rows(unsigned lines_in) { return 2 * lines_in + 1; }

// Copies so many numbers at a time, of which rows are made up.
template <unsigned kNumbers, class T>
__device__ NAT_PHASE void copy_image_numbers(const MbconvBlock<T>& b) {
    const unsigned side = b.p.image_side, width = 3 * side;
    const unsigned rows = b.c.bands > 1 ? band_image_rows(b.lines_in) : image_rows(b.images, side);
    const unsigned pieces = image_row(side) * 4 / kNumbers;
    const float* from = static_cast<const float*>(b.a.x) + static_cast<size_t>(b.first_image) * side * width;
    float* to = reinterpret_cast<float*>(b.shared + b.c.x_at);
    for (unsigned i = threadIdx.x; i < rows * pieces; i += kMbconvThreads) {
        const unsigned row = i / pieces, at = i % pieces * kNumbers, image = row / (side + 1);
        const unsigned iy = row % (side + 1) + 2 * b.first_in - 1;  // -1 wraps round
        const bool valid = iy < side && at >= 4 && at - 4 < width;
        nat_async_copy<4 * kNumbers>(to + i * kNumbers, from + (valid ? (image * side + iy) * width + at - 4 : 0), valid);
    }
}

template <class T>
__device__ __forceinline__ void copy_images(const MbconvBlock<T>& b) {
    if (b.p.image_side % 4 == 0) {
        copy_image_numbers<4>(b);
    } else {
        copy_image_numbers<1>(b);
    }
}

template <class T>
__device__ __forceinline__ void copy_stem(const MbconvBlock<T>& b) {
    const MbconvArgs& a = b.a;
    uint4* to = b.shared + b.c.weights_at;
    copy_taps(b, to, a.stem, 27, b.p.mid, 0);
    copy_vectors(b, to + 27 * (b.c.slice / 4), a.expand_scale, a.expand_shift, 0);
}

// The one slice. A thread makes a strip of a row for eight channels; sums are over rows, columns and colours
// in this order, as those of stem.cu.
template <class T>
__device__ NAT_PHASE void stem(const MbconvBlock<T>& b) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const unsigned chunks = p.mid / kHalfChunk, rows = b.lines_in, quads = c.slice / 4;
    const unsigned strips = ceil_div(p.side_in, kStemStrip), pitch = image_row(p.image_side);
    const Quad* filters = reinterpret_cast<const Quad*>(b.shared + c.weights_at);
    for (unsigned i = threadIdx.x; i < rows * strips * chunks; i += kMbconvThreads) {
        // Neighbours are one below the other, as in depthwise().
        const unsigned chunk = i % chunks, row = i / chunks % rows, strip = i / chunks / rows;
        const unsigned line = row / p.side_in * (p.image_side + 1) + row % p.side_in * 2;
        const uint4* from = b.shared + c.x_at + line * pitch + strip * kStemChunks;
        Quad sums[kStemStrip][2];
        NAT_UNROLL
        for (unsigned o = 0; o < kStemStrip; ++o) sums[o][0] = sums[o][1] = splat(0.0f);
        NAT_ROLLED
        for (unsigned ky = 0; ky < 3; ++ky) {
            Quad inputs[kStemChunks + 1];
            NAT_UNROLL
            for (unsigned j = 0; j <= kStemChunks; ++j) inputs[j] = load_shared<Quad>(from + ky * pitch + j);
            NAT_UNROLL
            for (unsigned tap = 0; tap < 9; ++tap) {
                const Quad* w = filters + (9 * ky + tap) * quads + 2 * chunk;
                const Quad first = load_shared<Quad>(w), second = load_shared<Quad>(w + 1);
                NAT_UNROLL
                for (unsigned o = 0; o < kStemStrip; ++o) {
                    const unsigned number = 1 + 6 * o + tap;
                    const float x = component(inputs[number / 4], number % 4);
                    sums[o][0] = multiply_add(x, first, sums[o][0]);
                    sums[o][1] = multiply_add(x, second, sums[o][1]);
                }
            }
        }
        const Quad* vectors = filters + 27 * quads + 2 * chunk;
        uint4* to = b.expanded() + row * c.expanded_row + (strip * kStemStrip + 1) * c.expanded_pixel + chunk;
        NAT_UNROLL
        for (unsigned o = 0; o < kStemStrip; ++o) {
            if (strip * kStemStrip + o >= p.side_in) break;
            uint2 out[2];
            NAT_UNROLL
            for (unsigned q = 0; q < 2; ++q) {
                const Quad scale = load_shared<Quad>(vectors + q), shift = load_shared<Quad>(vectors + quads + q);
                out[q] = pack_quad<T>(activate(p.stem_activation, multiply_add(sums[o][q], scale, shift)));
            }
            store_shared(to + o * c.expanded_pixel, make_uint4(out[0].x, out[0].y, out[1].x, out[1].y));
        }
    }
}

}  // namespace mbconv
