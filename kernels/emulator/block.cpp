#include "block.h"

#include "launch_state.h"
#include "sanitizer.h"
#include "shared.h"
#include "warp.h"
#include "worker.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace nat_emulator {

__thread Thread* current_thread = nullptr;
__thread Block* current_block = nullptr;

namespace {

// ThreadSanitizer takes each CUDA thread for a thread of its own, so stacks are not passed on.
constexpr bool kStacksPassOn = !kThreadSanitizer;

unsigned lane_of(const Thread& thread) { return thread.linear % kWarpThreads; }
Warp& warp_of(Block& block, const Thread& thread) { return block.warp[thread.linear / kWarpThreads]; }

// The ready thread that comes after `position` in the launch's order, going round; null if none.
Thread* next_ready(Block& block, unsigned position) {
    if (block.ready_warps == 0) return nullptr;
    const unsigned warp = position / kWarpThreads, lane = position % kWarpThreads;
    unsigned chosen_warp, lanes;
    if (!block.launch->reverse) {
        const unsigned later_lanes = block.warp[warp].ready & ~((2u << lane) - 1u);
        if (later_lanes != 0) return &block.thread[warp * kWarpThreads + __builtin_ctz(later_lanes)];
        const unsigned later_warps = block.ready_warps & ~((2u << warp) - 1u);
        chosen_warp = static_cast<unsigned>(__builtin_ctz(later_warps != 0 ? later_warps : block.ready_warps));
        lanes = block.warp[chosen_warp].ready;
        return &block.thread[chosen_warp * kWarpThreads + __builtin_ctz(lanes)];
    }
    const unsigned earlier_lanes = block.warp[warp].ready & ((1u << lane) - 1u);
    if (earlier_lanes != 0) return &block.thread[warp * kWarpThreads + 31 - __builtin_clz(earlier_lanes)];
    const unsigned earlier_warps = block.ready_warps & ((1u << warp) - 1u);
    chosen_warp = 31u - static_cast<unsigned>(__builtin_clz(earlier_warps != 0 ? earlier_warps : block.ready_warps));
    lanes = block.warp[chosen_warp].ready;
    return &block.thread[chosen_warp * kWarpThreads + 31 - __builtin_clz(lanes)];
}

void mark_running(Block& block, Thread& thread) {
    Warp& warp = warp_of(block, thread);
    warp.ready &= ~(1u << lane_of(thread));
    if (warp.ready == 0) block.ready_warps &= ~(1u << (thread.linear / kWarpThreads));
    thread.state = ThreadState::kRunning;
    current_thread = &thread;
}

[[noreturn]] void fiber_main();

// The fiber to continue `thread` on; null where there is no memory for another stack.
Fiber* fiber_for(Block& block, Thread& thread) {
    if (thread.fiber == nullptr) {
        thread.fiber = block.worker->take_fiber();
        if (thread.fiber != nullptr) fiber_prepare(*thread.fiber, &fiber_main);
    }
    return thread.fiber;
}

// The bookkeeping of a thread that has returned from the kernel.
void finish(Block& block, Thread& thread) {
    order_release(&block.launch->end_order);
    thread.state = ThreadState::kExited;
    ++block.exited;
    warp_lane_exited(block, thread);
}

// What every fiber runs: one CUDA thread after the other, until another fiber has to go on.
void fiber_main() {
    fiber_entered();
    Block& block = *current_block;
    for (;;) {
        Thread& self = *current_thread;
        block.launch->entry->call(block.launch->arguments);
        finish(block, self);

        Fiber& mine = *self.fiber;
        self.fiber = nullptr;
        Thread* next = next_ready(block, self.linear);
        if (next == nullptr) {
            block.worker->give_fiber(mine);
            fiber_leave(mine, block.worker->scheduler);
        }
        if (kStacksPassOn && next->fiber == nullptr) {
            next->fiber = &mine;
            mark_running(block, *next);
            continue;
        }
        block.worker->give_fiber(mine);
        Fiber* to = fiber_for(block, *next);
        if (to == nullptr) fiber_leave(mine, block.worker->scheduler);  // reported there
        mark_running(block, *next);
        fiber_leave(mine, *to);
    }
}

// Writes "(x, y, z)".
struct Position {
    char text[40];
    explicit Position(const uint3& index) { std::snprintf(text, sizeof text, "(%u, %u, %u)", index.x, index.y, index.z); }
};

void record_error(Block& block, Status status, const char* text) {
    char message[kMessageBytes];
    std::snprintf(message, sizeof message, "kernel %s, block %s: %s", block.launch->entry->name,
                  Position(block.index).text, text);
    block.launch->set_error(status, message);
}

// Nobody can run and somebody waits: says who waits where, grouped by place.
void report_divergence(Block& block) {
    char text[kMessageBytes];
    std::size_t used = 0;
    auto add = [&](const char* format, auto... values) {
        if (used < sizeof text) {
            const int written = std::snprintf(text + used, sizeof text - used, format, values...);
            if (written > 0) used += static_cast<std::size_t>(written);
        }
    };
    add("%s", "threads diverged at a barrier: ");
    bool told[kMaxBlockThreads] = {};
    const char* separator = "";
    for (unsigned i = 0; i < block.threads; ++i) {
        const Thread& first = block.thread[i];
        if (told[i]) continue;
        unsigned count = 0;
        for (unsigned j = i; j < block.threads; ++j) {
            const Thread& other = block.thread[j];
            const bool same = other.state == first.state &&
                              (first.state == ThreadState::kExited ||
                               (other.site.line == first.site.line && other.site.file == first.site.file &&
                                (first.state != ThreadState::kAtWarp ||
                                 (other.operation == first.operation && other.mask == first.mask))));
            if (same) told[j] = true, ++count;
        }
        add("%s%u of %u", separator, count, block.threads);
        if (first.state == ThreadState::kExited) {
            add(" have returned (the first is thread %s)", Position(first.index).text);
        } else if (first.state == ThreadState::kAtBarrier) {
            add(" wait at the __syncthreads of %s:%d (the first is thread %s)", first.site.file, first.site.line,
                Position(first.index).text);
        } else if (first.state == ThreadState::kAtWarp) {
            add(" wait at the %s of %s:%d with mask %08x (the first is thread %s)", first.operation->name,
                first.site.file, first.site.line, first.mask, Position(first.index).text);
        } else {
            add(" could not start: no memory for their stacks (the first is thread %s)", Position(first.index).text);
        }
        separator = "; ";
    }
    record_error(block, Status::kDivergence, text);
}

}  // namespace

