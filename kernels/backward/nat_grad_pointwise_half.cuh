// The tiles of grad_pointwise_half.cu, apart from its kernels, so that the emulator's checks can build one
// with another layout.
#pragma once

#include "nat_convolutions.cuh"
#include "nat_formats.cuh"

struct PointwiseHalfWeightsParams {
    PointwiseParams shape;
    unsigned format;  // 1 f16, 2 bf16: the kernel's name says it too
};

// 16-bit numbers are given by their bits.
struct PointwiseHalfWeightsArgs {
    const uint16_t* x;
    const uint16_t* dz;
    const float* gate;  // or null
    float* partials;    // [blocks][ceil(cout / 16)][cin][16]
    float* dw;          // [ceil(cout / 16)][weight_cin][16]
    PointwiseHalfWeightsParams p;
};

constexpr unsigned kWeightsSlice = 32;  // rows in shared memory at a time
constexpr unsigned kWeightsStages = 4;  // slices on their way or in use

// Where a chunk of a row of `kRow` chunks lies. The eight rows that one matrix of ldmatrix takes are at the
// same chunk; turned by their number they fall on different banks, of which eight chunks take all.
template <unsigned kRow, bool kSwizzled>
__device__ __forceinline__ unsigned turned_chunk(unsigned row, unsigned chunk) {
    static_assert(kRow == 4 || kRow == 8, "half of the banks' width, or all of it");
    return row * kRow + (kSwizzled ? chunk ^ (row / (8 / kRow) % kRow) : chunk);
}

template <class T, int kInputs, int kOutputs, int kWarpsDown, int kWarpsAcross, bool kSwizzled = true>
struct PointwiseHalfWeightsTile {
    static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
    static constexpr int kWarpInputs = kInputs / kWarpsDown, kWarpOutputs = kOutputs / kWarpsAcross;
    static constexpr int kDown = kWarpInputs / 16, kAcross = kWarpOutputs / 8;  // products of a warp
    static constexpr int kXRow = kInputs / kHalfChunk, kZRow = kOutputs / kHalfChunk;
    static constexpr int kXChunks = kWeightsSlice * kXRow, kZChunks = kWeightsSlice * kZRow;
    static constexpr int kXCopies = kXChunks / kThreads, kZCopies = kZChunks / kThreads;
    static constexpr int kBuffer = kXChunks + kZChunks, kShared = kWeightsStages * kBuffer;  // in 16 bytes
    static_assert(kWarpInputs % 16 == 0 && kWarpOutputs % 16 == 0, "whole products, and two of them across");
    static_assert(kXChunks % kThreads == 0 && kZChunks % kThreads == 0, "shared out evenly");

