// 16-bit numbers in kernels: two in a 32-bit word, and their products on tensor cores.
#pragma once

#include "nat_common.cuh"

constexpr unsigned kHalfChunk = 8;  // numbers of a 16-byte chunk

// What differs between the formats. A word holds two numbers, the first in its lower half.
template <class T>
struct Halves;

template <>
struct Halves<__half> {
    static __device__ __forceinline__ float2 unpack(unsigned word) {
        return __half22float2(*reinterpret_cast<const __half2*>(&word));
    }
    static __device__ __forceinline__ unsigned pack(float low, float high) {
        const __half2 pair = __floats2half2_rn(low, high);
        return *reinterpret_cast<const unsigned*>(&pair);
    }
    static __device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4],
                                                        const unsigned (&b)[2]) {
        nat_mma_f16(sums, a, b, sums);
    }
};

template <>
struct Halves<__nv_bfloat16> {
    static __device__ __forceinline__ float2 unpack(unsigned word) {
        return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&word));
    }
    static __device__ __forceinline__ unsigned pack(float low, float high) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        return *reinterpret_cast<const unsigned*>(&pair);
    }
    static __device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4],
                                                        const unsigned (&b)[2]) {
        nat_mma_bf16(sums, a, b, sums);
    }
};

// Both numbers of a word times a factor each, rounded again.
template <class T>
__device__ __forceinline__ unsigned scaled(unsigned word, float low, float high) {
    const float2 pair = Halves<T>::unpack(word);
    return Halves<T>::pack(pair.x * low, pair.y * high);
}

// The numbers of a chunk times eight factors.
template <class T>
__device__ __forceinline__ uint4 scaled_chunk(uint4 v, const float* factors) {
    const Quad first = load_quad(factors), second = load_quad(factors + 4);
    return make_uint4(scaled<T>(v.x, first.x, first.y), scaled<T>(v.y, first.z, first.w),
                      scaled<T>(v.z, second.x, second.y), scaled<T>(v.w, second.z, second.w));
}