void fail(Status status, Site site, const char* format, ...) {
    Block& block = *current_block;
    Thread& self = *current_thread;
    char detail[kMessageBytes / 2];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    char text[kMessageBytes];
    std::snprintf(text, sizeof text, "thread %s at %s:%d: %s", Position(self.index).text, site.file, site.line, detail);
    record_error(block, status, text);
    block.worker->failed = true;
    fiber_leave(*self.fiber, block.worker->scheduler);
}

void make_ready(Block& block, Thread& thread) {
    thread.state = ThreadState::kReady;
    warp_of(block, thread).ready |= 1u << lane_of(thread);
    block.ready_warps |= 1u << (thread.linear / kWarpThreads);
}

void wait_until_ready(Block& block, Thread& self, ThreadState state, Site site) {
    self.state = state;
    self.site = site;
    Thread* next = next_ready(block, self.linear);
    Fiber* to = next != nullptr ? fiber_for(block, *next) : nullptr;
    if (to == nullptr) {
        fiber_switch(*self.fiber, block.worker->scheduler);  // which reports the divergence
    } else {
        mark_running(block, *next);
        fiber_switch(*self.fiber, *to);
    }
}

unsigned block_barrier(Vote vote, bool predicate, Site site) {
    Block& block = *current_block;
    Thread& self = *current_thread;
    order_release(&block.order[0]);
    if (block.at_barrier == 0) {
        block.barrier_site = site;
        block.barrier_vote = vote;
        block.true_votes = 0;
    } else if (site.line != block.barrier_site.line || vote != block.barrier_vote) {
        fail(Status::kDivergence, site,
             "threads diverged at a barrier: this thread reached this __syncthreads, others wait at that of %s:%d",
             block.barrier_site.file, block.barrier_site.line);
    }
    ++block.at_barrier;
    block.true_votes += predicate ? 1 : 0;
    if (block.at_barrier < block.threads) {
        wait_until_ready(block, self, ThreadState::kAtBarrier, site);
    } else {
        // The last to arrive: all others wait here, so the result cannot be overwritten before
        // each of them has read it and come to the next barrier.
        switch (vote) {
            case Vote::kNone: break;
            case Vote::kCount: block.barrier_result = block.true_votes; break;
            case Vote::kAnd: block.barrier_result = block.true_votes == block.threads; break;
            case Vote::kOr: block.barrier_result = block.true_votes != 0; break;
        }
        block.at_barrier = 0;
        for (unsigned i = 0; i < block.threads; ++i) {
            if (&block.thread[i] != &self) make_ready(block, block.thread[i]);
        }
    }
    order_acquire(&block.order[0]);
    return block.barrier_result;
}

