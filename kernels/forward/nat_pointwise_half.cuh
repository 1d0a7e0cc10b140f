// The tiles of pointwise_half.cu, apart from its kernels, so that the emulator's checks can build one
// with another layout.
#pragma once

#include "nat_convolutions.cuh"
#include "nat_formats.cuh"

struct PointwiseHalfParams {
    PointwiseParams shape;
    unsigned output;  // what numbers of y are: 0 f32, else as format
    unsigned pooled;  // y is means over the pixels of an image
    unsigned format;  // 1 f16, 2 bf16: the kernel's name says it too
};

// 16-bit numbers are given by their bits.
struct PointwiseHalfArgs {
    const uint16_t* x;
    const uint16_t* w;
    const float* scale;        // or null
    const float* shift;        // or null
    const float* gate;         // or null
    const uint16_t* residual;  // or null
    void* y;
    PointwiseHalfParams p;
};

constexpr unsigned kHalfSlice = 32;  // input channels in shared memory at a time
constexpr unsigned kHalfRow = kHalfSlice / kHalfChunk;  // chunks of a row of a slice

// Where a chunk of a row of a slice lies. A row is 64 bytes, half of what the banks give at once. The
// eight rows that one matrix of ldmatrix takes are at the same chunk: where that lies at the same
// place in each row, four rows fall on the same banks; turned by row / 2, all eight differ.
template <bool kSwizzled>
__device__ __forceinline__ unsigned chunk_at(unsigned row, unsigned chunk) {
    return row * kHalfRow + (kSwizzled ? chunk ^ (row / 2 % kHalfRow) : chunk);
}

template <class T, int kRows, int kColumns, int kWarps, bool kPooled = false, bool kSwizzled = true>
struct PointwiseHalfTile {
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kWarpRows = kRows / kWarps;
    static constexpr int kDown = kWarpRows / 16, kAcross = kColumns / 8;  // products of a warp
    static constexpr int kXChunks = kRows * kHalfRow, kWChunks = kColumns * kHalfRow;
    static constexpr int kBuffer = kXChunks + kWChunks;
    static constexpr int kXCopies = kXChunks / kThreads, kWCopies = (kWChunks + kThreads - 1) / kThreads;
    // Sums on their way out, 16 rows of a warp at a time: the first quads of all chunks of a row, then the
    // second ones, kOutSecond quads on. Then both the pairs that a half-warp writes and the quads that
    // eight lanes read fall on different banks.
    static constexpr int kOutSecond = kAcross + 1, kOutRow = 2 * kOutSecond, kOut = 16 * kOutRow;
    // Behind the sums, the rounded outputs of the tile, where these are pooled.
    static constexpr int kMap = kPooled ? kRows * kAcross : 0, kOuts = kWarps * kOut + kMap;
    static constexpr int kShared = 2 * kBuffer > kOuts ? 2 * kBuffer : kOuts;  // in 16 bytes
    static_assert(kWarpRows % 16 == 0 && kColumns % 16 == 0, "whole products, and two of them across");
    static_assert(kXChunks % kThreads == 0 && 32 % kAcross == 0, "shared out evenly");
    static_assert(!kPooled || kAcross == 8, "a row of the map is a line of banks");

    using Sums = float[kDown][kAcross][4];

