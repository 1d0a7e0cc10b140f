// cp.async with commit and wait groups.
//
// On a card the copy lands at some moment between the instruction and the wait for its group.
// Both extremes are tried: in forward order a copy is done as late as allowed, when its group is
// waited for (so a kernel that does not wait reads what was there before); in reverse order it is
// done at once (so a kernel that overwrites a buffer still being read is found).
#pragma once

#include "bank_conflicts.h"
#include "block.h"

namespace nat_emulator {

// This thread's queue. Only code without instrumentation touches it: a block's threads find the queues of
// the threads of the block before.
bool copies_land_at_once();
unsigned async_group();                            // the group of copies issued now
void async_commit();                               // the next copies belong to another group
void async_copy_defer(const AsyncCopy& copy);      // adds to this thread's queue
bool async_copy_due(unsigned keep_groups, AsyncCopy* copy);  // takes the oldest due copy from it

// The copy itself, in the kernel's own code, where the sanitizers watch.
inline void perform(const AsyncCopy& copy) {
    std::memcpy(copy.to, copy.from, copy.source_bytes);
    std::memset(static_cast<char*>(copy.to) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
}

// Copies `source_bytes` of `bytes` bytes (4, 8 or 16) to shared memory and fills up with zeros.
inline void async_copy(void* to, const void* from, unsigned bytes, unsigned source_bytes, Site site) {
    if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0) {
        fail(Status::kBadAccess, site, "cp.async of %u bytes needs addresses that are multiples of it, not %p and %p",
             bytes, to, from);
    }
    note_shared(SharedAccess::kAsyncCopy, to, bytes, site);
    const AsyncCopy copy = {to, from, bytes, source_bytes, async_group()};
    if (copies_land_at_once()) {
        perform(copy);
    } else {
        async_copy_defer(copy);
    }
}

// Waits until at most the `pending` newest committed groups are outstanding.
inline void async_wait(unsigned pending) {
    AsyncCopy copy;
    while (async_copy_due(pending, &copy)) perform(copy);
}

}  // namespace nat_emulator
