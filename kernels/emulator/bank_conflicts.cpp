#include "bank_conflicts.h"

#include "bank_counter.h"
#include "launch_state.h"

namespace nat_emulator {
namespace {

constexpr unsigned kBanks = 32, kWordBytes = 4, kTurnBytes = kBanks * kWordBytes;

}  // namespace

unsigned conflicts_of_turn(const void* const* addresses, unsigned count, unsigned bytes) {
    // At most 32 words in a turn: comparing each with those before it is quick enough.
    uintptr_t words[kBanks];
    unsigned in_bank[kBanks] = {}, found = 0, most = 0;
    for (unsigned lane = 0; lane < count; ++lane) {
        for (unsigned offset = 0; offset < bytes; offset += kWordBytes) {
            const uintptr_t word = (reinterpret_cast<uintptr_t>(addresses[lane]) + offset) / kWordBytes;
            bool known = false;
            for (unsigned i = 0; i < found; ++i) known |= words[i] == word;
            if (known) continue;  // lanes that take the same word share it
            words[found++] = word;
            const unsigned load = ++in_bank[word % kBanks];
            most = most < load ? load : most;
        }
    }
    return most > 1 ? most - 1 : 0;
}

void BankCounter::note_turn(SharedAccess kind, const void* const* addresses, unsigned count, unsigned bytes) {
    const unsigned conflicts = conflicts_of_turn(addresses, count, bytes);
    std::lock_guard<std::mutex> lock(mutex_);
    counts_.turns[static_cast<unsigned>(kind)] += 1;
    counts_.conflicts[static_cast<unsigned>(kind)] += conflicts;
}

void BankCounter::note(SharedAccess kind, const void* address, unsigned bytes, Site site) {
    const Block& block = *current_block;
    const unsigned thread = current_thread->linear;
    const uint64_t index =
        (static_cast<uint64_t>(block.index.z) * block.grid.y + block.index.y) * block.grid.x + block.index.x;
    std::lock_guard<std::mutex> lock(mutex_);
    const unsigned time = times_[{index, thread, kind, site.line}]++;
    Lanes& lanes = instructions_[{index, thread / kWarpThreads, kind, site.line, time}];
    lanes.address[thread % kWarpThreads] = address;
    lanes.bytes = bytes;
}

void BankCounter::finish(natv2_emulator_bank_counts* counts) {
    for (const auto& [instruction, lanes] : instructions_) {
        const unsigned turn = kTurnBytes / lanes.bytes;  // lanes of a turn
        for (unsigned first = 0; first < kWarpThreads; first += turn) {
            const void* active[kWarpThreads];
            unsigned count = 0;
            for (unsigned lane = first; lane < first + turn; ++lane) {
                if (lanes.address[lane] != nullptr) active[count++] = lanes.address[lane];
            }
            if (count > 0) note_turn(std::get<2>(instruction), active, count, lanes.bytes);
        }
    }
    *counts = counts_;
}

void note_shared(SharedAccess kind, const void* address, unsigned bytes, Site site) {
    BankCounter* counter = current_block->launch->counter;
    if (counter == nullptr) return;
    if (bytes != 4 && bytes != 8 && bytes != 16) {
        fail(Status::kBadAccess, site, "a lane accesses 4, 8 or 16 bytes at a time, not %u", bytes);
    }
    counter->note(kind, address, bytes, site);
}

void note_matrix(const void* const rows[8]) {
    BankCounter* counter = current_block->launch->counter;
    if (counter != nullptr) counter->note_turn(SharedAccess::kLdmatrix, rows, 8, 16);
}

}  // namespace nat_emulator
