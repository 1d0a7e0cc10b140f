// The scheduler of one block: its threads, __syncthreads, and the errors it can detect.
//
// One operating-system thread runs one block at a time, and of that block one CUDA thread at a
// time, until it waits at a barrier or a warp collective. Then the next ready thread in order goes
// on: thread 0, 1, 2, ... in a forward launch, the last one first in a reverse launch. Kernels
// that are right give the same result in both orders; one that lacks a barrier mostly does not.
//
// A thread needs a stack of its own only from the moment it waits. Until then threads run one
// after the other on the same stack, so a kernel without barriers costs little more than a loop.
//
// When no thread is ready and some have not finished, the block has diverged: some wait at a
// barrier that the others will never reach. A card would hang or go on with wrong data; the
// launch ends with an error that says who waits where.
#pragma once

#include "types.h"

#include "async_queue.h"
#include "fiber.h"

namespace nat_emulator {

struct LaunchState;  // one launch, shared by all blocks (launch.h)
struct Worker;       // one operating-system thread's stacks and shared memory (block.cpp)
struct WarpOperation;  // a kind of warp collective (warp.h)

constexpr unsigned kWarpThreads = 32;
constexpr unsigned kMaxBlockThreads = 1024;
constexpr unsigned kMaxWarps = kMaxBlockThreads / kWarpThreads;

// A place in a kernel's source.
struct Site {
    const char* file;
    int line;
};

// The last parameters of a function that wants to know where it was called ...
#define NAT_EMULATOR_CALLER const char *caller_file = __builtin_FILE(), int caller_line = __builtin_LINE()
// ... and, in its body, that place.
#define NAT_EMULATOR_SITE \
    nat_emulator::Site { caller_file, caller_line }

// How a launch can end. The numbers are part of the C interface (launch.h).
enum class Status : int {
    kOk = 0,
    kUnknownKernel = 1,
    kBadArguments = 2,
    kBadConfiguration = 3,   // grid, block or shared memory that a card would refuse too
    kDivergence = 4,         // threads wait for others that will not come
    kBadCollective = 5,      // a warp collective called in a way that CUDA leaves undefined
    kBadAccess = 6,          // a misaligned asynchronous copy or matrix row
    kTrap = 7,               // the kernel called __trap
    kOutOfMemory = 8,
};

enum class ThreadState : unsigned char { kReady, kRunning, kAtBarrier, kAtWarp, kExited };

// What a switch touches is in the first cache line.
struct alignas(64) Thread {
    uint3 index;
    unsigned linear;  // x fastest, as CUDA numbers lanes and warps
    Fiber* fiber;     // its stack; null before it starts and after it ends
    ThreadState state;
    unsigned mask;                   // in a warp collective: with whom it waits,
    const WarpOperation* operation;  // and at what
    Site site;                       // where it waits
    AsyncQueue copies;               // outstanding cp.async
};

// Lanes that have arrived at the same collective with the same mask.
struct WarpGroup {
    const WarpOperation* operation;
    unsigned mask;
    unsigned arrived;
    Site site;
};

struct Warp {
    unsigned ready;    // lanes that could run now
    unsigned exited;   // lanes that have finished or never existed
    unsigned groups;   // entries of `group` in use; almost always 0 or 1
    WarpGroup group[kWarpThreads];
    void* request[kWarpThreads];  // operands and result of each waiting lane, on its own stack
};

enum class Vote : unsigned char { kNone, kCount, kAnd, kOr };

struct Block {
    uint3 index;
    dim3 size, grid;
    LaunchState* launch;
    Worker* worker;

    unsigned threads;     // in the block
    unsigned exited;
    unsigned ready_warps;  // warps with a ready lane
    Warp warp[kMaxWarps];
    Thread thread[kMaxBlockThreads];

    // __syncthreads and its reductions.
    unsigned at_barrier;
    Site barrier_site;
    Vote barrier_vote;
    unsigned true_votes;
    unsigned barrier_result;

    // One byte for the barrier and one per warp, for ThreadSanitizer to hang its clocks on.
    char* order;
};

// The thread and block that run on this operating-system thread. __thread, not thread_local:
// there is nothing to construct, and the compiler then reads them without a call.
extern __thread Thread* current_thread __attribute__((tls_model("initial-exec")));
extern __thread Block* current_block __attribute__((tls_model("initial-exec")));

// Ends the launch with an error; the message is completed with kernel, block and thread.
// Never returns to the kernel.
[[noreturn]] void fail(Status status, Site site, const char* format, ...) __attribute__((format(printf, 3, 4)));

// Waits for every thread of the block. Returns the reduction of `predicate` that `vote` asks for.
unsigned block_barrier(Vote vote, bool predicate, Site site);

// Hands the processor to the next ready thread; returns when this one is ready again.
void wait_until_ready(Block& block, Thread& self, ThreadState state, Site site);

// Marks a waiting thread as ready to go on.
void make_ready(Block& block, Thread& thread);

}  // namespace nat_emulator

#define threadIdx (nat_emulator::current_thread->index)
#define blockIdx (nat_emulator::current_block->index)
#define blockDim (nat_emulator::current_block->size)
#define gridDim (nat_emulator::current_block->grid)
constexpr int warpSize = 32;

inline void __syncthreads(NAT_EMULATOR_CALLER) {
    nat_emulator::block_barrier(nat_emulator::Vote::kNone, false, NAT_EMULATOR_SITE);
}
inline int __syncthreads_count(int predicate, NAT_EMULATOR_CALLER) {
    return static_cast<int>(nat_emulator::block_barrier(nat_emulator::Vote::kCount, predicate != 0, NAT_EMULATOR_SITE));
}
inline int __syncthreads_and(int predicate, NAT_EMULATOR_CALLER) {
    return static_cast<int>(nat_emulator::block_barrier(nat_emulator::Vote::kAnd, predicate != 0, NAT_EMULATOR_SITE));
}
inline int __syncthreads_or(int predicate, NAT_EMULATOR_CALLER) {
    return static_cast<int>(nat_emulator::block_barrier(nat_emulator::Vote::kOr, predicate != 0, NAT_EMULATOR_SITE));
}

// Orders memory between threads; does not wait for anybody.
inline void __threadfence_block() {
#if !defined(NAT_EMULATOR_TSAN)  // which does not model fences
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}
inline void __threadfence() { __threadfence_block(); }

[[noreturn]] inline void __trap(NAT_EMULATOR_CALLER) {
    nat_emulator::fail(nat_emulator::Status::kTrap, NAT_EMULATOR_SITE, "__trap was called");
}
