// What expand_depthwise.cu leaves of a slice of the depthwise output: the slice itself, and the means of its rows.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

template <class T>
struct PairBlock : MbconvBlock<T> {
    float* means;

    __device__ __forceinline__ PairBlock(const ExpandDepthwiseLaunch& launch, uint4* memory)
        : MbconvBlock<T>(launch.whole, memory, launch.batch_images), means(launch.means) {
        this->rounds = launch.rounds != 0;
    }
};

// A mean is one sum over the columns in their order, of numbers as they are stored. A thread has two channels of
// a row: neighbours read neighbouring banks.
template <class T>
__device__ NAT_PHASE void leave_means(const PairBlock<T>& b, const uint4* slice, unsigned c0, unsigned chunks) {
    const MbconvParams& p = b.p;
    const unsigned pitch = b.c.expanded_pixel, words = chunks * kHalfChunk / 2;
    const float share = 1.0f / static_cast<float>(p.side_out);
    float* means = b.means + b.first_row_out() / p.side_out * p.mid + c0;
    for (unsigned i = threadIdx.x; i < b.lines_out * words; i += kMbconvThreads) {
        const unsigned row = i / words, word = i % words;
        const unsigned* from = reinterpret_cast<const unsigned*>(slice + row * p.side_out * pitch) + word;
        float2 sum = make_float2(0.0f, 0.0f);
        for (unsigned x = 0; x < p.side_out; ++x, from += 4 * pitch) {
            const float2 pair = Halves<T>::unpack(load_shared<unsigned>(from));
            sum = make_float2(sum.x + pair.x, sum.y + pair.y);
        }
        float* to = means + static_cast<size_t>(row) * p.mid + 2 * word;
        *reinterpret_cast<float2*>(to) = make_float2(sum.x * share, sum.y * share);
    }
}

template <class T>
__device__ NAT_PHASE void leave_slice(const PairBlock<T>& b, unsigned c0) {
    const MbconvParams& p = b.p;
    const unsigned pitch = b.c.expanded_pixel, chunks = min(b.c.slice, p.mid - c0) / kHalfChunk;
    const uint4* slice = b.shared + b.c.kept_at;
    uint16_t* y = b.a.y + b.first_row_out() * p.mid + c0;
    // Threads pass the gaps over, so that eight neighbours read from different banks.
    for (unsigned i = threadIdx.x; i < b.rows_out() * pitch; i += kMbconvThreads) {
        const unsigned pixel = i / pitch, chunk = i % pitch;
        if (chunk >= chunks) continue;
        uint16_t* to = y + static_cast<size_t>(pixel) * p.mid + kHalfChunk * chunk;
        *reinterpret_cast<uint4*>(to) = load_shared<uint4>(slice + i);
    }
    if (b.means != nullptr) leave_means(b, slice, c0, chunks);
}

}  // namespace mbconv
