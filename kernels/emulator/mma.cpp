#include "mma.h"

#include "bank_conflicts.h"
#include "half.h"

namespace nat_emulator {
namespace {

struct MmaRequest {
    MmaType type;
    const unsigned* a;
    const unsigned* b;
    const float* c;
    float d[4];
};

// The float values of the two elements of a register.
inline void unpack(MmaType type, unsigned bits, float* low, float* high) {
    const auto low_bits = static_cast<uint16_t>(bits), high_bits = static_cast<uint16_t>(bits >> 16);
    if (type == MmaType::kHalf) {
        *low = half_bits_to_float(low_bits);
        *high = half_bits_to_float(high_bits);
    } else {
        *low = bfloat16_bits_to_float(low_bits);
        *high = bfloat16_bits_to_float(high_bits);
    }
}

void execute_mma(void* const* requests, unsigned) {
    float a[16][16], b[16][8], d[16][8];
    const MmaType type = static_cast<const MmaRequest*>(requests[0])->type;
    for (int lane = 0; lane < 32; ++lane) {
        const auto& request = *static_cast<const MmaRequest*>(requests[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) {
            const int row = g + 8 * (i % 2), k = 2 * t + 8 * (i / 2);
            unpack(type, request.a[i], &a[row][k], &a[row][k + 1]);
        }
        for (int i = 0; i < 2; ++i) {
            const int k = 2 * t + 8 * i;
            unpack(type, request.b[i], &b[k][g], &b[k + 1][g]);
        }
        for (int i = 0; i < 4; ++i) d[g + 8 * (i / 2)][2 * t + i % 2] = request.c[i];
    }
    for (int row = 0; row < 16; ++row) {
        for (int k = 0; k < 16; ++k) {
            for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        auto& request = *static_cast<MmaRequest*>(requests[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) request.d[i] = d[g + 8 * (i / 2)][2 * t + i % 2];
    }
}

struct LdmatrixRequest {
    const unsigned* row;
    const void* address;
    unsigned* registers;
    int matrices;
    bool transpose;
};

void execute_ldmatrix(void* const* requests, unsigned) {
    const auto& first = *static_cast<const LdmatrixRequest*>(requests[0]);
    for (int matrix = 0; matrix < first.matrices; ++matrix) {
        uint16_t element[8][8];
        const void* addresses[8];
        for (int row = 0; row < 8; ++row) {
            const auto& request = *static_cast<const LdmatrixRequest*>(requests[8 * matrix + row]);
            std::memcpy(element[row], request.row, 16);
            addresses[row] = request.address;
        }
        note_matrix(addresses);
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = lane % 4;
            const uint16_t low = first.transpose ? element[2 * t][g] : element[g][2 * t];
            const uint16_t high = first.transpose ? element[2 * t + 1][g] : element[g][2 * t + 1];
            static_cast<const LdmatrixRequest*>(requests[lane])->registers[matrix] =
                static_cast<unsigned>(low) | static_cast<unsigned>(high) << 16;
        }
    }
}

// Separate operations, so that lanes that disagree on the type do not meet.
const WarpOperation kMmaHalf = {"mma.m16n8k16 f16", execute_mma, true, false, false};
const WarpOperation kMmaBfloat16 = {"mma.m16n8k16 bf16", execute_mma, true, false, false};
const WarpOperation kLdmatrix = {"ldmatrix", execute_ldmatrix, true, false, false};

}  // namespace

void mma_m16n8k16(MmaType type, float d[4], const unsigned a[4], const unsigned b[2], const float c[4], Site site) {
    MmaRequest request = {type, a, b, c, {}};
    warp_collective(type == MmaType::kHalf ? kMmaHalf : kMmaBfloat16, 0xffffffffu, &request, site);
    for (int i = 0; i < 4; ++i) d[i] = request.d[i];
}

void ldmatrix_exchange(unsigned* registers, const unsigned row[4], const void* address, int matrices, bool transpose,
                       Site site) {
    unsigned result[4] = {};
    LdmatrixRequest request = {row, address, result, matrices, transpose};
    warp_collective(kLdmatrix, 0xffffffffu, &request, site);
    for (int i = 0; i < matrices; ++i) registers[i] = result[i];
}

}  // namespace nat_emulator
