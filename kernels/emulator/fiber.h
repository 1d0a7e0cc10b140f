// Fibers: several stacks on one operating-system thread, and a switch between them.
//
// A switch saves the callee-saved registers of the running fiber on its stack, exchanges the stack
// pointer and restores those of the next: some ten instructions on x86-64. Elsewhere, or where
// NAT_EMULATOR_UCONTEXT is defined, the C library's ucontext does the same, more slowly.
#pragma once

#include <cstddef>

#if !(defined(__x86_64__) && defined(__ELF__)) && !defined(NAT_EMULATOR_UCONTEXT)
#define NAT_EMULATOR_UCONTEXT 1
#endif
#if defined(NAT_EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

namespace nat_emulator {

struct Fiber {
#if defined(NAT_EMULATOR_UCONTEXT)
    ucontext_t context;
#else
    void* stack_pointer = nullptr;
#endif
    char* stack = nullptr;          // lowest usable address; a page below it faults
    std::size_t stack_bytes = 0;
    void* sanitizer_state = nullptr;  // AddressSanitizer: fake stack; ThreadSanitizer: its fiber
    Fiber* next_free = nullptr;       // for whoever keeps unused fibers in a list
};

// Makes `fiber` stand for the stack that is running now. Nothing to undo: never release it.
void fiber_adopt(Fiber& fiber);

// Gives `fiber` a stack. Returns false where there is no memory. Undo with fiber_release.
bool fiber_allocate(Fiber& fiber);

// Frees what fiber_allocate took. The fiber must not be running.
void fiber_release(Fiber& fiber);

// Arranges that the next switch to `fiber` starts `entry` on its stack. `entry` must never return;
// it ends with fiber_leave.
void fiber_prepare(Fiber& fiber, void (*entry)());

// To be called first on a fresh stack.
void fiber_entered();

// Saves the running fiber in `from` and continues `to`; returns when somebody switches back.
void fiber_switch(Fiber& from, Fiber& to);

// Continues `to` and never comes back to `from`.
[[noreturn]] void fiber_leave(Fiber& from, Fiber& to);

// Tells the sanitizers that whatever is on the fiber's stack is abandoned.
void fiber_abandon(Fiber& fiber);

}  // namespace nat_emulator
