#include "fiber.h"

#include "sanitizer.h"

#include <atomic>
#include <cstdint>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(NAT_EMULATOR_UCONTEXT)
// void nat_emulator_switch(void** save_stack_pointer_here, void* new_stack_pointer)
// The System V ABI leaves rbx, rbp and r12 to r15 to the callee; everything else is dead at a call.
// The control words of the FPU are the same for all fibers and are left alone.
extern "C" void nat_emulator_switch(void** save, void* load);
asm(R"(
    .text
    .globl nat_emulator_switch
    .hidden nat_emulator_switch
    .type nat_emulator_switch, @function
nat_emulator_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size nat_emulator_switch, . - nat_emulator_switch
)");
#endif

namespace nat_emulator {
namespace {

// Kernels keep their working set in shared memory and registers; 64 KiB is ample. AddressSanitizer
// surrounds every local array with guard zones, so it gets more.
#if defined(NAT_EMULATOR_ASAN)
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

// Steps by which the tops of stacks are set apart, and their number (fiber_allocate).
constexpr std::size_t kColourBytes = 320;
constexpr unsigned kColours = 64;

std::size_t page_bytes() {
    static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

// Tells the sanitizers that the running stack is about to change.
inline void announce_switch([[maybe_unused]] Fiber& from, [[maybe_unused]] Fiber& to, [[maybe_unused]] bool leaving) {
#if defined(NAT_EMULATOR_ASAN)
    __sanitizer_start_switch_fiber(leaving ? nullptr : &from.sanitizer_state, to.stack, to.stack_bytes);
#elif defined(NAT_EMULATOR_TSAN)
    __tsan_switch_to_fiber(to.sanitizer_state, __tsan_switch_to_fiber_no_sync);
#endif
}

}  // namespace

void fiber_adopt([[maybe_unused]] Fiber& fiber) {
#if defined(NAT_EMULATOR_ASAN)
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void* address = nullptr;
        pthread_attr_getstack(&attributes, &address, &fiber.stack_bytes);
        fiber.stack = static_cast<char*>(address);
        pthread_attr_destroy(&attributes);
    }
#elif defined(NAT_EMULATOR_TSAN)
    fiber.sanitizer_state = __tsan_get_current_fiber();
#endif
}

bool fiber_allocate(Fiber& fiber) {
    const std::size_t guard = page_bytes();
    void* memory = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    if (mprotect(memory, guard, PROT_NONE) != 0) {
        munmap(memory, guard + kStackBytes);
        return false;
    }
    fiber.stack = static_cast<char*>(memory) + guard;
    // Stacks lie a multiple of the page size apart, so their tops would all fall into the same few
    // sets of the caches and push each other out at every switch. Tops a few lines apart do not.
    static std::atomic<unsigned> count{0};
    fiber.stack_bytes = kStackBytes - kColourBytes * (count.fetch_add(1, std::memory_order_relaxed) % kColours);
#if defined(NAT_EMULATOR_TSAN)
    fiber.sanitizer_state = __tsan_create_fiber(0);
#endif
    return true;
}

void fiber_release(Fiber& fiber) {
    if (fiber.stack == nullptr) return;
#if defined(NAT_EMULATOR_TSAN)
    __tsan_destroy_fiber(fiber.sanitizer_state);
#endif
    munmap(fiber.stack - page_bytes(), page_bytes() + kStackBytes);
    fiber.stack = nullptr;
}

void fiber_prepare(Fiber& fiber, void (*entry)()) {
#if defined(NAT_EMULATOR_UCONTEXT)
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = fiber.stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#else
    // What nat_emulator_switch will pop: six registers, then the address that it returns to. Above
    // them a null return address of `entry`, which also leaves the stack aligned as the ABI wants.
    void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    fiber.stack_pointer = top;
#endif
#if defined(NAT_EMULATOR_ASAN)
    fiber.sanitizer_state = nullptr;
#endif
}

void fiber_entered() {
#if defined(NAT_EMULATOR_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void fiber_switch(Fiber& from, Fiber& to) {
    announce_switch(from, to, false);
#if defined(NAT_EMULATOR_UCONTEXT)
    swapcontext(&from.context, &to.context);
#else
    nat_emulator_switch(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(NAT_EMULATOR_ASAN)
    __sanitizer_finish_switch_fiber(from.sanitizer_state, nullptr, nullptr);
#endif
}

void fiber_leave(Fiber& from, Fiber& to) {
    announce_switch(from, to, true);
#if defined(NAT_EMULATOR_UCONTEXT)
    setcontext(&to.context);
#else
    nat_emulator_switch(&from.stack_pointer, to.stack_pointer);
#endif
    __builtin_unreachable();
}

void fiber_abandon([[maybe_unused]] Fiber& fiber) {
#if defined(NAT_EMULATOR_ASAN)
    __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
}

}  // namespace nat_emulator
