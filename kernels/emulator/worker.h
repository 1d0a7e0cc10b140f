// What one operating-system thread keeps between blocks: stacks, the block's bookkeeping, shared
// memory. Internal to the emulator's .cpp files.
#pragma once

#include "block.h"
#include "shared_memory.h"

namespace nat_emulator {

struct Worker {
    Worker();
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    // Runs one block to its end. Returns false after an error, which is then noted in `launch`.
    bool run_block(LaunchState& launch, uint3 index);

    Fiber* take_fiber();  // null where there is no memory
    void give_fiber(Fiber& fiber);
    void reclaim_fibers();  // after an error: all of them are unused again
    void release_fibers();

    struct FiberNode {
        Fiber fiber;
        FiberNode* next;
    };
    Fiber scheduler;  // the operating-system thread's own stack
    FiberNode* all_fibers = nullptr;
    Fiber* free_fibers = nullptr;
    Block* block;
    SharedMemory shared;
    bool failed = false;
};

}  // namespace nat_emulator
