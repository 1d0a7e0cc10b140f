#include "launch.h"

#include "bank_counter.h"
#include "launch_state.h"
#include "sanitizer.h"
#include "shared.h"
#include "thread_pool.h"
#include "worker.h"

#include <cstdarg>
#include <cstdlib>
#include <memory>

namespace nat_emulator {
namespace {

// Constant-initialised, so it is there before the first registration runs.
KernelEntry* table = nullptr;

const KernelEntry* find(const char* name) {
    for (const KernelEntry* entry = table; entry != nullptr; entry = entry->next) {
        if (std::strcmp(entry->name, name) == 0) return entry;
    }
    return nullptr;
}

bool reverse_by_environment() {
    static const bool reverse = [] {
        const char* order = std::getenv("NATV2_EMULATOR_ORDER");
        return order != nullptr && std::strcmp(order, "reverse") == 0;
    }();
    return reverse;
}

// Runs blocks of the launch until none is left.
void work(LaunchState& launch) {
    // On the heap: a library that holds the emulator is loaded into a running process, which has little room left for
    // the threads' own variables.
    static thread_local const std::unique_ptr<Worker> own = std::make_unique<Worker>();
    Worker& worker = *own;
    const std::uint64_t x = launch.grid.x, y = launch.grid.y;
    const std::uint64_t blocks = x * y * launch.grid.z;
    while (!launch.stop.load(std::memory_order_relaxed)) {
        // Relaxed: taking a block must not order it after the blocks before it (sanitizer.h).
        const std::uint64_t taken = launch.next_block.fetch_add(1, std::memory_order_relaxed);
        if (taken >= blocks) break;
        const std::uint64_t b = launch.reverse ? blocks - 1 - taken : taken;
        const uint3 index = {static_cast<unsigned>(b % x), static_cast<unsigned>(b / x % y),
                             static_cast<unsigned>(b / (x * y))};
        if (!worker.run_block(launch, index)) break;
    }
    order_acquire(&launch.end_order);
    worker.shared.end_launch();
}

struct Refusal {
    char* message;
    std::size_t message_bytes;

    int operator()(Status status, const char* format, ...) const __attribute__((format(printf, 3, 4))) {
        if (message_bytes > 0) {
            va_list arguments;
            va_start(arguments, format);
            std::vsnprintf(message, message_bytes, format, arguments);
            va_end(arguments);
        }
        return static_cast<int>(status);
    }
};

void describe(const KernelEntry& entry, natv2_emulator_kernel_info* info) {
    *info = {entry.name, entry.file, entry.max_threads, entry.argument_count, entry.argument_bytes};
}

}  // namespace

Registration::Registration(KernelEntry& entry) {
    entry.next = table;
    table = &entry;
}

}  // namespace nat_emulator

using namespace nat_emulator;

int natv2_emulator_launch(const natv2_emulator_launch_request* request, char* message, size_t message_bytes) {
    const Refusal refuse = {message, message_bytes};
    const KernelEntry* entry = find(request->kernel);
    if (entry == nullptr) return refuse(Status::kUnknownKernel, "there is no kernel named %s", request->kernel);
    if (request->argument_count != entry->argument_count) {
        return refuse(Status::kBadArguments, "kernel %s takes %u arguments, not %u", entry->name,
                      entry->argument_count, request->argument_count);
    }
    for (unsigned i = 0; i < entry->argument_count; ++i) {
        if (request->argument_bytes[i] != entry->argument_bytes[i]) {
            return refuse(Status::kBadArguments, "kernel %s: argument %u has %zu bytes, not %zu", entry->name, i,
                          entry->argument_bytes[i], request->argument_bytes[i]);
        }
    }
    const uint32_t* g = request->grid;
    const uint32_t* b = request->block;
    if (g[0] == 0 || g[1] == 0 || g[2] == 0 || g[0] > 0x7fffffffu || g[1] > 65535 || g[2] > 65535) {
        return refuse(Status::kBadConfiguration,
                      "kernel %s: a grid of (%u, %u, %u) blocks; each must be at least 1, x at most 2147483647, "
                      "y and z at most 65535",
                      entry->name, g[0], g[1], g[2]);
    }
    const std::uint64_t threads = static_cast<std::uint64_t>(b[0]) * b[1] * b[2];
    if (threads == 0 || b[0] > 1024 || b[1] > 1024 || b[2] > 64 || threads > entry->max_threads) {
        return refuse(Status::kBadConfiguration,
                      "kernel %s: a block of (%u, %u, %u) threads; this kernel takes 1 to %u, z at most 64",
                      entry->name, b[0], b[1], b[2], entry->max_threads);
    }
    if (request->shared_bytes > kMaxSharedBytes) {
        return refuse(Status::kBadConfiguration, "kernel %s: %u bytes of dynamic shared memory, a card has %zu",
                      entry->name, request->shared_bytes, kMaxSharedBytes);
    }

    LaunchState launch;
    launch.entry = entry;
    launch.arguments = const_cast<void**>(request->arguments);
    launch.grid = dim3(g[0], g[1], g[2]);
    launch.block = dim3(b[0], b[1], b[2]);
    launch.dynamic_shared_bytes = request->shared_bytes;
    launch.reverse = request->order == 1 || reverse_by_environment();
    BankCounter counter;
    launch.counter = request->bank_counts != nullptr ? &counter : nullptr;

    const std::uint64_t blocks = static_cast<std::uint64_t>(g[0]) * g[1] * g[2];
    const std::uint64_t wanted = request->threads > 1 ? request->threads : 1;
    const unsigned helpers = static_cast<unsigned>((blocks < wanted ? blocks : wanted) - 1);
    ThreadPool::instance().run(helpers, [&launch] { work(launch); });
    order_acquire(&launch.end_order);
    if (launch.status != Status::kOk) return refuse(launch.status, "%s", launch.message);
    if (request->bank_counts != nullptr) counter.finish(request->bank_counts);
    return 0;
}

int natv2_emulator_find(const char* name, natv2_emulator_kernel_info* info) {
    const KernelEntry* entry = find(name);
    if (entry != nullptr) describe(*entry, info);
    return entry != nullptr;
}

int natv2_emulator_kernel(size_t index, natv2_emulator_kernel_info* info) {
    const KernelEntry* entry = table;
    for (; entry != nullptr && index > 0; --index) entry = entry->next;
    if (entry != nullptr) describe(*entry, info);
    return entry != nullptr;
}
