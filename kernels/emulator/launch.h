// The table of kernels, and launches through a C interface.
//
// NAT_KERNEL registers a kernel when the program starts: its name, how many threads a block may
// have, the sizes of its arguments, and a function that calls it with arguments given as CUDA's
// cuLaunchKernel takes them, an array of pointers to the values.
#pragma once

#include "bank_conflicts.h"
#include "block.h"

#include <utility>

namespace nat_emulator {

struct KernelEntry {
    const char* name;
    const char* file;
    unsigned max_threads;
    unsigned argument_count;
    const std::size_t* argument_bytes;
    void (*call)(void** arguments);
    KernelEntry* next;  // the table is a list
};

// Adds a kernel to the table.
struct Registration {
    explicit Registration(KernelEntry& entry);
};

template <class Function>
struct KernelTraits;

template <class... Arguments>
struct KernelTraits<void (*)(Arguments...)> {
    static constexpr unsigned count = sizeof...(Arguments);
    // One more than needed: an array may not be empty.
    static constexpr std::size_t bytes[count + 1] = {sizeof(Arguments)..., 0};

    template <void (*kernel)(Arguments...)>
    static void call(void** arguments) {
        unpack<kernel>(arguments, std::index_sequence_for<Arguments...>{});
    }

private:
    template <void (*kernel)(Arguments...), std::size_t... index>
    static void unpack([[maybe_unused]] void** arguments, std::index_sequence<index...>) {
        kernel(*static_cast<Arguments*>(arguments[index])...);
    }
};

}  // namespace nat_emulator

#define NAT_KERNEL_BOUNDED(name, threads, ...)                                                                  \
    static void name(__VA_ARGS__);                                                                              \
    static nat_emulator::KernelEntry nat_entry_##name = {                                                       \
        #name,                                                                                                  \
        __FILE__,                                                                                               \
        threads,                                                                                                \
        nat_emulator::KernelTraits<decltype(&name)>::count,                                                     \
        nat_emulator::KernelTraits<decltype(&name)>::bytes,                                                     \
        &nat_emulator::KernelTraits<decltype(&name)>::call<&name>,                                              \
        nullptr};                                                                                               \
    static const nat_emulator::Registration nat_registration_##name(nat_entry_##name);                          \
    static void name(__VA_ARGS__)

#define NAT_KERNEL_RESIDENT(name, threads, blocks, ...) NAT_KERNEL_BOUNDED(name, threads, __VA_ARGS__)

#define NAT_KERNEL(name, ...) NAT_KERNEL_BOUNDED(name, nat_emulator::kMaxBlockThreads, __VA_ARGS__)

// The C interface. src/device/emulated.rs mirrors these structs.
extern "C" {

struct natv2_emulator_launch_request {
    const char* kernel;
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;        // dynamic
    uint32_t argument_count;
    void* const* arguments;       // pointers to the values
    const size_t* argument_bytes;  // their sizes
    uint32_t threads;             // operating-system threads to use, the caller included
    uint32_t order;               // 0 forward, 1 reverse; environment NATV2_EMULATOR_ORDER=reverse turns 0 into 1
    natv2_emulator_bank_counts* bank_counts;  // filled where the launch succeeds; null: they are not counted
};

struct natv2_emulator_kernel_info {
    const char* name;
    const char* file;
    uint32_t max_threads;
    uint32_t argument_count;
    const size_t* argument_bytes;
};

// Runs a kernel to its end. Returns a nat_emulator::Status; unless it is 0, `message` says what
// happened, cut off at `message_bytes`. May be called from several threads at once.
int natv2_emulator_launch(const natv2_emulator_launch_request* request, char* message, size_t message_bytes);

// Describes the kernel of that name; returns 1, or 0 where there is none.
int natv2_emulator_find(const char* name, natv2_emulator_kernel_info* info);

// Describes the kernel at `index` in the table (in no particular order); 0 past the end.
int natv2_emulator_kernel(size_t index, natv2_emulator_kernel_info* info);
}
