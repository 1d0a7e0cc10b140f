// Shared memory, as a kernel declares it through NAT_SHARED and NAT_DYNAMIC_SHARED.
//
// Every array is an allocation of exactly its size, so AddressSanitizer sees the first byte beyond
// it, and belongs to one block. At the start of each block it is filled with kPoison, so that a
// read of something never written gives NaN in f32, f16 and bf16 alike and a wild index as an
// integer, in every block and not only in the first.
#pragma once

#include "block.h"

namespace nat_emulator {

// A signalling NaN as f32; both halves are NaN as f16 and as bf16.
constexpr uint32_t kPoison = 0x7fa17fa1u;

// What a block may use in all, static and dynamic, on compute capability 9.0.
constexpr std::size_t kMaxSharedBytes = 227 * 1024;

// The block's static array that is declared at `key`; allocated when its first thread asks.
void* block_static_shared(const void* key, std::size_t bytes, Site site);

// The dynamic shared memory of the block.
void* block_dynamic_shared();

}  // namespace nat_emulator

// The static inside the lambda gives each declaration an address of its own.
#define NAT_SHARED(T, name, count)                                                                              \
    T(&name)[count] = *static_cast<T(*)[count]>(nat_emulator::block_static_shared(                              \
        [] {                                                                                                    \
            static const char key = 0;                                                                          \
            return static_cast<const void*>(&key);                                                              \
        }(),                                                                                                    \
        sizeof(T) * static_cast<std::size_t>(count), (nat_emulator::Site{__FILE__, __LINE__})))

#define NAT_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(nat_emulator::block_dynamic_shared())
