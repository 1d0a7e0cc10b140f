// One launch in progress, as all its blocks see it. Internal to the emulator's .cpp files.
#pragma once

#include "block.h"
#include "launch.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <mutex>

namespace nat_emulator {

constexpr std::size_t kMessageBytes = 1024;

class BankCounter;  // bank_counter.h

struct LaunchState {
    const KernelEntry* entry;
    void** arguments;
    dim3 grid, block;
    std::size_t dynamic_shared_bytes;
    bool reverse;
    BankCounter* counter = nullptr;  // of bank conflicts, where they are counted

    std::atomic<std::uint64_t> next_block{0};
    std::atomic<bool> stop{false};
    std::mutex error_mutex;
    Status status = Status::kOk;
    char message[kMessageBytes] = "";
    char end_order = 0;  // ThreadSanitizer: everything in the launch happens before its end

    // The first error stands; the rest of the launch is called off.
    void set_error(Status error, const char* text) {
        std::lock_guard<std::mutex> lock(error_mutex);
        if (status == Status::kOk) {
            status = error;
            std::snprintf(message, sizeof message, "%s", text);
        }
        stop.store(true, std::memory_order_relaxed);
    }
};

}  // namespace nat_emulator
