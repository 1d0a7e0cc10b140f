// Who has to find the bugs of bugs.cu.
#include "check.h"

#include <algorithm>

using check::Finder;

namespace {

// Launches on `count` fresh zeros, in the order given; returns the values after.
template <class... Arguments>
std::vector<float> values_after(bool reverse, const char* kernel, unsigned threads, std::size_t count,
                                Arguments... arguments) {
    std::vector<float> x(count, 0.0f);
    check::try_launch_in(reverse, kernel, {1}, {threads}, 0, x.data(), arguments...);
    return x;
}

// Whether a launch of one block of 32 threads on a buffer ends with an error that contains `text`.
bool refused(const char* kernel, const char* text, unsigned threads = 32, unsigned shared_bytes = 0) {
    std::vector<float> x(64);
    bool found = true;
    for (bool reverse : {false, true}) {
        const check::Outcome outcome = check::try_launch_in(reverse, kernel, {1}, {threads}, shared_bytes, x.data());
        std::printf("    %d %s\n", outcome.status, outcome.message.c_str());
        found = found && outcome.status != 0 && outcome.message.find(text) != std::string::npos &&
                outcome.message.find(kernel) != std::string::npos;
    }
    // The emulator is as good as new after an error.
    std::vector<float> y = values_after(false, "bug_uninitialised", 32, 32);
    return found && y[0] == 1.0f;
}

}  // namespace

NAT_BUG(global_bounds, Finder::kAddress, "heap-buffer-overflow") {
    std::vector<float> x(100);
    check::try_launch("bug_global_bounds", {2}, {64}, 0, x.data(), 100);
    return false;
}
NAT_BUG(shared_bounds, Finder::kAddress, "heap-buffer-overflow") {
    std::vector<float> x(64);
    check::try_launch("bug_shared_bounds", {1}, {64}, 0, x.data(), 1);
    return false;
}
NAT_BUG(dynamic_bounds, Finder::kAddress, "heap-buffer-overflow") {
    std::vector<float> x(64);
    check::try_launch("bug_dynamic_bounds", {1}, {64}, 64 * sizeof(float), x.data(), 1);
    return false;
}
NAT_BUG(index, Finder::kUndefined, "out of bounds") {
    std::vector<float> x(64);
    check::try_launch("bug_index", {1}, {64}, 0, x.data(), 1);
    return false;
}
NAT_BUG(misaligned, Finder::kUndefined, "misaligned address") {
    std::vector<float> x(8), y(1);
    check::try_launch("bug_misaligned", {1}, {1}, 0, static_cast<const float*>(x.data()), y.data());
    return false;
}
NAT_BUG(missing_barrier, Finder::kThread, "data race") {
    std::vector<float> x(128);
    check::try_launch("bug_missing_barrier", {1}, {128}, 0, x.data());
    return false;
}
NAT_BUG(missing_syncwarp, Finder::kThread, "data race") {
    std::vector<float> x(32);
    check::try_launch("bug_missing_syncwarp", {1}, {32}, 0, x.data());
    return false;
}
NAT_BUG(block_race, Finder::kThread, "data race") {
    float x = 0.0f;
    check::try_launch("bug_block_race", {3}, {32}, 0, &x);
    return false;
}
NAT_BUG(missing_barrier_by_order, Finder::kResult, "") {
    return values_after(false, "bug_missing_barrier", 128, 128) != values_after(true, "bug_missing_barrier", 128, 128);
}
NAT_BUG(divergent_exit, Finder::kLaunch, "") { return refused("bug_divergent_exit", "25 of 32 have returned"); }
NAT_BUG(divergent_branch, Finder::kLaunch, "") { return refused("bug_divergent_branch", "others wait at that of"); }
NAT_BUG(divergent_shuffle, Finder::kLaunch, "") {
    return refused("bug_divergent_shuffle", "16 of 32 wait at the shuffle of");
}
NAT_BUG(mask, Finder::kLaunch, "") { return refused("bug_mask", "which is not in it"); }
NAT_BUG(partial_mma, Finder::kLaunch, "") { return refused("bug_partial_mma", "needs all 32 lanes", 24); }
NAT_BUG(ldmatrix_address, Finder::kLaunch, "") { return refused("bug_ldmatrix_address", "multiple of 16"); }
NAT_BUG(trap, Finder::kLaunch, "") { return refused("bug_trap", "thread (3, 0, 0)"); }
NAT_BUG(too_much_shared, Finder::kLaunch, "") {
    return refused("bug_too_much_shared", "a card has 232448", 32, 229000);
}
NAT_BUG(uninitialised, Finder::kResult, "") {
    const std::vector<float> x = values_after(false, "bug_uninitialised", 32, 32);
    return std::isnan(x[5]) && std::count(x.begin(), x.end(), 1.0f) == 31;
}
NAT_BUG(missing_wait, Finder::kResult, "") {
    std::vector<float> in(128, 2.0f), out(32);
    check::try_launch_in(false, "bug_missing_wait", {1}, {32}, 0, static_cast<const float*>(in.data()), out.data());
    return std::isnan(out[0]);
}