    static __device__ __forceinline__ void run(const PointwiseHalfWeightsArgs& a, uint4* shared) {
        const PointwiseParams& p = a.p.shape;
        const unsigned thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
        const unsigned output_tiles = ceil_div(p.cout, kOutputs), input_tiles = ceil_div(p.cin, kInputs);
        const unsigned first_output = blockIdx.x % output_tiles * kOutputs;
        const unsigned first_input = blockIdx.x / output_tiles % input_tiles * kInputs;
        const unsigned block = blockIdx.x / output_tiles / input_tiles;
        const unsigned pixels = p.side_out * p.side_out, rows = p.images * pixels;
        const unsigned first_row = block * kPointwiseRows, end_row = min(first_row + kPointwiseRows, rows);
        const unsigned slices = ceil_div(end_row - first_row, kWeightsSlice);

        // This thread copies one chunk of some rows of x, and one of some of dz. Channels are multiples of a
        // chunk, so that one is inside or is all zeros; so are those of rows behind the last.
        const unsigned x_chunk = thread % kXRow, x_first = thread / kXRow;
        const unsigned z_chunk = thread % kZRow, z_first = thread / kZRow;
        constexpr unsigned kXStep = kThreads / kXRow, kZStep = kThreads / kZRow;
        const unsigned k = first_input + kHalfChunk * x_chunk, n = first_output + kHalfChunk * z_chunk;
        const bool gated = a.gate != nullptr;

        auto copy = [&](unsigned slice) {
            if (slice < slices) {
                uint4* x_to = shared + slice % kWeightsStages * kBuffer;
                uint4* z_to = x_to + kXChunks;
                const unsigned m0 = first_row + slice * kWeightsSlice;
                NAT_UNROLL
                for (int i = 0; i < kXCopies; ++i) {
                    const unsigned row = x_first + i * kXStep, m = m0 + row;
                    const bool inside = m < end_row && k < p.cin;
                    nat_async_copy<16>(x_to + turned_chunk<kXRow, kSwizzled>(row, x_chunk),
                                       a.x + (inside ? input_row(p, m) * p.cin + k : 0), inside);
                }
                NAT_UNROLL
                for (int i = 0; i < kZCopies; ++i) {
                    const unsigned row = z_first + i * kZStep, m = m0 + row;
                    const bool inside = m < end_row && n < p.cout;
                    nat_async_copy<16>(z_to + turned_chunk<kZRow, kSwizzled>(row, z_chunk),
                                       a.dz + (inside ? static_cast<size_t>(m) * p.cout + n : 0), inside);
                }
            }
            nat_async_commit();  // an empty group keeps the count
        };
        // Multiplies the chunks of x that this thread has copied, in place.
        auto apply_gate = [&](unsigned slice) {
            NAT_UNROLL
            for (int i = 0; i < kXCopies; ++i) {
                const unsigned row = x_first + i * kXStep, m = first_row + slice * kWeightsSlice + row;
                if (m >= end_row || k >= p.cin) continue;
                uint4* at = shared + slice % kWeightsStages * kBuffer + turned_chunk<kXRow, kSwizzled>(row, x_chunk);
                const float* factors = a.gate + static_cast<size_t>(m / pixels) * p.cin + k;
                nat_note_shared(at, 16);
                *at = scaled_chunk<T>(*at, factors);
            }
        };

        const unsigned warp_input = warp / kWarpsAcross * kWarpInputs;
        const unsigned warp_output = warp % kWarpsAcross * kWarpOutputs;
        // The same for all lanes of a warp.
        const bool needed = first_input + warp_input < p.cin && first_output + warp_output < p.cout;
        float sums[kDown][kAcross][4];
        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            NAT_UNROLL
            for (int j = 0; j < kAcross; ++j) {
                NAT_UNROLL
                for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
            }
        }
        NAT_UNROLL
        for (unsigned slice = 0; slice + 1 < kWeightsStages; ++slice) copy(slice);
        for (unsigned slice = 0; slice < slices; ++slice) {
            nat_async_wait<kWeightsStages - 2>();
            if (gated) apply_gate(slice);
            __syncthreads();
            // The buffer of the slice before was last read before this barrier.
            copy(slice + kWeightsStages - 1);
            if (!needed) continue;
            const uint4* x_from = shared + slice % kWeightsStages * kBuffer;
            const uint4* z_from = x_from + kXChunks;
            NAT_UNROLL
            for (unsigned step = 0; step < kWeightsSlice / 16; ++step) {
                // Rows of the slice are what is added over: transposed, the eight rows of a matrix give each
                // lane two neighbouring ones of a channel.
                unsigned left[kDown][4];
                NAT_UNROLL
                for (int i = 0; i < kDown; ++i) {
                    // Of 16 channels the lower and the upper eight, for the lower eight rows, then the upper.
                    const unsigned row = 16 * step + lane / 16 * 8 + lane % 8;
                    const unsigned chunk = warp_input / kHalfChunk + 2 * i + lane / 8 % 2;
                    nat_ldmatrix_x4_trans(left[i], x_from + turned_chunk<kXRow, kSwizzled>(row, chunk));
                }
                NAT_UNROLL
                for (int j = 0; j < kAcross; j += 2) {
                    // Of two products: each the lower and the upper eight of 16 rows.
                    unsigned right[4];
                    const unsigned row = 16 * step + lane % 16;
                    const unsigned chunk = warp_output / kHalfChunk + j + lane / 16;
                    nat_ldmatrix_x4_trans(right, z_from + turned_chunk<kZRow, kSwizzled>(row, chunk));
                    const unsigned even[2] = {right[0], right[1]}, odd[2] = {right[2], right[3]};
                    NAT_UNROLL
                    for (int i = 0; i < kDown; ++i) {
                        Halves<T>::multiply_add(sums[i][j], left[i], even);
                        Halves<T>::multiply_add(sums[i][j + 1], left[i], odd);
                    }
                }
            }
        }
        if (!needed) return;

        // A lane has pairs of outputs for the input channels lane / 4 and that plus 8. Neighbours exchange one
        // pair each: then the even one has a quad for the lower channel, the odd one for the upper.
        const bool single = rows <= kPointwiseRows, upper = lane % 2 == 1;
        const unsigned stored = single ? p.weight_cin : p.cin;
        float* out = single ? a.dw : a.partials + block * pointwise_partial_len(p);
        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            const unsigned to_k = first_input + warp_input + 16 * i + lane / 4 + (upper ? 8 : 0);
            NAT_UNROLL
            for (int j = 0; j < kAcross; ++j) {
                const float(&s)[4] = sums[i][j];
                const float first = __shfl_xor_sync(0xffffffffu, upper ? s[0] : s[2], 1);
                const float second = __shfl_xor_sync(0xffffffffu, upper ? s[1] : s[3], 1);
                const Quad quad = upper ? make_float4(first, second, s[2], s[3]) : make_float4(s[0], s[1], first, second);
                const unsigned to_n = first_output + warp_output + 8 * j + lane % 4 / 2 * 4;
                if (to_k < p.cin && to_n < p.cout) {
                    float* to = out + (static_cast<size_t>(to_n / kPanel) * stored + to_k) * kPanel + to_n % kPanel;
                    store_quad(to, single ? load_quad(to) + quad : quad);
                }
            }
        }
    }
};

#define POINTWISE_HALF_WEIGHTS_KERNEL(name, ...)                                      \
    using Tile_##name = PointwiseHalfWeightsTile<__VA_ARGS__>;                        \
    NAT_KERNEL_BOUNDED(name, Tile_##name::kThreads, PointwiseHalfWeightsArgs a) {     \
        NAT_SHARED(uint4, shared, Tile_##name::kShared);                              \
        Tile_##name::run(a, shared);                                                  \
    }
