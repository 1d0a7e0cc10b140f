// What the operators' kernels share: four floats at a time, activations, the layout table.
//
// Activations are NHWC and every channel count is a multiple of 8, so a kernel handles four
// channels as one float4 ("quad") and never has a tail inside one. Element counts of whole maps may
// pass 2^32, so maps are indexed with size_t and only places inside an image or a tile with unsigned.
#pragma once

#include "nat_device.cuh"

#if defined(NATV2_EMULATOR)
#include "layout.h"
// The host compiler keeps arrays in registers only where it unrolls the loops over them.
#define NAT_UNROLL _Pragma("GCC unroll 64")
#define NAT_UNROLL_TWICE _Pragma("GCC unroll 2")
#define NAT_UNROLL_ON_CARD
#define NAT_ROLLED
#define NAT_PHASE inline __attribute__((noinline))
#else
#define NAT_LAYOUT(T, ...) static_assert(sizeof(T) > 0, "")
#define NAT_UNROLL _Pragma("unroll")
#define NAT_UNROLL_TWICE _Pragma("unroll 2")
#define NAT_UNROLL_ON_CARD NAT_UNROLL   // long loops, which take the host compiler too long
#define NAT_ROLLED _Pragma("unroll 1")  // a loop whose body is large enough
#define NAT_PHASE __forceinline__       // a large part of several kernels, one function to the host compiler
#endif

using Quad = float4;

// Output channels of a panel of pointwise weights; crate::ops::PANEL.
constexpr unsigned kPanel = 16;

// crate::space::Activation.
enum Activation : unsigned { kNone = 0, kRelu = 1, kHSwish = 2, kHSigmoid = 3 };

// Of NaN activations and derivatives are NaN.
__device__ __forceinline__ float hsigmoid(float x) { return nat_min(nat_max(x + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f); }

// All of them, and one is chosen: where the compiler sees branches, it makes a copy of what is around for each.
__device__ __forceinline__ float activate(unsigned activation, float x) {
    const float relu = nat_max(x, 0.0f), gate = hsigmoid(x);
    return activation == kRelu       ? relu
           : activation == kHSwish   ? x * gate
           : activation == kHSigmoid ? gate
                                     : x;
}

// The same by a branch, for kernels whose registers are short.
__device__ __forceinline__ float activate_by_branch(unsigned activation, float x) {
    switch (activation) {
        case kRelu: return nat_max(x, 0.0f);
        case kHSwish: return x * hsigmoid(x);
        case kHSigmoid: return hsigmoid(x);
        default: return x;
    }
}

// The activation's derivative; at a corner that of the outer branch, at NaN NaN.
__device__ __forceinline__ float derivative(unsigned activation, float x) {
    const float relu = x > 0.0f ? 1.0f : 0.0f;
    const float hswish = x >= 3.0f ? 1.0f : x > -3.0f ? x * (1.0f / 3.0f) + 0.5f : 0.0f;
    const float gate = x > -3.0f && x < 3.0f ? 1.0f / 6.0f : 0.0f;
    const float slope = activation == kRelu ? relu : activation == kHSwish ? hswish : gate;
    return activation == kNone ? 1.0f : x == x ? slope : x;
}

__device__ __forceinline__ Quad splat(float x) { return make_float4(x, x, x, x); }

__device__ __forceinline__ Quad load_quad(const float* from) { return *reinterpret_cast<const Quad*>(from); }

__device__ __forceinline__ void store_quad(float* to, Quad value) { *reinterpret_cast<Quad*>(to) = value; }

// The quad at `from + offset`, or `other` where there is no array.
__device__ __forceinline__ Quad load_quad_or(const float* from, unsigned offset, float other) {
    return from != nullptr ? load_quad(from + offset) : splat(other);
}

__device__ __forceinline__ Quad operator+(Quad a, Quad b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ Quad operator-(Quad a, Quad b) {
    return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}

__device__ __forceinline__ Quad operator*(Quad a, Quad b) {
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

// sum + a * b, fused.
__device__ __forceinline__ Quad multiply_add(Quad a, Quad b, Quad sum) {
    return make_float4(a.x * b.x + sum.x, a.y * b.y + sum.y, a.z * b.z + sum.z, a.w * b.w + sum.w);
}

__device__ __forceinline__ Quad multiply_add(float a, Quad b, Quad sum) {
    return make_float4(a * b.x + sum.x, a * b.y + sum.y, a * b.z + sum.z, a * b.w + sum.w);
}

__device__ __forceinline__ Quad max_quad(Quad a, Quad b) {
    return make_float4(nat_max(a.x, b.x), nat_max(a.y, b.y), nat_max(a.z, b.z), nat_max(a.w, b.w));
}

__device__ __forceinline__ Quad activate(unsigned activation, Quad v) {
    return make_float4(activate(activation, v.x), activate(activation, v.y), activate(activation, v.z),
                       activate(activation, v.w));
}

__device__ __forceinline__ Quad activate_by_branch(unsigned activation, Quad v) {
    return make_float4(activate_by_branch(activation, v.x), activate_by_branch(activation, v.y),
                       activate_by_branch(activation, v.z), activate_by_branch(activation, v.w));
}

__device__ __forceinline__ Quad derivative(unsigned activation, Quad v) {
    return make_float4(derivative(activation, v.x), derivative(activation, v.y), derivative(activation, v.z),
                       derivative(activation, v.w));
}

__device__ __forceinline__ float component(Quad v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

__host__ __device__ __forceinline__ constexpr unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }
