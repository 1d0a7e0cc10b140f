// Maps in f32, f16 and bf16 by one kernel source: 16 bytes of numbers as quads of floats.
//
// A kernel is a template over what a number of its maps is stored as. Numbers become floats when they
// are read, exactly, and are rounded once, to nearest, when they are written; everything between is f32.
// A chunk is 16 bytes: one quad in f32, two in a 16-bit format. Channels are multiples of 8, so a chunk
// never crosses a pixel.
#pragma once

#include "nat_halves.cuh"

template <class T>
__device__ __forceinline__ Quad unpack_quad(unsigned first, unsigned second) {
    const float2 low = Halves<T>::unpack(first), high = Halves<T>::unpack(second);
    return make_float4(low.x, low.y, high.x, high.y);
}

// Numbers of a chunk, and the quads that they are.
template <class T>
constexpr unsigned kChunk = 16 / sizeof(T);
template <class T>
constexpr unsigned kChunkQuads = kChunk<T> / 4;

template <class T>
struct Chunk {
    Quad quads[kChunkQuads<T>];
};

template <class T>
__device__ __forceinline__ Chunk<T> load_chunk(const T* from) {
    if constexpr (sizeof(T) == 4) {
        return {{load_quad(from)}};
    } else {
        const uint4 words = *reinterpret_cast<const uint4*>(from);
        return {{unpack_quad<T>(words.x, words.y), unpack_quad<T>(words.z, words.w)}};
    }
}

template <class T>
__device__ __forceinline__ void store_chunk(T* to, const Chunk<T>& value) {
    if constexpr (sizeof(T) == 4) {
        store_quad(to, value.quads[0]);
    } else {
        const Quad first = value.quads[0], second = value.quads[1];
        *reinterpret_cast<uint4*>(to) =
            make_uint4(Halves<T>::pack(first.x, first.y), Halves<T>::pack(first.z, first.w),
                       Halves<T>::pack(second.x, second.y), Halves<T>::pack(second.z, second.w));
    }
}

// As many floats, whatever the format of the map is.
template <class T>
__device__ __forceinline__ void store_floats(float* to, const Chunk<T>& value) {
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) store_quad(to + 4 * q, value.quads[q]);
}

template <class T>
__device__ __forceinline__ Chunk<T> operator+(Chunk<T> a, const Chunk<T>& b) {
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) a.quads[q] = a.quads[q] + b.quads[q];
    return a;
}

// One quad of a map: 8 bytes in a 16-bit format.
template <class T>
__device__ __forceinline__ Quad load_numbers(const T* from) {
    if constexpr (sizeof(T) == 4) {
        return load_quad(from);
    } else {
        const uint2 words = *reinterpret_cast<const uint2*>(from);
        return unpack_quad<T>(words.x, words.y);
    }
}

template <class T>
__device__ __forceinline__ void store_numbers(T* to, Quad value) {
    if constexpr (sizeof(T) == 4) {
        store_quad(to, value);
    } else {
        *reinterpret_cast<uint2*>(to) =
            make_uint2(Halves<T>::pack(value.x, value.y), Halves<T>::pack(value.z, value.w));
    }
}

// KERNEL(suffix, type) for each format; crate::ops::halves names the kernels with the same suffixes.
#define NAT_EVERY_FORMAT(KERNEL) \
    KERNEL(f32, float)           \
    KERNEL(f16, __half)          \
    KERNEL(bf16, __nv_bfloat16)
