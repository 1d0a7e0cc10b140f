// mma.m16n8k16 and ldmatrix on a warp of fibers, with the fragment layouts of the PTX manual.
//
// With g = lane / 4 and t = lane % 4, lane holds of D = A B + C (A 16 x 16 row-major, B 16 x 8
// column-major, C and D 16 x 8), two 16-bit elements a register, the lower k in the lower half:
//   a[0]: A[g][2t, 2t+1]      a[1]: A[g+8][2t, 2t+1]
//   a[2]: A[g][2t+8, 2t+9]    a[3]: A[g+8][2t+8, 2t+9]
//   b[0]: B[2t, 2t+1][g]      b[1]: B[2t+8, 2t+9][g]
//   c[0], c[1]: C[g][2t, 2t+1]    c[2], c[3]: C[g+8][2t, 2t+1]
// ldmatrix loads 8 x 8 matrices of 16-bit elements: lanes 8i to 8i + 7 give the addresses of the
// rows of matrix i; lane gets of each matrix row g, columns 2t and 2t + 1; transposed, column g,
// rows 2t and 2t + 1.
//
// Products are exact in f32 and are added to C in f32 in order of k. A card adds them in an order
// and with a truncation that are not documented: agreement is to rounding, not to bits.
#pragma once

#include "warp.h"

namespace nat_emulator {

enum class MmaType { kHalf, kBfloat16 };

void mma_m16n8k16(MmaType type, float d[4], const unsigned a[4], const unsigned b[2], const float c[4], Site site);

// Shares out the rows that the lanes have loaded: `row` is this lane's 16 bytes, from `address`.
void ldmatrix_exchange(unsigned* registers, const unsigned row[4], const void* address, int matrices, bool transpose,
                       Site site);

// Loads this lane's row here, in the kernel's own code, where the sanitizers watch.
inline void ldmatrix(unsigned* registers, const void* address, int matrices, bool transpose, Site site) {
    unsigned row[4] = {};
    const unsigned lane = current_thread->linear % kWarpThreads;
    if (lane < 8u * static_cast<unsigned>(matrices)) {
        if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
            fail(Status::kBadAccess, site, "ldmatrix: the address of a row must be a multiple of 16, not %p", address);
        }
        std::memcpy(row, address, sizeof row);
    }
    ldmatrix_exchange(registers, row, address, matrices, transpose, site);
}

}  // namespace nat_emulator
