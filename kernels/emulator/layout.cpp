#include "layout.h"

namespace nat_emulator {
namespace {

// Constant-initialised, so it is there before the first registration runs.
LayoutEntry* layouts = nullptr;

}  // namespace

LayoutRegistration::LayoutRegistration(LayoutEntry& entry) {
    entry.next = layouts;
    layouts = &entry;
}

}  // namespace nat_emulator

int natv2_emulator_layout(size_t index, natv2_emulator_layout_info* info) {
    const nat_emulator::LayoutEntry* entry = nat_emulator::layouts;
    for (; entry != nullptr && index > 0; --index) entry = entry->next;
    if (entry != nullptr) *info = entry->info;
    return entry != nullptr;
}
