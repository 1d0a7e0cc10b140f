#include "shared.h"

#include "launch_state.h"
#include "sanitizer.h"
#include "shared_memory.h"
#include "worker.h"

#include <cstdlib>
#include <new>

namespace nat_emulator {
namespace {

// cp.async, ldmatrix and float4 want 16; 128 is what a card gives.
constexpr std::size_t kAlignment = 128;

void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, kAlignment, bytes != 0 ? bytes : 1) == 0 ? memory : nullptr;
}

// Word by word: the C library's memset would be a write of this thread in ThreadSanitizer's eyes.
void poison(void* memory, std::size_t bytes) {
    auto* words = static_cast<uint32_t*>(memory);
    for (std::size_t i = 0; i < bytes / 4; ++i) words[i] = kPoison;
    auto* rest = reinterpret_cast<unsigned char*>(words + bytes / 4);
    for (std::size_t i = 0; i < bytes % 4; ++i) rest[i] = static_cast<unsigned char>(kPoison >> (8 * i));
}

}  // namespace

bool SharedMemory::keep_until_end(void* memory) {
    auto* node = new (std::nothrow) Retired{memory, retired_};
    if (node == nullptr) return false;
    retired_ = node;
    return true;
}

bool SharedMemory::begin_block(const LaunchState& launch) {
    if (kThreadSanitizer) {
        for (unsigned i = 0; i < array_count_; ++i) {
            if (!keep_until_end(arrays_[i].memory)) return false;
        }
        array_count_ = 0;
        if (dynamic_ != nullptr && !keep_until_end(dynamic_)) return false;
        dynamic_ = nullptr;
        if (order_ != nullptr && !keep_until_end(order_)) return false;
        order_ = nullptr;
    }
    for (unsigned i = 0; i < array_count_; ++i) arrays_[i].fresh = false;
    if (dynamic_ == nullptr) {
        dynamic_ = allocate(launch.dynamic_shared_bytes);
        if (dynamic_ == nullptr) return false;
        dynamic_bytes_ = launch.dynamic_shared_bytes;
    }
    poison(dynamic_, dynamic_bytes_);
    if (order_ == nullptr) order_ = static_cast<char*>(std::malloc(1 + kMaxWarps));
    return order_ != nullptr;
}

void SharedMemory::end_launch() {
    for (unsigned i = 0; i < array_count_; ++i) std::free(arrays_[i].memory);
    array_count_ = 0;
    std::free(dynamic_);
    dynamic_ = nullptr;
    std::free(order_);
    order_ = nullptr;
    while (retired_ != nullptr) {
        Retired* node = retired_;
        retired_ = node->next;
        std::free(node->memory);
        delete node;
    }
}

std::size_t SharedMemory::bytes_in_use() const {
    std::size_t bytes = dynamic_bytes_;
    for (unsigned i = 0; i < array_count_; ++i) bytes += arrays_[i].bytes;
    return bytes;
}

void* SharedMemory::static_array(const void* key, std::size_t bytes) {
    Array* array = nullptr;
    for (unsigned i = 0; i < array_count_; ++i) {
        if (arrays_[i].key == key) array = &arrays_[i];
    }
    if (array == nullptr) {
        if (array_count_ == kMaxArrays) return nullptr;
        void* memory = allocate(bytes);
        if (memory == nullptr) return nullptr;
        array = &arrays_[array_count_++];
        *array = {key, memory, bytes, false};
    }
    if (!array->fresh) {
        poison(array->memory, array->bytes);
        array->fresh = true;
        order_release(array->memory);
    }
    order_acquire(array->memory);
    return array->memory;
}

void* block_static_shared(const void* key, std::size_t bytes, Site site) {
    SharedMemory& shared = current_block->worker->shared;
    void* memory = shared.static_array(key, bytes);
    if (memory == nullptr) fail(Status::kOutOfMemory, site, "no memory for a shared array of %zu bytes", bytes);
    if (shared.bytes_in_use() > kMaxSharedBytes) {
        fail(Status::kBadConfiguration, site, "the block uses %zu bytes of shared memory, a card has %zu",
             shared.bytes_in_use(), kMaxSharedBytes);
    }
    return memory;
}

void* block_dynamic_shared() { return current_block->worker->shared.dynamic(); }

}  // namespace nat_emulator
