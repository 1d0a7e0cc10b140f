// Device math functions under their CUDA names.
//
// expf, sqrtf, fmaf, fminf and the other functions of <cmath> are the C library's own. The names
// below are CUDA's alone, or names that glibc declares for itself without defining them (__expf),
// which is why they are macros. The fast forms are the accurate functions here: a card's result
// may differ from them in the last bits, and tests must allow for it.
#pragma once

#include "types.h"

namespace nat_emulator {

inline float reciprocal_square_root(float x) { return 1.0f / std::sqrt(x); }
inline float saturate(float x) { return std::fmin(std::fmax(x, 0.0f), 1.0f); }

// The value, out of the compiler's sight, so that it does not fuse a product into a sum.
template <class T>
inline T rounded(T x) {
#if defined(__x86_64__)
    asm("" : "+x"(x));
#elif defined(__aarch64__)
    asm("" : "+w"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}

}  // namespace nat_emulator

#define rsqrtf(x) nat_emulator::reciprocal_square_root(x)
#define __frsqrt_rn(x) nat_emulator::reciprocal_square_root(x)
#define __saturatef(x) nat_emulator::saturate(x)
#define __expf(x) std::exp(static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
#define __log2f(x) std::log2(static_cast<float>(x))
#define __powf(x, y) std::pow(static_cast<float>(x), static_cast<float>(y))
#define __fdividef(x, y) (static_cast<float>(x) / static_cast<float>(y))
#define __frcp_rn(x) (1.0f / static_cast<float>(x))
#define __fsqrt_rn(x) std::sqrt(static_cast<float>(x))
#define __fmul_rn(x, y) nat_emulator::rounded(static_cast<float>(x) * static_cast<float>(y))
#define __fadd_rn(x, y) nat_emulator::rounded(static_cast<float>(x) + static_cast<float>(y))
#define __dmul_rn(x, y) nat_emulator::rounded(static_cast<double>(x) * static_cast<double>(y))
#define __dadd_rn(x, y) nat_emulator::rounded(static_cast<double>(x) + static_cast<double>(y))
#define __fmaf_rn(a, b, c) std::fma(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c))

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __float_as_uint(float x) { return nat_emulator::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return nat_emulator::bit_cast<float>(x); }
inline int __float_as_int(float x) { return nat_emulator::bit_cast<int>(x); }
inline float __int_as_float(int x) { return nat_emulator::bit_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }

// A read through the read-only cache: a plain read here.
template <class T>
inline T __ldg(const T* address) {
    return *address;
}
