// The only header a kernel includes. It makes one source readable by four compilers: nvcc, NVRTC
// (which has no headers of its own to include), and g++ or clang++ against the emulator.
//
//   NAT_KERNEL(name, parameters...) { body }         a kernel that can be launched by name
//   NAT_KERNEL_BOUNDED(name, threads, parameters...) the same, for blocks of at most `threads`
//   NAT_KERNEL_RESIDENT(name, threads, blocks, parameters...) and so many blocks at once on a multiprocessor
//   NAT_SHARED(type, name, count)                    a static shared array
//   NAT_DYNAMIC_SHARED(type, name)                   the dynamic shared memory, 16-byte aligned
//   nat_mma_f16, nat_mma_bf16                        mma.m16n8k16, f32 accumulation
//   nat_ldmatrix_x1, _x2, _x4, and _trans            8 x 8 matrices of 16-bit elements
//   nat_async_copy<16>, _commit, nat_async_wait<N>   cp.async
//   nat_max, nat_min                                 of two floats, NaN where either is; fmaxf and fminf take the other
//   nat_note_shared(address, bytes)                  an access whose bank conflicts the emulator counts
//
// Everything else is plain CUDA: threadIdx, __syncthreads, __shfl_xor_sync, atomicAdd, float4, ...
// A literal __shared__ or inline assembly does not belong in a kernel file: it would not pass the
// emulator. Write a * b + c for a fused multiply-add; nvcc contracts it.
//
// A build with -DNATV2_EMULATOR takes the emulator's side.
#pragma once

#if defined(NATV2_EMULATOR)

#include "emulator.h"

// The wrappers below pass on where they were called, for error messages.
#define NAT_CALLER_PARAMETER , NAT_EMULATOR_CALLER

#else

#define NAT_CALLER_PARAMETER

#if defined(__CUDACC_RTC__)
#include "nat_half_nvrtc.cuh"
using uint64_t = unsigned long long;
using int64_t = long long;
using uint32_t = unsigned int;
using int32_t = int;
using uint16_t = unsigned short;
using uint8_t = unsigned char;
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#define NAT_KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define NAT_KERNEL_BOUNDED(name, threads, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define NAT_KERNEL_RESIDENT(name, threads, blocks, ...) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)
#define NAT_SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define NAT_DYNAMIC_SHARED(T, name)                                        \
    extern __shared__ __align__(16) unsigned char nat_dynamic_shared[];    \
    T* name = reinterpret_cast<T*>(nat_dynamic_shared)

#endif

// D = A B + C on one warp, A 16 x 16 row-major, B 16 x 8 column-major, C and D 16 x 8 in f32.
// The fragment layouts are those of mma.sync.m16n8k16 in the PTX manual. d and c may be the same.
__device__ __forceinline__ void nat_mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                            const float (&c)[4] NAT_CALLER_PARAMETER) {
#if defined(NATV2_EMULATOR)
    nat_emulator::mma_m16n8k16(nat_emulator::MmaType::kHalf, d, a, b, c, NAT_EMULATOR_SITE);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#endif
}

__device__ __forceinline__ void nat_mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                             const float (&c)[4] NAT_CALLER_PARAMETER) {
#if defined(NATV2_EMULATOR)
    nat_emulator::mma_m16n8k16(nat_emulator::MmaType::kBfloat16, d, a, b, c, NAT_EMULATOR_SITE);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#endif
}

// The larger and the smaller of two floats, and NaN where either is NaN: what is no number in a network must reach its
// end. One instruction, as fmaxf and fminf are. Of two zeros +0 is the larger.
__device__ __forceinline__ float nat_max(float a, float b) {
#if defined(NATV2_EMULATOR)
    return a > b || a != a ? a : b;
#else
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
#endif
}

__device__ __forceinline__ float nat_min(float a, float b) {
#if defined(NATV2_EMULATOR)
    return a < b || a != a ? a : b;
#else
    float result;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
#endif
}

