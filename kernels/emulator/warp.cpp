#include "warp.h"

#include "launch_state.h"
#include "sanitizer.h"
#include "shared.h"

namespace nat_emulator {
namespace {

struct ShuffleRequest {
    uint64_t value;
    unsigned source;  // the lane to read
    uint64_t result;
};

void execute_nothing(void* const*, unsigned) {}

void execute_shuffle(void* const* requests, unsigned lanes) {
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
        auto& request = *static_cast<ShuffleRequest*>(requests[__builtin_ctz(rest)]);
        request.result = (lanes >> request.source) & 1u
                             ? static_cast<const ShuffleRequest*>(requests[request.source])->value
                             : (static_cast<uint64_t>(kPoison) << 32 | kPoison);
    }
}

struct VoteRequest {
    bool predicate;
    unsigned result;
};

void execute_vote(void* const* requests, unsigned lanes) {
    unsigned ballot = 0;
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        if (static_cast<const VoteRequest*>(requests[lane])->predicate) ballot |= 1u << lane;
    }
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
        static_cast<VoteRequest*>(requests[__builtin_ctz(rest)])->result = ballot;
    }
}

// Carries out the collective of group `index` and lets its lanes go on, all but `self` which is
// running.
void complete(Block& block, unsigned warp_index, unsigned index, const Thread* self) {
    Warp& warp = block.warp[warp_index];
    const WarpGroup group = warp.group[index];
    warp.group[index] = warp.group[--warp.groups];
    group.operation->execute(warp.request, group.arrived);
    for (unsigned rest = group.arrived; rest != 0; rest &= rest - 1) {
        Thread& thread = block.thread[warp_index * kWarpThreads + static_cast<unsigned>(__builtin_ctz(rest))];
        if (&thread != self) make_ready(block, thread);
    }
}

}  // namespace

const WarpOperation kSyncWarp = {"__syncwarp", execute_nothing, false, true, true};
const WarpOperation kShuffle = {"shuffle", execute_shuffle, false, false, false};
const WarpOperation kVote = {"vote", execute_vote, false, false, false};

void warp_collective(const WarpOperation& operation, unsigned mask, void* request, Site site) {
    Block& block = *current_block;
    Thread& self = *current_thread;
    const unsigned warp_index = self.linear / kWarpThreads, lane = self.linear % kWarpThreads;
    Warp& warp = block.warp[warp_index];
    if (((mask >> lane) & 1u) == 0) {
        fail(Status::kBadCollective, site, "%s with mask %08x by lane %u, which is not in it", operation.name, mask,
             lane);
    }
    if (operation.whole_warp && warp.exited != 0) {
        fail(Status::kBadCollective, site, "%s needs all 32 lanes of the warp; lanes %08x have exited or do not exist",
             operation.name, warp.exited);
    }
    char* order = &block.order[1 + warp_index];
    if (operation.orders_memory) order_release(order);

    warp.request[lane] = request;
    unsigned index = 0;
    for (; index < warp.groups; ++index) {
        const WarpGroup& group = warp.group[index];
        if (group.operation == &operation && group.mask == mask &&
            (operation.any_place || group.site.line == site.line)) {
            break;
        }
    }
    if (index == warp.groups) warp.group[warp.groups++] = {&operation, mask, 0, site};
    WarpGroup& group = warp.group[index];
    group.arrived |= 1u << lane;
    if (group.arrived == (mask & ~warp.exited)) {
        complete(block, warp_index, index, &self);
    } else {
        self.operation = &operation;
        self.mask = mask;
        wait_until_ready(block, self, ThreadState::kAtWarp, site);
    }
    if (operation.orders_memory) order_acquire(order);
}

void warp_lane_exited(Block& block, const Thread& thread) {
    const unsigned warp_index = thread.linear / kWarpThreads;
    Warp& warp = block.warp[warp_index];
    warp.exited |= 1u << (thread.linear % kWarpThreads);
    // Completing a group moves the last one to its place, so go from the end.
    for (unsigned index = warp.groups; index-- > 0;) {
        const WarpGroup& group = warp.group[index];
        // A collective of the whole warp stays incomplete: reported as divergence.
        if (!group.operation->whole_warp && group.arrived == (group.mask & ~warp.exited)) {
            complete(block, warp_index, index, nullptr);
        }
    }
}

uint64_t shuffle(ShuffleFrom from, unsigned mask, uint64_t value, int operand, int width, Site site) {
    if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
        fail(Status::kBadCollective, site, "a shuffle's width must be a power of two up to 32, not %d", width);
    }
    // Segments of `width` lanes; a source outside the lane's own segment gives its own value,
    // but for xor, which may reach into earlier segments (PTX, shfl.sync).
    const int lane = static_cast<int>(current_thread->linear % kWarpThreads);
    const int first = lane & ~(width - 1), last = first + width - 1;
    int source = lane;
    switch (from) {
        case ShuffleFrom::kIndex: source = first | (operand & (width - 1)); break;
        case ShuffleFrom::kUp: source = lane - operand < first ? lane : lane - operand; break;
        case ShuffleFrom::kDown: source = lane + operand > last ? lane : lane + operand; break;
        case ShuffleFrom::kXor: source = (lane ^ (operand & 31)) > last ? lane : lane ^ (operand & 31); break;
    }
    ShuffleRequest request = {value, static_cast<unsigned>(source), 0};
    warp_collective(kShuffle, mask, &request, site);
    return request.result;
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
    VoteRequest request = {predicate, 0};
    warp_collective(kVote, mask, &request, site);
    return request.result;
}

}  // namespace nat_emulator
