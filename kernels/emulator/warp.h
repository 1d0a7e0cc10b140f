// Warp collectives: __syncwarp, shuffles, votes.
//
// A collective is carried out once, by the last lane of its mask to arrive: it finds the operands
// of all lanes, writes all results, and makes the others ready. Groups of lanes with different
// masks may be under way in one warp at the same time.
//
// Strict where CUDA is undefined: the caller must be in its mask; lanes must meet at the same
// place in the source (but for __syncwarp, which CUDA lets meet across branches); a value read
// from a lane that has exited or is not in the mask is poison (a NaN, a wild index).
#pragma once

#include "block.h"

namespace nat_emulator {

// A kind of collective. `execute` gets the requests of all lanes of `lanes`.
struct WarpOperation {
    const char* name;
    void (*execute)(void* const* requests, unsigned lanes);
    bool whole_warp;     // mma and ldmatrix: all 32 lanes, none of them exited
    bool orders_memory;  // __syncwarp
    bool any_place;      // lanes may come from different lines
};

extern const WarpOperation kSyncWarp, kShuffle, kVote;

void warp_collective(const WarpOperation& operation, unsigned mask, void* request, Site site);

// A lane has returned from the kernel: collectives that waited for it only can go on.
void warp_lane_exited(Block& block, const Thread& thread);

// Where a shuffle takes its value from, in terms of the lane that asks.
enum class ShuffleFrom { kIndex, kUp, kDown, kXor };
uint64_t shuffle(ShuffleFrom from, unsigned mask, uint64_t value, int operand, int width, Site site);

unsigned ballot(unsigned mask, bool predicate, Site site);

template <class T>
inline T shuffle_value(ShuffleFrom from, unsigned mask, T value, int operand, int width, Site site) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = shuffle(from, mask, bits, operand, width, site);
    T result;
    std::memcpy(&result, &bits, sizeof(T));
    return result;
}

}  // namespace nat_emulator

inline void __syncwarp(unsigned mask = 0xffffffffu, NAT_EMULATOR_CALLER) {
    nat_emulator::warp_collective(nat_emulator::kSyncWarp, mask, nullptr, NAT_EMULATOR_SITE);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, NAT_EMULATOR_CALLER) {
    return nat_emulator::shuffle_value(nat_emulator::ShuffleFrom::kIndex, mask, value, lane, width, NAT_EMULATOR_SITE);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        NAT_EMULATOR_CALLER) {
    return nat_emulator::shuffle_value(nat_emulator::ShuffleFrom::kUp, mask, value, static_cast<int>(delta), width,
                                       NAT_EMULATOR_SITE);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          NAT_EMULATOR_CALLER) {
    return nat_emulator::shuffle_value(nat_emulator::ShuffleFrom::kDown, mask, value, static_cast<int>(delta), width,
                                       NAT_EMULATOR_SITE);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                         NAT_EMULATOR_CALLER) {
    return nat_emulator::shuffle_value(nat_emulator::ShuffleFrom::kXor, mask, value, lane_mask, width, NAT_EMULATOR_SITE);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, NAT_EMULATOR_CALLER) {
    return nat_emulator::ballot(mask, predicate != 0, NAT_EMULATOR_SITE);
}
inline int __any_sync(unsigned mask, int predicate, NAT_EMULATOR_CALLER) {
    return nat_emulator::ballot(mask, predicate != 0, NAT_EMULATOR_SITE) != 0;
}
inline int __all_sync(unsigned mask, int predicate, NAT_EMULATOR_CALLER) {
    return nat_emulator::ballot(mask, predicate == 0, NAT_EMULATOR_SITE) == 0;
}