// Load one, two or four 8 x 8 matrices of 16-bit elements from shared memory. Lanes 8i to 8i + 7
// give the addresses, multiples of 16, of the rows of matrix i; the other lanes' are ignored.
// Register i holds of matrix i row lane / 4, columns 2 (lane % 4) and the next; with _trans,
// column lane / 4, rows 2 (lane % 4) and the next.
#if defined(NATV2_EMULATOR)
#define NAT_DEFINE_LDMATRIX(name, count, transpose, ptx, registers, address)                             \
    __device__ __forceinline__ void name(unsigned (&r)[count], const void* row NAT_CALLER_PARAMETER) {     \
        nat_emulator::ldmatrix(r, row, count, transpose, NAT_EMULATOR_SITE);                             \
    }
#else
#define NAT_DEFINE_LDMATRIX(name, count, transpose, ptx, registers, address)                             \
    __device__ __forceinline__ void name(unsigned (&r)[count], const void* row) {                        \
        const unsigned shared_row = static_cast<unsigned>(__cvta_generic_to_shared(row));                \
        asm volatile("ldmatrix.sync.aligned.m8n8." ptx ".shared.b16 " registers ", [" address "];"       \
                     : NAT_OUTPUTS_##count(r)                                                            \
                     : "r"(shared_row)                                                                   \
                     : "memory");                                                                        \
    }
#define NAT_OUTPUTS_1(r) "=r"(r[0])
#define NAT_OUTPUTS_2(r) "=r"(r[0]), "=r"(r[1])
#define NAT_OUTPUTS_4(r) "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
#endif
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x1, 1, false, "x1", "{%0}", "%1")
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x2, 2, false, "x2", "{%0,%1}", "%2")
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x4, 4, false, "x4", "{%0,%1,%2,%3}", "%4")
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x1_trans, 1, true, "x1.trans", "{%0}", "%1")
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x2_trans, 2, true, "x2.trans", "{%0,%1}", "%2")
NAT_DEFINE_LDMATRIX(nat_ldmatrix_x4_trans, 4, true, "x4.trans", "{%0,%1,%2,%3}", "%4")
#undef NAT_DEFINE_LDMATRIX

// Starts copying `bytes` (4, 8 or 16; addresses are multiples of it) from global to shared memory;
// where `valid` is false, zeros are written and nothing is read. The data is there for this thread
// after nat_async_wait for its group, for the others after a barrier that follows it.
template <int bytes>
__device__ __forceinline__ void nat_async_copy(void* shared_to, const void* global_from, bool valid = true
                                               NAT_CALLER_PARAMETER) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(NATV2_EMULATOR)
    nat_emulator::async_copy(shared_to, global_from, bytes, valid ? bytes : 0, NAT_EMULATOR_SITE);
#else
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared_to));
    const int source_bytes = valid ? bytes : 0;
    if (bytes == 16) {  // past L1
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global_from), "r"(source_bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global_from), "n"(bytes),
                     "r"(source_bytes)
                     : "memory");
    }
#endif
}

// Closes a group: the copies started since the last commit.
__device__ __forceinline__ void nat_async_commit() {
#if defined(NATV2_EMULATOR)
    nat_emulator::async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the `pending` newest groups are outstanding.
template <int pending>
__device__ __forceinline__ void nat_async_wait() {
#if defined(NATV2_EMULATOR)
    nat_emulator::async_wait(pending);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Nothing on a card. Where the emulator counts bank conflicts, the access of this thread to `bytes` bytes
// (4, 8 or 16) of shared memory that follows; ldmatrix and cp.async note themselves.
__device__ __forceinline__ void nat_note_shared([[maybe_unused]] const void* address,
                                                [[maybe_unused]] unsigned bytes NAT_CALLER_PARAMETER) {
#if defined(NATV2_EMULATOR)
    nat_emulator::note_shared(nat_emulator::SharedAccess::kPlain, address, bytes, NAT_EMULATOR_SITE);
#endif
}