    static __device__ __forceinline__ void run(const PointwiseHalfArgs& a, uint4* shared) {
        const PointwiseParams& p = a.p.shape;
        const unsigned column_tiles = ceil_div(p.cout, kColumns);
        const unsigned tile = blockIdx.x / column_tiles, first_column = blockIdx.x % column_tiles * kColumns;
        if constexpr (kPooled) {
            pool(a, shared, tile, first_column);
        } else {
            Sums sums;
            multiply(a, shared, tile * kRows, first_column, sums);
            const auto write = [&](unsigned, unsigned m, unsigned n, Quad low, Quad high) {
                store(a, static_cast<size_t>(m) * p.cout + n, low, high);
            };
            finish(a, shared, tile * kRows, first_column, sums, write);
        }
    }

private:
    // The products of a tile.
    static __device__ __forceinline__ void multiply(const PointwiseHalfArgs& a, uint4* shared, unsigned first_row,
                                                    unsigned first_column, Sums& sums) {
        const PointwiseParams& p = a.p.shape;
        const unsigned thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
        const unsigned pixels = p.side_out * p.side_out;
        const unsigned rows = p.images * pixels;

        // This thread copies one chunk of rows thread / 4, + kThreads / 4, ... of x and of w. Rows of x
        // behind the last are read as the last; nothing is written for them. Rows of w behind the last
        // become zeros.
        const unsigned chunk = thread % kHalfRow, copied_row = thread / kHalfRow;
        constexpr unsigned kRowStep = kThreads / kHalfRow;
        const size_t base_row = input_row(p, first_row);
        const unsigned first_image = first_row / pixels;
        const uint16_t* x = a.x + base_row * p.cin + kHalfChunk * chunk;
        const uint16_t* w = a.w + static_cast<size_t>(first_column) * p.weight_cin + kHalfChunk * chunk;
        const bool gated = a.gate != nullptr;
        const float* gate = gated ? a.gate + static_cast<size_t>(first_image) * p.cin + kHalfChunk * chunk : nullptr;
        unsigned x_offset[kXCopies], gate_offset[kXCopies];
        NAT_UNROLL
        for (int i = 0; i < kXCopies; ++i) {
            const unsigned m = min(first_row + copied_row + i * kRowStep, rows - 1);
            x_offset[i] = static_cast<unsigned>(input_row(p, m) - base_row) * p.cin;
            gate_offset[i] = gated ? (m / pixels - first_image) * p.cin : 0;
        }

        auto copy = [&](unsigned k0, unsigned buffer) {
            // cin is a multiple of a chunk, so a chunk is inside or is all zeros.
            const bool inside = k0 + kHalfChunk * chunk < p.cin;
            uint4* x_to = shared + buffer * kBuffer;
            uint4* w_to = x_to + kXChunks;
            NAT_UNROLL
            for (int i = 0; i < kXCopies; ++i) {
                const unsigned row = copied_row + i * kRowStep;
                nat_async_copy<16>(x_to + chunk_at<kSwizzled>(row, chunk), x + (inside ? x_offset[i] + k0 : 0), inside);
            }
            NAT_UNROLL
            for (int i = 0; i < kWCopies; ++i) {
                const unsigned row = copied_row + i * kRowStep;
                const bool there = inside && first_column + row < p.cout;
                if (kWChunks % kThreads == 0 || row < kColumns) {
                    nat_async_copy<16>(w_to + chunk_at<kSwizzled>(row, chunk),
                                       w + (there ? row * p.weight_cin + k0 : 0), there);
                }
            }
            nat_async_commit();
        };
        // Multiplies the chunks of x that this thread has copied, in place.
        auto apply_gate = [&](unsigned k0, unsigned buffer) {
            if (k0 + kHalfChunk * chunk >= p.cin) return;
            NAT_UNROLL
            for (int i = 0; i < kXCopies; ++i) {
                uint4* at = shared + buffer * kBuffer + chunk_at<kSwizzled>(copied_row + i * kRowStep, chunk);
                const float* factors = gate + gate_offset[i] + k0;
                nat_note_shared(at, 16);
                *at = scaled_chunk<T>(*at, factors);
            }
        };

        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            NAT_UNROLL
            for (int j = 0; j < kAcross; ++j) {
                NAT_UNROLL
                for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
            }
        }
        copy(0, 0);
        for (unsigned k0 = 0, buffer = 0; k0 < p.cin; k0 += kHalfSlice, buffer ^= 1) {
            nat_async_wait<0>();
            if (gated) apply_gate(k0, buffer);
            __syncthreads();
            // The other buffer was last read before this barrier.
            if (k0 + kHalfSlice < p.cin) copy(k0 + kHalfSlice, buffer ^ 1);
            const uint4* x_from = shared + buffer * kBuffer;
            const uint4* w_from = x_from + kXChunks;
            NAT_UNROLL
            for (unsigned step = 0; step < kHalfSlice / 16; ++step) {
                if (k0 + 16 * step >= p.cin) break;
                unsigned left[kDown][4];
                NAT_UNROLL
                for (int i = 0; i < kDown; ++i) {
                    const unsigned row = warp * kWarpRows + 16 * i + lane % 16;
                    nat_ldmatrix_x4(left[i], x_from + chunk_at<kSwizzled>(row, 2 * step + lane / 16));
                }
                NAT_UNROLL
                for (int j = 0; j < kAcross; j += 2) {
                    // Of two products: each the lower and the upper eight of 16 input channels.
                    unsigned right[4];
                    const unsigned row = 8 * j + lane / 16 * 8 + lane % 8;
                    nat_ldmatrix_x4(right, w_from + chunk_at<kSwizzled>(row, 2 * step + lane / 8 % 2));
                    const unsigned even[2] = {right[0], right[1]}, odd[2] = {right[2], right[3]};
                    NAT_UNROLL
                    for (int i = 0; i < kDown; ++i) {
                        Halves<T>::multiply_add(sums[i][j], left[i], even);
                        Halves<T>::multiply_add(sums[i][j + 1], left[i], odd);
                    }
                }
            }
        }
        __syncthreads();  // the slices are read: their memory is free
    }

    // What follows the products, for eight outputs at a time: `emit` gets their row in the tile and in y, their
    // first channel, and their values before they are rounded.
    template <class Emit>
    static __device__ __forceinline__ void finish(const PointwiseHalfArgs& a, uint4* shared, unsigned first_row,
                                                  unsigned first_column, const Sums& sums, Emit emit) {
        const PointwiseParams& p = a.p.shape;
        const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const unsigned rows = p.images * p.side_out * p.side_out;
        // A lane makes the chunk at `n` of rows that follow from its number.
        const unsigned across = lane % kAcross, n = first_column + kHalfChunk * across;
        const bool column_there = n < p.cout;
        Quad scale[2], shift[2];
        NAT_UNROLL
        for (int q = 0; q < 2; ++q) {
            scale[q] = column_there ? load_quad_or(a.scale, n + 4 * q, 1.0f) : splat(1.0f);
            shift[q] = column_there ? load_quad_or(a.shift, n + 4 * q, 0.0f) : splat(0.0f);
        }
        Quad* out = reinterpret_cast<Quad*>(shared) + warp * kOut;
        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            NAT_UNROLL
            for (int j = 0; j < kAcross; ++j) {
                NAT_UNROLL
                for (int h = 0; h < 2; ++h) {
                    Quad* quad = out + (lane / 4 + 8 * h) * kOutRow + lane % 4 / 2 * kOutSecond + j;
                    float2* pair = reinterpret_cast<float2*>(quad) + lane % 2;
                    nat_note_shared(pair, 8);
                    *pair = make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]);
                }
            }
            __syncwarp();
            NAT_UNROLL
            for (int pass = 0; pass < kAcross / 2; ++pass) {
                // Rows 0, 2, 1, 3 of four, for the banks' sake.
                const unsigned turn = lane / kAcross + pass * (32 / kAcross);
                const unsigned row = turn / 4 * 4 + turn % 2 * 2 + turn / 2 % 2;
                const unsigned tile_row = warp * kWarpRows + 16 * i + row, m = first_row + tile_row;
                const Quad* quad = out + row * kOutRow + across;
                nat_note_shared(quad, 16);
                nat_note_shared(quad + kOutSecond, 16);
                Quad first = quad[0], second = quad[kOutSecond];
                if (m >= rows || !column_there) continue;
                first = activate(p.activation, multiply_add(first, scale[0], shift[0]));
                second = activate(p.activation, multiply_add(second, scale[1], shift[1]));
                if (a.residual != nullptr) {
                    const uint4 r = *reinterpret_cast<const uint4*>(a.residual + static_cast<size_t>(m) * p.cout + n);
                    first = first + unpack_quad<T>(r.x, r.y);
                    second = second + unpack_quad<T>(r.z, r.w);
                }
                emit(tile_row, m, n, first, second);
            }
            __syncwarp();  // before the next rows take their place
        }
    }

    // Means of the rounded outputs over the pixels of whole images: as many as a tile's rows hold, or one, whose
    // pixels take several tiles. A thread sums the pixels of an image in their order, for eight channels.
    static __device__ __forceinline__ void pool(const PointwiseHalfArgs& a, uint4* shared, unsigned tile,
                                                unsigned first_column) {
        const PointwiseParams& p = a.p.shape;
        const unsigned pixels = p.side_out * p.side_out, images = max(1u, kRows / pixels);
        const unsigned first_image = tile * images, own = min(images, p.images - first_image);
        uint4* map = shared + kWarps * kOut;
        Quad low = splat(0.0f), high = splat(0.0f);
        for (unsigned done = 0; done < own * pixels; done += kRows) {
            const unsigned first_row = first_image * pixels + done;
            Sums sums;
            multiply(a, shared, first_row, first_column, sums);
            finish(a, shared, first_row, first_column, sums, [&](unsigned row, unsigned, unsigned n, Quad x, Quad y) {
                uint4* to = map + row * kAcross + (n - first_column) / kHalfChunk;
                nat_note_shared(to, 16);
                *to = make_uint4(Halves<T>::pack(x.x, x.y), Halves<T>::pack(x.z, x.w), Halves<T>::pack(y.x, y.y),
                                 Halves<T>::pack(y.z, y.w));
            });
            __syncthreads();
            // One item a thread where an image takes several tiles: its sums go on.
            for (unsigned item = threadIdx.x; item < own * kAcross; item += kThreads) {
                const unsigned n = first_column + item % kAcross * kHalfChunk;
                const unsigned first = item / kAcross * pixels, last = first + pixels;
                if (n >= p.cout) continue;
                if (done == 0) low = high = splat(0.0f);
                for (unsigned row = max(first, done); row < min(last, done + kRows); ++row) {
                    const uint4* from = map + (row - done) * kAcross + item % kAcross;
                    nat_note_shared(from, 16);
                    const uint4 v = *from;
                    low = low + unpack_quad<T>(v.x, v.y);
                    high = high + unpack_quad<T>(v.z, v.w);
                }
                if (last > done + kRows) continue;
                store(a, static_cast<size_t>(first_image + item / kAcross) * p.cout + n, quotient(low, pixels),
                      quotient(high, pixels));
            }
            __syncthreads();  // before the next tile takes their memory
        }
    }

    // Eight outputs as numbers of y.
    static __device__ __forceinline__ void store(const PointwiseHalfArgs& a, size_t at, Quad low, Quad high) {
        if (a.p.output == 0) {
            store_quad(static_cast<float*>(a.y) + at, low);
            store_quad(static_cast<float*>(a.y) + at + 4, high);
        } else {
            *reinterpret_cast<uint4*>(static_cast<uint16_t*>(a.y) + at) =
                make_uint4(Halves<T>::pack(low.x, low.y), Halves<T>::pack(low.z, low.w), Halves<T>::pack(high.x, high.y),
                           Halves<T>::pack(high.z, high.w));
        }
    }

    static __device__ __forceinline__ Quad quotient(Quad sum, unsigned pixels) {
        const float count = static_cast<float>(pixels);
        return make_float4(sum.x / count, sum.y / count, sum.z / count, sum.w / count);
    }
};

#define POINTWISE_HALF_KERNEL(name, ...)                               \
    using Tile_##name = PointwiseHalfTile<__VA_ARGS__>;                \
    NAT_KERNEL_BOUNDED(name, Tile_##name::kThreads, PointwiseHalfArgs a) { \
        NAT_SHARED(uint4, shared, Tile_##name::kShared);               \
        Tile_##name::run(a, shared);                                   \
    }

// The same where so many blocks are to have room on a multiprocessor.
#define POINTWISE_HALF_KERNEL_RESIDENT(name, blocks, ...)                           \
    using Tile_##name = PointwiseHalfTile<__VA_ARGS__>;                             \
    NAT_KERNEL_RESIDENT(name, Tile_##name::kThreads, blocks, PointwiseHalfArgs a) { \
        NAT_SHARED(uint4, shared, Tile_##name::kShared);                            \
        Tile_##name::run(a, shared);                                                \
    }
