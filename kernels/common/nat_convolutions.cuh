// The shapes of the convolutions, which their kernels and those of their gradients take. A format is that of
// maps, as crate::ops::halves numbers it: the kernel's name says it too.
#pragma once

#include "nat_common.cuh"

struct PointwiseParams {
    unsigned images, side_in, side_out, cin, cout, weight_cin, stride, activation;
};

struct DepthwiseParams {
    unsigned images, side_in, side_out, channels, weight_channels, kernel, stride, activation, format;
};

// What depthwise.cu and depthwise_half.cu take. In f32 the means have a kernel of their own, and the last two are 0.
struct DepthwiseArgs {
    const void* x;
    const float* w;
    const float* scale;  // or null
    const float* shift;  // or null
    void* y;
    float* pool;  // or null
    DepthwiseParams p;
    unsigned groups;   // chunks of channels of a block, at most kMostGroups
    unsigned workers;  // threads that share out the strips of an image, for each chunk
};

struct StemParams {
    unsigned images, side_in, side_out, cout, activation, format;
};

// The row of a pointwise call's input that row m of its output reads.
__device__ __forceinline__ size_t input_row(const PointwiseParams& p, unsigned m) {
    if (p.stride == 1) return m;
    const unsigned pixels = p.side_out * p.side_out;
    const unsigned image = m / pixels, pixel = m % pixels;
    return (static_cast<size_t>(image) * p.side_in + pixel / p.side_out * p.stride) * p.side_in +
           pixel % p.side_out * p.stride;
}

// Gradients of a pointwise call's weights: rows of the product that one partial sum covers
// (crate::ops::grad::pointwise::BLOCK_ROWS), and elements from one to the next.
constexpr unsigned kPointwiseRows = 512;

__device__ __forceinline__ size_t pointwise_partial_len(const PointwiseParams& p) {
    return static_cast<size_t>(ceil_div(p.cout, kPanel)) * kPanel * p.cin;
}
