// The outstanding cp.async copies of one thread (async_copy.h says how they are used).
#pragma once

#include <cstddef>
#include <cstdint>

namespace nat_emulator {

struct AsyncCopy {
    void* to;
    const void* from;
    unsigned bytes;         // 4, 8 or 16 written
    unsigned source_bytes;  // of which read; the rest becomes zero
    unsigned group;         // the commit group it belongs to
};

// First in, first out. A plain struct, so that a block's threads are reset without constructors.
struct AsyncQueue {
    AsyncCopy* entries;
    unsigned first, count, capacity;
    unsigned committed;  // groups committed so far; copies issued now belong to group `committed`
};

}  // namespace nat_emulator
