// What the passes of mbconv.cu measure: mean of each channel and sum of squared deviations from it (M2), for every
// unit of rows.
//
// What a unit is depends on the map's shape alone, and so does the order in which its rows are added: lanes
// of a warp have every 32nd row, and then exchange what they have. crate::ops::mbconv_pass::Units says the same.
// Deviations are taken from the unit's first row, as in batch_norm.cu.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

constexpr unsigned kUnitRows = 256;        // at most, of a map's rows, where a line of pixels has no more
constexpr unsigned kUnitImages = 32;       // at most, of small maps
constexpr unsigned kSmallMap = 64;         // fewer pixels than this
constexpr unsigned kSliceUnit = 64;        // rows of small maps that make a unit, at most: of what is in slices,
constexpr unsigned kOutputUnit = 16;       // and of the output, which has fewer channels to share out

// Units of a map: of one image several, each of some lines, or of several images one.
struct Units {
    unsigned pixels, lines, rows, images, an_image;

    __device__ __forceinline__ Units(unsigned side, unsigned small_rows)
        : pixels(side * side), lines(side), images(1), an_image(1) {
        if (pixels >= kSmallMap) {
            lines = min(max(kUnitRows / side, 1u), side);
            rows = lines * side;
            an_image = ceil_div(side, lines);
        } else {
            while (images < kUnitImages && 2 * images * pixels <= small_rows) images *= 2;
            rows = images * pixels;
        }
    }

    __device__ __forceinline__ unsigned of(unsigned some_images) const { return ceil_div(some_images, images) * an_image; }
};

// A lane's part of eight channels.
template <class T>
struct EightSums {
    float first[kHalfChunk], sum[kHalfChunk], square[kHalfChunk];

    static __device__ __forceinline__ void unpack(uint4 chunk, float (&to)[kHalfChunk]) {
        const unsigned words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
        NAT_UNROLL_ON_CARD
        for (int i = 0; i < 4; ++i) {
            const float2 pair = Halves<T>::unpack(words[i]);
            to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
        }
    }

    __device__ __forceinline__ explicit EightSums(uint4 first_row) {
        unpack(first_row, first);
        NAT_UNROLL_ON_CARD
        for (unsigned i = 0; i < kHalfChunk; ++i) sum[i] = square[i] = 0.0f;
    }

    __device__ __forceinline__ void add(uint4 row) {
        float value[kHalfChunk];
        unpack(row, value);
        NAT_UNROLL_ON_CARD
        for (unsigned i = 0; i < kHalfChunk; ++i) {
            const float deviation = value[i] - first[i];
            sum[i] = sum[i] + deviation;
            square[i] = deviation * deviation + square[i];
        }
    }

    // Adds up what all lanes have. Of two lanes each passes on the half of the channels that the other goes on
    // with, until lane `l` has channel l / 4, in place of the first: 18 exchanges instead of 80.
    __device__ __forceinline__ void reduce(unsigned lane) {
        NAT_UNROLL_ON_CARD
        for (unsigned half = kHalfChunk / 2; half > 0; half /= 2) {
            const unsigned distance = 4 * half;
            const bool upper = (lane & distance) != 0;
            NAT_UNROLL_ON_CARD
            for (unsigned i = 0; i < half; ++i) {
                const float given_sum = upper ? sum[i] : sum[i + half];
                const float given_square = upper ? square[i] : square[i + half];
                sum[i] = (upper ? sum[i + half] : sum[i]) + __shfl_xor_sync(0xffffffffu, given_sum, distance);
                square[i] = (upper ? square[i + half] : square[i]) + __shfl_xor_sync(0xffffffffu, given_square, distance);
                if (upper) first[i] = first[i + half];
            }
        }
        NAT_UNROLL_ON_CARD
        for (unsigned distance = 2; distance > 0; distance /= 2) {
            sum[0] = sum[0] + __shfl_xor_sync(0xffffffffu, sum[0], distance);
            square[0] = square[0] + __shfl_xor_sync(0xffffffffu, square[0], distance);
        }
    }
};

// Those of so many chunks of channels of the block's images, or of its band of one, from channel c0 of `channels`
// on: of so many rows. A warp takes a chunk of a unit; `chunk_at(row, chunk)` reads one of a row of the block.
template <class T, class ChunkAt>
__device__ NAT_PHASE void statistics(const MbconvPassBlock<T>& b, const Units& units, unsigned all_rows,
                                     unsigned channels, unsigned c0, unsigned chunks, ChunkAt chunk_at) {
    const bool bands = b.c.bands > 1;
    const unsigned lane = b.lane(), in_block = bands ? ceil_div(all_rows, units.rows) : units.of(b.images);
    const size_t first_unit = static_cast<size_t>(b.batch) * units.of(b.pass.batch_images) + units.of(b.first_in_batch) +
                              b.first_out / units.lines;
    for (unsigned item = b.warp(); item < in_block * chunks; item += kMbconvWarps) {
        const unsigned chunk = item % chunks, unit = item / chunks;
        const unsigned image = unit / units.an_image * units.images;
        const unsigned first_row = image * units.pixels + unit % units.an_image * units.rows;
        const unsigned rows = min(units.rows, min((image + units.images) * units.pixels, all_rows) - first_row);
        EightSums<T> sums(chunk_at(first_row, chunk));
        NAT_UNROLL_TWICE
        for (unsigned row = lane; row < rows; row += 32) sums.add(chunk_at(first_row + row, chunk));
        sums.reduce(lane);
        const float mean = sums.sum[0] * (1.0f / static_cast<float>(rows));
        const float squares = nat_max(sums.square[0] - sums.sum[0] * mean, 0.0f);
        // Eight lanes store the means, eight others the squares.
        if (lane % 4 >= 2) continue;
        float* to = b.pass.partials + ((first_unit + unit) * 2 + lane % 4) * channels + c0 + kHalfChunk * chunk;
        to[lane / 4] = lane % 4 == 0 ? sums.first[0] + mean : squares;
    }
}

// Of a slice from channel c0 on, of so many lines, whose pixels lie one behind the other.
template <class T>
__device__ __forceinline__ void statistics_of_slice(const MbconvPassBlock<T>& b, const uint4* slice, unsigned side,
                                                    unsigned lines, unsigned c0) {
    const unsigned pitch = b.c.expanded_pixel;
    statistics(b, Units(side, kSliceUnit), lines * side, b.p.mid, c0, min(b.c.slice, b.p.mid - c0) / kHalfChunk,
               [=](unsigned row, unsigned chunk) { return load_shared<uint4>(slice + row * pitch + chunk); });
}

// Of the output, which the block has just written: it is in the nearest cache.
template <class T>
__device__ __forceinline__ void statistics_of_output(const MbconvPassBlock<T>& b) {
    const MbconvParams& p = b.p;
    const unsigned chunks = p.cout / kHalfChunk;
    const uint4* y = reinterpret_cast<const uint4*>(b.a.y) + b.first_row_out() * chunks;
    statistics(b, Units(p.side_out, kOutputUnit), b.rows_out(), p.cout, 0, chunks,
               [=](unsigned row, unsigned chunk) { return y[row * chunks + chunk]; });
}

}  // namespace mbconv
