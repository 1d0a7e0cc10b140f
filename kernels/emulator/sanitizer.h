// What AddressSanitizer and ThreadSanitizer have to be told, in one place.
//
// The build that uses a sanitizer defines NAT_EMULATOR_ASAN or NAT_EMULATOR_TSAN. Kernels are
// compiled with the sanitizer's instrumentation. The emulator's own .cpp files are not, in a
// ThreadSanitizer build: their bookkeeping is shared by all fibers of an operating-system thread
// and needs no locks, which the sanitizer cannot know.
//
// Happens-before, as ThreadSanitizer sees it: a fiber is a thread of its own; its creation orders
// the launch before it; __syncthreads and __syncwarp order their threads; shuffles and votes order
// nothing (CUDA does not promise that they do); the end of a launch orders everything before what
// follows. Blocks are not ordered among each other, so races between blocks are found too.
#pragma once

#if defined(NAT_EMULATOR_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif
#if defined(NAT_EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace nat_emulator {

#if defined(NAT_EMULATOR_TSAN)
constexpr bool kThreadSanitizer = true;
// Everything this thread did so far is visible to whoever acquires `address` later.
inline void order_release(void* address) { __tsan_release(address); }
inline void order_acquire(void* address) { __tsan_acquire(address); }
#else
constexpr bool kThreadSanitizer = false;
inline void order_release(void*) {}
inline void order_acquire(void*) {}
#endif

}  // namespace nat_emulator
