// Where a launch that counts bank conflicts keeps its accesses. Internal to the emulator's .cpp files.
#pragma once

#include "bank_conflicts.h"

#include <map>
#include <mutex>
#include <tuple>

namespace nat_emulator {

class BankCounter {
public:
    void note(SharedAccess kind, const void* address, unsigned bytes, Site site);
    void note_turn(SharedAccess kind, const void* const* addresses, unsigned count, unsigned bytes);
    // Sums up; the order in which blocks and threads ran does not show.
    void finish(natv2_emulator_bank_counts* counts);

private:
    // One instruction of a warp: block, warp, kind, line, and how many times each lane was there before.
    using Instruction = std::tuple<uint64_t, unsigned, SharedAccess, int, unsigned>;
    struct Lanes {
        const void* address[kWarpThreads] = {};
        unsigned bytes = 0;
    };
    std::mutex mutex_;
    std::map<Instruction, Lanes> instructions_;
    std::map<std::tuple<uint64_t, unsigned, SharedAccess, int>, unsigned> times_;  // by block, thread, place
    natv2_emulator_bank_counts counts_ = {};
};

}  // namespace nat_emulator
