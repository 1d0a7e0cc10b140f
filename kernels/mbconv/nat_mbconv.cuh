// The phases of mbconv.cu in their order. mbconv.cu says what they compute; how is in
//
//   nat_mbconv_block.cuh      operands, and what lies where in shared memory
//   nat_mbconv_stem.cuh       the stem in place of an expansion
//   nat_mbconv_products.cuh   expansion and projection on tensor cores
//   nat_mbconv_depthwise.cuh  the filter
//   nat_mbconv_squeeze.cuh    squeeze-and-excitation
//   nat_mbconv_statistics.cuh what the passes of mbconv_passes.cu measure
//   nat_mbconv_pair.cuh       what expand_depthwise.cu leaves
#pragma once

#include "nat_mbconv_depthwise.cuh"
#include "nat_mbconv_pair.cuh"
#include "nat_mbconv_products.cuh"
#include "nat_mbconv_squeeze.cuh"
#include "nat_mbconv_statistics.cuh"
#include "nat_mbconv_stem.cuh"

// All slices of the depthwise output. A second pass has one at a time, for its statistics, and so has the first of
// a pair, which gives it away.
template <int kKernel, int kStride, MbconvPass kPass, class Block>
__device__ __forceinline__ void mbconv_filtered(const Block& b) {
    using namespace mbconv;
    const MbconvParams& p = b.p;
    const bool expands = b.a.expand != nullptr;
    if (threadIdx.x == 0) b.shared[0] = make_uint4(0, 0, 0, 0);
    clear_margins(b);
    if (expands) {
        copy_input(b);
        copy_weights<kPass>(b, 0);
        nat_async_commit();
    }
    for (unsigned c0 = 0; c0 < p.mid; c0 += b.c.slice) {
        if (expands) {
            nat_async_wait<0>();
            __syncthreads();  // the weights are there, and the slice before is read
            copy_filter<kPass>(b, c0);
            nat_async_commit();
            expand<kPass>(b, c0);
            nat_async_wait<0>();
            __syncthreads();
            if (c0 + b.c.slice < p.mid) copy_weights<kPass>(b, c0 + b.c.slice);
        } else {
            __syncthreads();
            copy_filter<kPass>(b, c0);
            copy_map(b, c0);
            nat_async_commit();
            nat_async_wait<0>();
            __syncthreads();
        }
        nat_async_commit();
        depthwise_slice<kKernel, kStride, kPass>(b, c0);
        if constexpr (kPass == MbconvPass::kFiltered) {
            __syncthreads();
            statistics_of_slice(b, b.shared + b.c.kept_at, p.side_out, b.lines_out, c0);
        } else if constexpr (kPass == MbconvPass::kDepthwise) {
            __syncthreads();
            leave_slice(b, c0);
        }
    }
}

template <int kKernel, int kStride, MbconvPass kPass, class T>
__device__ __forceinline__ void mbconv_projected(const MbconvBlock<T>& b) {
    using namespace mbconv;
    mbconv_filtered<kKernel, kStride, kPass>(b);
    __syncthreads();
    if (b.a.reduce != nullptr) squeeze_excite(b);
    project<false, kPass>(b);
}

template <class T, int kKernel, int kStride>
__device__ __forceinline__ void mbconv_block(const MbconvLaunch& launch, uint4* shared) {
    mbconv_projected<kKernel, kStride, MbconvPass::kWhole>(MbconvBlock<T>(launch, shared, launch.a.p.images));
}

// With a stem, behind which the filter is 3x3 with stride 1: the first layers of a network.
template <class T>
__device__ __forceinline__ void mbconv_stem_block(const MbconvLaunch& launch, uint4* shared) {
    using namespace mbconv;
    const MbconvBlock<T> b(launch, shared, launch.a.p.images);
    if (threadIdx.x == 0) shared[0] = make_uint4(0, 0, 0, 0);
    clear_margins(b);
    copy_images(b);
    copy_stem(b);
    copy_filter<MbconvPass::kWhole>(b, 0);
    nat_async_commit();
    nat_async_wait<0>();
    __syncthreads();
    stem(b);
    __syncthreads();
    depthwise_slice<3, 1, MbconvPass::kWhole>(b, 0);
    __syncthreads();
    project<true, MbconvPass::kWhole>(b);
}

// A pass, on images of one batch, or a band of one of them.
template <class T, MbconvPass kPass, int kKernel, int kStride>
__device__ __forceinline__ void mbconv_pass_block(const MbconvPassLaunch& launch, uint4* shared) {
    using namespace mbconv;
    const MbconvPassBlock<T> b(launch, shared);
    const MbconvParams& p = b.p;
    if constexpr (kPass == MbconvPass::kFiltered) {
        mbconv_filtered<kKernel, kStride, kPass>(b);
    } else if constexpr (kPass == MbconvPass::kProjected) {
        mbconv_projected<kKernel, kStride, kPass>(b);
        statistics_of_output(b);  // a barrier is behind the last store
    } else {
        if (threadIdx.x == 0) shared[0] = make_uint4(0, 0, 0, 0);
        copy_input(b);
        copy_weights<kPass>(b, 0);
        nat_async_commit();
        for (unsigned c0 = 0; c0 < p.mid; c0 += b.c.slice) {
            nat_async_wait<0>();
            __syncthreads();  // the weights are there, and the slice before is read
            expand<kPass>(b, c0);
            __syncthreads();
            if (c0 + b.c.slice < p.mid) copy_weights<kPass>(b, c0 + b.c.slice);
            nat_async_commit();
            statistics_of_slice(b, b.expanded(), p.side_in, b.lines_in, c0);
        }
    }
}

// Rows of the grid are as long as the longest needs.
#define MBCONV_KERNEL(name, T, kernel, stride)                                          \
    NAT_KERNEL_BOUNDED(name, kMbconvThreads, MbconvGroup all) {                         \
        NAT_DYNAMIC_SHARED(uint4, shared);                                              \
        const MbconvLaunch& launch = all.calls[blockIdx.y];                             \
        if (!has_images(launch, launch.a.p.images)) return;                             \
        mbconv_block<T, kernel, stride>(launch, shared);                                \
    }

#define MBCONV_STEM_KERNEL(name, T)                                                     \
    NAT_KERNEL_BOUNDED(name, kMbconvThreads, MbconvGroup all) {                         \
        NAT_DYNAMIC_SHARED(uint4, shared);                                              \
        const MbconvLaunch& launch = all.calls[blockIdx.y];                             \
        if (!has_images(launch, launch.a.p.images)) return;                             \
        mbconv_stem_block<T>(launch, shared);                                           \
    }

// For two resident blocks: left to itself, the compiler makes room for a third or a fourth and spills registers.
#define MBCONV_PASS_KERNEL(name, T, pass, kernel, stride)                                       \
    NAT_KERNEL_RESIDENT(name, kMbconvThreads, 2, MbconvPassGroup all) {                         \
        NAT_DYNAMIC_SHARED(uint4, shared);                                                      \
        const MbconvPassLaunch& launch = all.calls[blockIdx.y];                                 \
        if (!has_images(launch.whole, launch.batch_images)) return;                             \
        mbconv_pass_block<T, MbconvPass::pass, kernel, stride>(launch, shared);                 \
    }
