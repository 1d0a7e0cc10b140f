// The phases of mbconv.cu in their order. mbconv.cu says what they compute; how is in
//
//   mbconv_block.cuh      operands, and what lies where in shared memory
//   mbconv_stem.cuh       the stem in place of an expansion
//   mbconv_products.cuh   expansion and projection on tensor cores
//   mbconv_depthwise.cuh  the filter
//   mbconv_squeeze.cuh    squeeze-and-excitation
#pragma once

#include "mbconv_depthwise.cuh"
#include "mbconv_products.cuh"
#include "mbconv_squeeze.cuh"
#include "mbconv_stem.cuh"

template <class T, int kKernel, int kStride>
__device__ __forceinline__ void mbconv_block(const MbconvLaunch& launch, uint4* shared) {
    using namespace mbconv;
    const MbconvBlock<T> b(launch, shared);
    const MbconvParams& p = b.p;
    const bool expands = b.a.expand != nullptr;
    if (threadIdx.x == 0) shared[0] = make_uint4(0, 0, 0, 0);
    clear_margins(b);
    if (expands) {
        copy_input(b);
        copy_weights(b, 0);
        nat_async_commit();
    }
    for (unsigned c0 = 0; c0 < p.mid; c0 += b.c.slice) {
        if (expands) {
            nat_async_wait<0>();
            __syncthreads();  // the weights are there, and the slice before is read
            copy_filter(b, c0);
            nat_async_commit();
            expand(b, c0);
            nat_async_wait<0>();
            __syncthreads();
            if (c0 + b.c.slice < p.mid) copy_weights(b, c0 + b.c.slice);
        } else {
            __syncthreads();
            copy_filter(b, c0);
            copy_map(b, c0);
            nat_async_commit();
            nat_async_wait<0>();
            __syncthreads();
        }
        nat_async_commit();
        depthwise_slice<kKernel, kStride>(b, c0);
    }
    __syncthreads();
    if (b.a.reduce != nullptr) squeeze_excite(b);
    project<false>(b);
}

// With a stem, behind which the filter is 3x3 with stride 1: the first layers of a network.
template <class T>
__device__ __forceinline__ void mbconv_stem_block(const MbconvLaunch& launch, uint4* shared) {
    using namespace mbconv;
    const MbconvBlock<T> b(launch, shared);
    if (threadIdx.x == 0) shared[0] = make_uint4(0, 0, 0, 0);
    clear_margins(b);
    copy_images(b);
    copy_stem(b);
    copy_filter(b, 0);
    nat_async_commit();
    nat_async_wait<0>();
    __syncthreads();
    stem(b);
    __syncthreads();
    depthwise_slice<3, 1>(b, 0);
    __syncthreads();
    project<true>(b);
}

// Rows of the grid are as long as the longest needs.
#define MBCONV_KERNEL(name, T, kernel, stride)                            \
    NAT_KERNEL_BOUNDED(name, kMbconvThreads, MbconvGroup all) {        \
        NAT_DYNAMIC_SHARED(uint4, shared);                                \
        const MbconvLaunch& launch = all.calls[blockIdx.y];               \
        if (blockIdx.x * launch.c.images >= launch.a.p.images) return;    \
        mbconv_block<T, kernel, stride>(launch, shared);                  \
    }

#define MBCONV_STEM_KERNEL(name, T)                                       \
    NAT_KERNEL_BOUNDED(name, kMbconvThreads, MbconvGroup all) {           \
        NAT_DYNAMIC_SHARED(uint4, shared);                                \
        const MbconvLaunch& launch = all.calls[blockIdx.y];               \
        if (blockIdx.x * launch.c.images >= launch.a.p.images) return;    \
        mbconv_stem_block<T>(launch, shared);                             \
    }
