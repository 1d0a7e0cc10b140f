// The second pass of a reduction: partial sums, which a first pass left in memory, to a sum.
//
// The shape of the reduction is a function of the call's shape alone, and everything is added in order:
// no atomics, the same bits every time.
#pragma once

#include "nat_common.cuh"

// A block adds up 16 neighbouring quads, eight threads each.
constexpr unsigned kPartialQuads = 16, kPartialSegments = 8;
constexpr unsigned kPartialThreads = kPartialQuads * kPartialSegments;

// The quad of this thread among all, and which of its eight threads this is.
__device__ __forceinline__ unsigned partial_quad() { return blockIdx.x * kPartialQuads + threadIdx.x % kPartialQuads; }
__device__ __forceinline__ unsigned partial_segment() { return threadIdx.x / kPartialQuads; }

// The sum of the `count` quads from `from` on, `stride` floats apart, or nothing where `from` is null. Each
// thread adds consecutive ones, then the first of the eight adds their sums: it alone is given the whole.
// Every thread of a block calls it, with shared memory of kPartialThreads quads.
__device__ __forceinline__ Quad merge_partials(const float* from, size_t stride, unsigned count, Quad* segments) {
    const unsigned length = ceil_div(count, kPartialSegments), segment = partial_segment();
    Quad sum = splat(0.0f);
    if (from != nullptr) {
        for (unsigned i = segment * length; i < min((segment + 1) * length, count); ++i) {
            sum = sum + load_quad(from + i * stride);
        }
    }
    segments[threadIdx.x] = sum;
    __syncthreads();
    if (segment == 0) {
        for (unsigned i = 1; i < kPartialSegments; ++i) sum = sum + segments[i * kPartialQuads + threadIdx.x];
    }
    return sum;
}
