// Bank conflicts of shared memory, counted where a launch asks for it.
//
// Shared memory has 32 banks of 4-byte words; a word's address picks its bank. The lanes of a warp are
// served in turns: all 32 at once where each takes 4 bytes, 16 at 8 bytes, 8 at 16 bytes; ldmatrix
// takes the 8 rows of one matrix a turn. A turn takes as many passes as the busiest bank has different
// words to give; every pass beyond the first is a conflict. That is the model of NVIDIA's profiler; its
// guides give the turns for loads and stores, and cp.async is taken to write as a store does.
//
// Counted are ldmatrix, cp.async, and accesses that a kernel announces with nat_note_shared: a plain
// access by pointer cannot be seen. An access of a warp is what its lanes do at the same line for the
// same time. In a launch that does not count, an access costs a test of a pointer.
#pragma once

#include "block.h"

extern "C" {

// In the order of SharedAccess.
struct natv2_emulator_bank_counts {
    uint64_t turns[3];
    uint64_t conflicts[3];
};

}  // extern "C"

namespace nat_emulator {

enum class SharedAccess : unsigned char { kLdmatrix, kAsyncCopy, kPlain };

// Notes an access of this thread, if the launch counts.
void note_shared(SharedAccess kind, const void* address, unsigned bytes, Site site);

// Notes the rows of one matrix of ldmatrix, if the launch counts.
void note_matrix(const void* const rows[8]);

// The extra passes of one turn: `count` lanes that access `bytes` bytes each.
unsigned conflicts_of_turn(const void* const* addresses, unsigned count, unsigned bytes);

}  // namespace nat_emulator
