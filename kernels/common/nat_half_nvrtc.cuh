// __half and __nv_bfloat16 for NVRTC, which is used where no CUDA headers are at hand.
//
// The part of cuda_fp16.h and cuda_bf16.h that natv2's kernels use, under the same names.
#pragma once

struct __align__(2) __half { unsigned short bits; };
struct __align__(4) __half2 { __half x, y; };
struct __align__(2) __nv_bfloat16 { unsigned short bits; };
struct __align__(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
typedef __half half;
typedef __half2 half2;
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

__device__ __forceinline__ float __half2float(__half a) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(a.bits));
    return result;
}
__device__ __forceinline__ __half __float2half(float a) {
    __half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(a));
    return result;
}
__device__ __forceinline__ float __bfloat162float(__nv_bfloat16 a) {
    return __uint_as_float(static_cast<unsigned>(a.bits) << 16);
}
__device__ __forceinline__ __nv_bfloat16 __float2bfloat16(float a) {
    __nv_bfloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(a));
    return result;
}

__device__ __forceinline__ __half __float2half_rn(float a) { return __float2half(a); }
__device__ __forceinline__ __half2 __halves2half2(__half low, __half high) { return __half2{low, high}; }
__device__ __forceinline__ __half2 __floats2half2_rn(float low, float high) {
    return __half2{__float2half(low), __float2half(high)};
}
__device__ __forceinline__ __half2 __float22half2_rn(float2 a) { return __floats2half2_rn(a.x, a.y); }
__device__ __forceinline__ __half2 __float2half2_rn(float a) { return __floats2half2_rn(a, a); }
__device__ __forceinline__ float2 __half22float2(__half2 a) {
    return make_float2(__half2float(a.x), __half2float(a.y));
}
__device__ __forceinline__ float __low2float(__half2 a) { return __half2float(a.x); }
__device__ __forceinline__ float __high2float(__half2 a) { return __half2float(a.y); }

__device__ __forceinline__ __nv_bfloat16 __float2bfloat16_rn(float a) { return __float2bfloat16(a); }
__device__ __forceinline__ __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) {
    return __nv_bfloat162{low, high};
}
__device__ __forceinline__ __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
    return __nv_bfloat162{__float2bfloat16(low), __float2bfloat16(high)};
}
__device__ __forceinline__ __nv_bfloat162 __float22bfloat162_rn(float2 a) { return __floats2bfloat162_rn(a.x, a.y); }
__device__ __forceinline__ __nv_bfloat162 __float2bfloat162_rn(float a) { return __floats2bfloat162_rn(a, a); }
__device__ __forceinline__ float2 __bfloat1622float2(__nv_bfloat162 a) {
    return make_float2(__bfloat162float(a.x), __bfloat162float(a.y));
}
__device__ __forceinline__ float __low2float(__nv_bfloat162 a) { return __bfloat162float(a.x); }
__device__ __forceinline__ float __high2float(__nv_bfloat162 a) { return __bfloat162float(a.y); }
