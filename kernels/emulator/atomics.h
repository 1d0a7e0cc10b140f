// Atomic functions. Blocks run on several operating-system threads, so these are real atomics.
// Memory order is relaxed, as on a card: an atomic orders nothing but itself.
//
// A float sum by atomics depends on the order of arrival; nothing on a result's path uses it.
#pragma once

#include "types.h"

namespace nat_emulator {

// Replaces *address by change(*address), atomically; returns the old value.
template <class T, class Change>
inline T atomic_change(T* address, Change change) {
    T old, changed;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do {
        changed = change(old);
    } while (!__atomic_compare_exchange(address, &old, &changed, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

}  // namespace nat_emulator

inline int atomicAdd(int* p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicAdd(unsigned* p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
inline float atomicAdd(float* p, float v) {
    return nat_emulator::atomic_change(p, [v](float old) { return old + v; });
}
inline double atomicAdd(double* p, double v) {
    return nat_emulator::atomic_change(p, [v](double old) { return old + v; });
}
inline int atomicSub(int* p, int v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicSub(unsigned* p, unsigned v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }

inline int atomicMax(int* p, int v) {
    return nat_emulator::atomic_change(p, [v](int old) { return old < v ? v : old; });
}
inline unsigned atomicMax(unsigned* p, unsigned v) {
    return nat_emulator::atomic_change(p, [v](unsigned old) { return old < v ? v : old; });
}
inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) {
    return nat_emulator::atomic_change(p, [v](unsigned long long old) { return old < v ? v : old; });
}
inline int atomicMin(int* p, int v) {
    return nat_emulator::atomic_change(p, [v](int old) { return v < old ? v : old; });
}
inline unsigned atomicMin(unsigned* p, unsigned v) {
    return nat_emulator::atomic_change(p, [v](unsigned old) { return v < old ? v : old; });
}
inline int atomicAnd(int* p, int v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicAnd(unsigned* p, unsigned v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }
inline int atomicOr(int* p, int v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicOr(unsigned* p, unsigned v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
inline int atomicExch(int* p, int v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicExch(unsigned* p, unsigned v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }
inline float atomicExch(float* p, float v) {
    return nat_emulator::atomic_change(p, [v](float) { return v; });
}
inline int atomicCAS(int* p, int expected, int v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
