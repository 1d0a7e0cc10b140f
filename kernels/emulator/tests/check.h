// A small test harness for emulated kernels.
//
// NAT_CHECK(name) { ... } registers a check: it launches kernels and calls expect(). Any number of
// .cpp files with checks, and of .cu files with kernels, are linked with driver.cpp into a program
// that runs them; check-sanitizers.sh builds that program under the sanitizers too.
//
// NAT_BUG(name, finder, text) { ... } registers a kernel with a planted bug. `finder` says who has
// to find it: `kLaunch`, the launch returns an error whose message contains `text`; `kResult`, the
// check itself sees that forward and reverse order, or poison, gave wrong values (it returns true
// if so); `kAddress`, `kUndefined`, `kThread`, that sanitizer ends the program with `text` in its
// report.
#pragma once

#include "../launch.h"

#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

namespace check {

struct Case {
    const char* name;
    void (*run)();
    Case* next;
    static Case*& first() {
        static Case* head = nullptr;
        return head;
    }
    Case(const char* name_, void (*run_)()) : name(name_), run(run_), next(first()) { first() = this; }
};

enum class Finder { kLaunch, kResult, kAddress, kUndefined, kThread };

struct Bug {
    const char* name;
    Finder finder;
    const char* text;
    bool (*run)();
    Bug* next;
    static Bug*& first() {
        static Bug* head = nullptr;
        return head;
    }
    Bug(const char* name_, Finder finder_, const char* text_, bool (*run_)())
        : name(name_), finder(finder_), text(text_), run(run_), next(first()) {
        first() = this;
    }
};

#define NAT_CHECK(name)                                       \
    static void check_##name();                               \
    static const check::Case case_##name(#name, check_##name); \
    static void check_##name()

#define NAT_BUG(name, finder, text)                                                 \
    static bool bug_check_##name();                                                 \
    static const check::Bug bug_case_##name(#name, finder, text, bug_check_##name); \
    static bool bug_check_##name()

// How checks launch: set from the command line.
struct Options {
    unsigned threads = 1;
    bool reverse = false;
    natv2_emulator_bank_counts* bank_counts = nullptr;  // of the launches that follow
};
inline Options& options() {
    static Options value;
    return value;
}

inline int& failures() {
    static int count = 0;
    return count;
}

// Notes a failure of the running check, unless `condition` holds.
__attribute__((format(printf, 2, 3))) inline bool expect(bool condition, const char* format, ...) {
    if (!condition) {
        // The first few are enough to see what is wrong.
        if (++failures() <= 10) {
            va_list arguments;
            va_start(arguments, format);
            std::fprintf(stderr, "    ");
            std::vfprintf(stderr, format, arguments);
            std::fprintf(stderr, "\n");
            va_end(arguments);
        }
    }
    return condition;
}

struct Shape {
    unsigned x = 1, y = 1, z = 1;
};

struct Outcome {
    int status;
    std::string message;
};

// Launches; the argument types must be the kernel's, exactly.
template <class... Arguments>
Outcome try_launch_in(bool reverse, const char* kernel, Shape grid, Shape block, unsigned shared_bytes,
                      Arguments... arguments) {
    void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
    const size_t sizes[] = {sizeof(Arguments)..., 0};
    natv2_emulator_launch_request request = {};
    request.kernel = kernel;
    request.grid[0] = grid.x, request.grid[1] = grid.y, request.grid[2] = grid.z;
    request.block[0] = block.x, request.block[1] = block.y, request.block[2] = block.z;
    request.shared_bytes = shared_bytes;
    request.argument_count = sizeof...(Arguments);
    request.arguments = pointers;
    request.argument_bytes = sizes;
    request.threads = options().threads;
    request.order = reverse ? 1 : 0;
    request.bank_counts = options().bank_counts;
    char message[1024] = "";
    const int status = natv2_emulator_launch(&request, message, sizeof message);
    return {status, message};
}

template <class... Arguments>
Outcome try_launch(const char* kernel, Shape grid, Shape block, unsigned shared_bytes, Arguments... arguments) {
    return try_launch_in(options().reverse, kernel, grid, block, shared_bytes, arguments...);
}

// Launches and notes a failure of the check unless that went well.
template <class... Arguments>
bool launch(const char* kernel, Shape grid, Shape block, unsigned shared_bytes, Arguments... arguments) {
    const Outcome outcome = try_launch(kernel, grid, block, shared_bytes, arguments...);
    return expect(outcome.status == 0, "%s: status %d: %s", kernel, outcome.status, outcome.message.c_str());
}

// Small whole numbers, so that f32 sums are exact in any order.
class Numbers {
public:
    explicit Numbers(uint64_t seed) : state_(seed * 2 + 1) {}
    uint32_t bits() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 33);
    }
    int between(int low, int high) { return low + static_cast<int>(bits() % static_cast<unsigned>(high - low + 1)); }
    std::vector<float> floats(std::size_t count, int low = -4, int high = 4) {
        std::vector<float> values(count);
        for (float& value : values) value = static_cast<float>(between(low, high));
        return values;
    }

private:
    uint64_t state_;
};

}  // namespace check
