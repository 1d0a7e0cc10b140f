#include "async_copy.h"

#include "launch_state.h"

#include <cstdlib>

namespace nat_emulator {

bool copies_land_at_once() { return current_block->launch->reverse; }

unsigned async_group() { return current_thread->copies.committed; }

void async_commit() { ++current_thread->copies.committed; }

void async_copy_defer(const AsyncCopy& copy) {
    AsyncQueue& queue = current_thread->copies;
    if (queue.first == queue.count) queue.first = queue.count = 0;
    if (queue.count == queue.capacity) {
        const unsigned capacity = queue.capacity != 0 ? 2 * queue.capacity : 16;
        void* entries = std::realloc(queue.entries, capacity * sizeof(AsyncCopy));
        if (entries == nullptr) std::abort();  // a few kilobytes; nothing sensible is left to do
        queue.entries = static_cast<AsyncCopy*>(entries);
        queue.capacity = capacity;
    }
    queue.entries[queue.count++] = copy;
}

bool async_copy_due(unsigned keep_groups, AsyncCopy* copy) {
    AsyncQueue& queue = current_thread->copies;
    if (queue.first == queue.count) return false;
    const AsyncCopy& oldest = queue.entries[queue.first];
    // Groups 0 to committed - 1 are committed; of these the last `keep_groups` may stay outstanding.
    if (oldest.group + keep_groups >= queue.committed) return false;
    *copy = oldest;
    ++queue.first;
    return true;
}

}  // namespace nat_emulator
