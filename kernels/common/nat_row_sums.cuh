// Sums over the rows of a map, first pass: a block of threads has 32 channels of some rows.
//
// Eight threads in f32, four in 16 bits, take the 16 bytes each of a row's channels, and there are so many lanes
// of them, each with every 16th or 32nd row. The lanes' sums meet in shared memory and are added in order.
#pragma once

#include "nat_formats.cuh"

constexpr unsigned kRowSumChannels = 32, kRowSumThreads = 128;

template <class T>
struct RowSums {
    static constexpr unsigned kChunks = kRowSumChannels / kChunk<T>;
    static constexpr unsigned kLanes = kRowSumThreads / kChunks;
    static constexpr unsigned kQuads = kChunkQuads<T> * kRowSumThreads;  // of shared memory, a sum

    unsigned c;      // the first channel of this thread
    unsigned lane;   // its first row
    unsigned block;  // its block of rows

    __device__ __forceinline__ explicit RowSums(unsigned channels) {
        const unsigned groups = ceil_div(channels, kRowSumChannels);
        c = blockIdx.x % groups * kRowSumChannels + threadIdx.x % kChunks * kChunk<T>;
        lane = threadIdx.x / kChunks;
        block = blockIdx.x / groups;
    }

    // Leaves this thread's sum for the first lane, which takes it behind a barrier. A quad of a chunk has a part
    // of its own, so that neighbouring threads write neighbouring quads.
    static __device__ __forceinline__ void leave(Quad* shared, const Chunk<T>& sum) {
        NAT_UNROLL
        for (unsigned q = 0; q < kChunkQuads<T>; ++q) shared[q * kRowSumThreads + threadIdx.x] = sum.quads[q];
    }

    // The sum that lane `i` has left for a thread of the first lane.
    static __device__ __forceinline__ Chunk<T> left(const Quad* shared, unsigned i) {
        Chunk<T> sum;
        NAT_UNROLL
        for (unsigned q = 0; q < kChunkQuads<T>; ++q) sum.quads[q] = shared[q * kRowSumThreads + i * kChunks + threadIdx.x];
        return sum;
    }
};
