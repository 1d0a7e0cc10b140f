// The shared memory of the block that an operating-system thread runs. Internal to the emulator's
// .cpp files; kernels see shared.h.
#pragma once

#include <cstddef>

namespace nat_emulator {

struct LaunchState;

class SharedMemory {
public:
    // Fresh poison everywhere. Returns false where there is no memory.
    bool begin_block(const LaunchState& launch);
    // Frees everything.
    void end_launch();

    // The static array of a declaration; null where there is no memory or no room for its entry.
    void* static_array(const void* key, std::size_t bytes);
    void* dynamic() const { return dynamic_; }
    std::size_t bytes_in_use() const;

    // A byte for the block's barrier and one per warp, unique to the block (sanitizer.h).
    char* order_bytes() { return order_; }

    // Frees malloc'd memory when the launch ends, not before. False: no memory for the note.
    bool keep_until_end(void* memory);

private:
    static constexpr unsigned kMaxArrays = 64;
    struct Array {
        const void* key;
        void* memory;
        std::size_t bytes;
        bool fresh;  // poisoned, and claimed by the running block
    };
    // What ThreadSanitizer builds keep until the launch ends: memory used by an earlier block that
    // is not ordered before this one must not be used again.
    struct Retired {
        void* memory;
        Retired* next;
    };
    Array arrays_[kMaxArrays];
    unsigned array_count_ = 0;
    void* dynamic_ = nullptr;
    std::size_t dynamic_bytes_ = 0;
    char* order_ = nullptr;
    Retired* retired_ = nullptr;
};

}  // namespace nat_emulator
