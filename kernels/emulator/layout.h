// A table of the structs that kernels take, for the test that compares them with their Rust twins.
//
// NAT_LAYOUT(Type, fields...) in a kernel file adds the struct's size and the offsets of its
// fields, in the order given. Only the emulated build has the table; nvcc lays out the same source
// in the same way.
#pragma once

#include <cstddef>

extern "C" {

struct natv2_emulator_layout_info {
    const char* name;
    const char* fields;  // as written: "x, w, y"
    size_t bytes;
    size_t field_count;
    const size_t* offsets;
};

// The struct number `index`, in no particular order. Returns 1, or 0 where there is none.
int natv2_emulator_layout(size_t index, struct natv2_emulator_layout_info* info);

}  // extern "C"

namespace nat_emulator {

struct LayoutEntry {
    natv2_emulator_layout_info info;
    LayoutEntry* next;
};

struct LayoutRegistration {
    explicit LayoutRegistration(LayoutEntry& entry);
};

}  // namespace nat_emulator

#define NAT_OFFSETS_1(T, a) offsetof(T, a)
#define NAT_OFFSETS_2(T, a, ...) offsetof(T, a), NAT_OFFSETS_1(T, __VA_ARGS__)
#define NAT_OFFSETS_3(T, a, ...) offsetof(T, a), NAT_OFFSETS_2(T, __VA_ARGS__)
#define NAT_OFFSETS_4(T, a, ...) offsetof(T, a), NAT_OFFSETS_3(T, __VA_ARGS__)
#define NAT_OFFSETS_5(T, a, ...) offsetof(T, a), NAT_OFFSETS_4(T, __VA_ARGS__)
#define NAT_OFFSETS_6(T, a, ...) offsetof(T, a), NAT_OFFSETS_5(T, __VA_ARGS__)
#define NAT_OFFSETS_7(T, a, ...) offsetof(T, a), NAT_OFFSETS_6(T, __VA_ARGS__)
#define NAT_OFFSETS_8(T, a, ...) offsetof(T, a), NAT_OFFSETS_7(T, __VA_ARGS__)
#define NAT_OFFSETS_9(T, a, ...) offsetof(T, a), NAT_OFFSETS_8(T, __VA_ARGS__)
#define NAT_OFFSETS_10(T, a, ...) offsetof(T, a), NAT_OFFSETS_9(T, __VA_ARGS__)
#define NAT_OFFSETS_11(T, a, ...) offsetof(T, a), NAT_OFFSETS_10(T, __VA_ARGS__)
#define NAT_OFFSETS_12(T, a, ...) offsetof(T, a), NAT_OFFSETS_11(T, __VA_ARGS__)
#define NAT_OFFSETS_13(T, a, ...) offsetof(T, a), NAT_OFFSETS_12(T, __VA_ARGS__)
#define NAT_OFFSETS_14(T, a, ...) offsetof(T, a), NAT_OFFSETS_13(T, __VA_ARGS__)
#define NAT_OFFSETS_15(T, a, ...) offsetof(T, a), NAT_OFFSETS_14(T, __VA_ARGS__)
#define NAT_OFFSETS_16(T, a, ...) offsetof(T, a), NAT_OFFSETS_15(T, __VA_ARGS__)
#define NAT_OFFSETS_17(T, a, ...) offsetof(T, a), NAT_OFFSETS_16(T, __VA_ARGS__)
#define NAT_OFFSETS_18(T, a, ...) offsetof(T, a), NAT_OFFSETS_17(T, __VA_ARGS__)
#define NAT_OFFSETS_19(T, a, ...) offsetof(T, a), NAT_OFFSETS_18(T, __VA_ARGS__)
#define NAT_OFFSETS_20(T, a, ...) offsetof(T, a), NAT_OFFSETS_19(T, __VA_ARGS__)
#define NAT_OFFSETS_COUNT(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, q, r, s, t, u, count, ...) count
#define NAT_OFFSETS_CALL(macro, ...) macro(__VA_ARGS__)
#define NAT_OFFSETS_JOIN(count) NAT_OFFSETS_##count
#define NAT_OFFSETS_OF(count) NAT_OFFSETS_JOIN(count)
#define NAT_OFFSETS(T, ...)                                                                                   \
    NAT_OFFSETS_CALL(                                                                                         \
        NAT_OFFSETS_OF(NAT_OFFSETS_COUNT(__VA_ARGS__, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)), \
        T, __VA_ARGS__)

#define NAT_LAYOUT(T, ...)                                                                                    \
    static const size_t nat_offsets_##T[] = {NAT_OFFSETS(T, __VA_ARGS__)};                                    \
    static nat_emulator::LayoutEntry nat_layout_##T = {                                                       \
        {#T, #__VA_ARGS__, sizeof(T), sizeof(nat_offsets_##T) / sizeof(size_t), nat_offsets_##T}, nullptr};    \
    static const nat_emulator::LayoutRegistration nat_layout_registration_##T(nat_layout_##T)