Worker::Worker() {
    block = new Block();
    fiber_adopt(scheduler);
}

Worker::~Worker() {
    release_fibers();
    for (Thread& thread : block->thread) std::free(thread.copies.entries);
    delete block;
}

Fiber* Worker::take_fiber() {
    if (free_fibers != nullptr) {
        Fiber* fiber = free_fibers;
        free_fibers = fiber->next_free;
        return fiber;
    }
    auto* node = new (std::nothrow) FiberNode;
    if (node == nullptr) return nullptr;
    if (!fiber_allocate(node->fiber)) {
        delete node;
        return nullptr;
    }
    node->next = all_fibers;
    all_fibers = node;
    return &node->fiber;
}

void Worker::give_fiber(Fiber& fiber) {
    if (kThreadSanitizer) return;  // a new block gets new fibers; see run_block
    fiber.next_free = free_fibers;
    free_fibers = &fiber;
}

void Worker::reclaim_fibers() {
    free_fibers = nullptr;
    for (FiberNode* node = all_fibers; node != nullptr; node = node->next) {
        fiber_abandon(node->fiber);
        node->fiber.next_free = free_fibers;
        free_fibers = &node->fiber;
    }
}

void Worker::release_fibers() {
    free_fibers = nullptr;
    while (all_fibers != nullptr) {
        FiberNode* node = all_fibers;
        all_fibers = node->next;
        fiber_release(node->fiber);
        delete node;
    }
}

bool Worker::run_block(LaunchState& launch, uint3 index) {
    Block& b = *block;
    b.index = index;
    b.size = launch.block;
    b.grid = launch.grid;
    b.launch = &launch;
    b.worker = this;
    b.threads = launch.block.x * launch.block.y * launch.block.z;
    b.exited = 0;
    b.ready_warps = 0;
    b.at_barrier = 0;
    failed = false;

    // Before the fibers are made: for ThreadSanitizer that orders the poison before their accesses.
    if (!shared.begin_block(launch)) {
        launch.set_error(Status::kOutOfMemory, "no memory for a block's shared memory");
        return false;
    }
    b.order = shared.order_bytes();

    uint3 position = {0, 0, 0};
    for (unsigned i = 0; i < b.threads; ++i) {
        Thread& thread = b.thread[i];
        thread.index = position;
        if (++position.x == b.size.x) {
            position.x = 0;
            if (++position.y == b.size.y) position.y = 0, ++position.z;
        }
        thread.linear = i;
        thread.fiber = nullptr;
        thread.copies.first = thread.copies.count = thread.copies.committed = 0;
        if (kThreadSanitizer) {
            // Fibers are created here and not by one another, which would order them; and nothing
            // that a thread of an earlier block has allocated is used again.
            if (thread.copies.entries != nullptr) shared.keep_until_end(thread.copies.entries);
            thread.copies.entries = nullptr;
            thread.copies.capacity = 0;
            fiber_for(b, thread);
        }
    }
    for (unsigned first = 0; first < b.threads; first += kWarpThreads) {
        Warp& warp = b.warp[first / kWarpThreads];
        const unsigned lanes = b.threads - first < kWarpThreads ? b.threads - first : kWarpThreads;
        const unsigned present = lanes == kWarpThreads ? ~0u : (1u << lanes) - 1u;
        warp.ready = present;
        warp.exited = ~present;
        warp.groups = 0;
        b.ready_warps |= 1u << (first / kWarpThreads);
        for (unsigned lane = 0; lane < lanes; ++lane) b.thread[first + lane].state = ThreadState::kReady;
    }
    current_block = &b;
    // The first thread in order; the rest follow from one another. The scheduler gets its turn
    // only when nobody can go on.
    Thread* first = next_ready(b, launch.reverse ? 0 : kMaxBlockThreads - 1);
    Fiber* to = fiber_for(b, *first);
    if (to != nullptr) {
        mark_running(b, *first);
        fiber_switch(scheduler, *to);
    }
    if (!failed && b.exited != b.threads) report_divergence(b);
    const bool complete = !failed && b.exited == b.threads;
    current_block = nullptr;
    current_thread = nullptr;
    if (kThreadSanitizer) {
        release_fibers();
    } else if (!complete) {
        reclaim_fibers();
    }
    return complete;
}

}  // namespace nat_emulator
