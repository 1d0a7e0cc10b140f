// The two products of mbconv.cu on tensor cores: the expansion of a slice, and the projection.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

// sums += left [16 kDown rows] * right [8 kAcross columns] over 16 channels, of which the first `across`
// tiles of columns are in use. `left_at(i)` is this lane's row of 16 rows, `right_at(j)` that of two tiles.
template <class T, int kDown, int kAcross, class Left, class Right>
__device__ __forceinline__ void multiply_step(float (&sums)[kDown][kAcross][4], unsigned across, Left left_at,
                                              Right right_at) {
    unsigned left[kDown][4];
    NAT_UNROLL
    for (int i = 0; i < kDown; ++i) nat_ldmatrix_x4(left[i], left_at(i));
    NAT_UNROLL
    for (int j = 0; j < kAcross; j += 2) {
        if (j >= static_cast<int>(across)) break;
        unsigned right[4];
        nat_ldmatrix_x4(right, right_at(j));
        const unsigned even[2] = {right[0], right[1]}, next[2] = {right[2], right[3]};
        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            Halves<T>::multiply_add(sums[i][j], left[i], even);
            Halves<T>::multiply_add(sums[i][j + 1], left[i], next);
        }
    }
}

template <int kDown, int kAcross>
__device__ __forceinline__ void clear(float (&sums)[kDown][kAcross][4]) {
    NAT_UNROLL
    for (int i = 0; i < kDown; ++i) {
        NAT_UNROLL
        for (int j = 0; j < kAcross; ++j) {
            NAT_UNROLL
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
        }
    }
}

// Copies rows of `chunks` chunks to rows of odd(chunks). Threads pass the gaps over, so that eight
// neighbours write to different banks.
__device__ NAT_PHASE void copy_rows(uint4* to, const uint16_t* from, unsigned stored, unsigned rows,
                                    unsigned valid_rows, unsigned chunks) {
    const unsigned pitch = odd(chunks);
    for (unsigned i = threadIdx.x; i < rows * pitch; i += kMbconvThreads) {
        const unsigned row = i / pitch, chunk = i % pitch;
        const bool valid = row < valid_rows;
        if (chunk < chunks) {
            nat_async_copy<16>(to + i, from + (valid ? static_cast<size_t>(row) * stored + kHalfChunk * chunk : 0), valid);
        }
    }
}

template <class T>
__device__ NAT_PHASE void copy_input(const MbconvBlock<T>& b) {
    const MbconvParams& p = b.p;
    const uint16_t* from = static_cast<const uint16_t*>(b.a.x) + b.first_row_in() * p.cin;
    copy_rows(b.shared + b.c.x_at, from, p.cin, b.rows_in(), b.rows_in(), p.cin / kHalfChunk);
}

// Expansion weights of a slice; rows behind the last channel are zeros.
template <MbconvPass kPass, class T>
__device__ NAT_PHASE void copy_weights(const MbconvBlock<T>& b, unsigned c0) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const MbconvArgs& a = b.a;
    const unsigned chunks = p.cin / kHalfChunk;
    uint4* to = b.shared + c.weights_at;
    copy_rows(to, a.expand + static_cast<size_t>(c0) * p.weight_cin, p.weight_cin, c.slice,
              min(c.slice, p.mid - c0), chunks);
    if constexpr (kPass == MbconvPass::kExpanded) return;
    copy_vectors(b, to + c.slice * odd(chunks), a.expand_scale, a.expand_shift, c0);
}

// The slice of the expanded map from channel c0 on. A warp makes 32 pixels by 32 channels at a time. A first
// pass leaves the sums as they are, one pixel behind the other.
template <MbconvPass kPass, class T>
__device__ NAT_PHASE void expand(const MbconvBlock<T>& b, unsigned c0) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const unsigned rows = b.rows_in(), chunks = p.cin / kHalfChunk, pitch = odd(chunks);
    const unsigned down = ceil_div(rows, 32), across = ceil_div(c.slice, 8 * kExpandTiles);
    const unsigned columns = min(c.slice, p.mid - c0);
    const uint4* weights = b.shared + c.weights_at;
    const float* scale = reinterpret_cast<const float*>(weights + c.slice * pitch);
    for (unsigned item = b.warp(); item < down * across; item += kMbconvWarps) {
        const unsigned m0 = item % down * 32, n0 = item / down * 8 * kExpandTiles;
        if (n0 >= columns) break;
        const unsigned tiles = min(kExpandTiles, (columns - n0) / 8);
        const uint4* left[2];
        NAT_UNROLL
        for (int i = 0; i < 2; ++i) left[i] = b.shared + c.x_at + min(m0 + 16 * i + b.lane() % 16, rows - 1) * pitch;
        const uint4* right = weights + (n0 + b.lane() / 16 * 8 + b.lane() % 8) * pitch;
        float sums[2][kExpandTiles][4];
        clear(sums);
        for (unsigned k = 0; k < chunks; k += 2) {
            const unsigned left_chunk = k + b.lane() / 16, right_chunk = k + b.lane() / 8 % 2;
            multiply_step<T>(
                sums, tiles, [&](int i) { return left_chunk < chunks ? left[i] + left_chunk : b.shared; },
                [&](int j) { return right_chunk < chunks ? right + 8 * j * pitch + right_chunk : b.shared; });
        }
        NAT_UNROLL
        for (int i = 0; i < 2; ++i) {
            NAT_UNROLL
            for (int h = 0; h < 2; ++h) {
                const unsigned m = m0 + 16 * i + 8 * h + b.lane() / 4;
                if (m >= rows) continue;
                const unsigned pixel_at = kPass == MbconvPass::kExpanded ? m * c.expanded_pixel : b.pixel_at(m);
                unsigned* to = reinterpret_cast<unsigned*>(b.expanded() + pixel_at + n0 / 8) + b.lane() % 4;
                NAT_UNROLL
                for (int j = 0; j < static_cast<int>(kExpandTiles); ++j) {
                    if (j >= static_cast<int>(tiles)) break;
                    if constexpr (kPass == MbconvPass::kExpanded) {
                        store_shared(to + 4 * j, Halves<T>::pack(sums[i][j][2 * h], sums[i][j][2 * h + 1]));
                        continue;
                    }
                    const unsigned n = n0 + 8 * j + 2 * (b.lane() % 4);
                    const float2 factor = load_shared<float2>(scale + n);
                    const float2 term = load_shared<float2>(scale + c.slice + n);
                    const float2 raw = raw_pair<kPass>(b, sums[i][j][2 * h], sums[i][j][2 * h + 1]);
                    const float low = activate(p.activation, raw.x * factor.x + term.x);
                    const float high = activate(p.activation, raw.y * factor.y + term.y);
                    store_shared(to + 4 * j, Halves<T>::pack(low, high));
                }
            }
        }
    }
}

// Where a chunk of project weights lies: turned by the row, so that those of eight rows differ in their banks.
__device__ __forceinline__ unsigned weight_at(unsigned n, unsigned chunk) {
    return n * kProjectRow + (chunk ^ n % kProjectRow);
}

// Writes a warp's sums to y, 16 rows at a time, through shared memory.
// With a stem, the residual is what the slice holds. A third pass writes the sums as they are.
template <bool kStem, MbconvPass kPass, class T>
__device__ NAT_PHASE void write(const MbconvBlock<T>& b, const float (&sums)[2][kProjectTiles][4], unsigned m0,
                                unsigned n0) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const MbconvArgs& a = b.a;
    const unsigned rows = b.rows_out();
    const size_t first_row = b.first_row_out();
    const unsigned second = out_second(c.tiles), pitch = out_row(c.tiles);
    Quad* out = reinterpret_cast<Quad*>(b.shared + c.project_at) + b.warp() * 16 * pitch;
    NAT_UNROLL
    for (int i = 0; i < 2; ++i) {
        NAT_UNROLL
        for (int j = 0; j < static_cast<int>(kProjectTiles); ++j) {
            if (j >= static_cast<int>(c.tiles)) break;
            NAT_UNROLL
            for (int h = 0; h < 2; ++h) {
                Quad* quad = out + (b.lane() / 4 + 8 * h) * pitch + b.lane() % 4 / 2 * second + j;
                store_shared(reinterpret_cast<float2*>(quad) + b.lane() % 2,
                             make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]));
            }
        }
        __syncwarp();
        for (unsigned at = b.lane(); at < 16 * c.tiles; at += 32) {
            unsigned row = at / c.tiles;
            const unsigned across = at % c.tiles;
            // Two rows of four chunks: not neighbours, for the banks' sake.
            if (c.tiles == 4) row = row / 4 * 4 + row % 2 * 2 + row / 2 % 2;
            const unsigned m = m0 + 16 * i + row, n = n0 + 8 * across;
            const Quad* quad = out + row * pitch + across;
            Quad low = load_shared<Quad>(quad), high = load_shared<Quad>(quad + second);
            if (m >= rows || n >= p.cout) continue;
            const size_t to = (first_row + m) * p.cout + n;
            if constexpr (kPass == MbconvPass::kWhole) {
                low = multiply_add(low, load_quad(a.project_scale + n), load_quad(a.project_shift + n));
                high = multiply_add(high, load_quad(a.project_scale + n + 4), load_quad(a.project_shift + n + 4));
                if (kStem ? p.shortcut != 0 : a.residual != nullptr) {
                    const unsigned in = m + (b.first_out - b.first_in) * p.side_in;  // of a stem, whose map is as large
                    const uint4 r = kStem ? load_shared<uint4>(b.expanded() + b.pixel_at(in) + n / kHalfChunk)
                                          : *reinterpret_cast<const uint4*>(a.residual + to);
                    low = low + unpack_quad<T>(make_uint2(r.x, r.y));
                    high = high + unpack_quad<T>(make_uint2(r.z, r.w));
                }
            }
            const uint2 left = pack_quad<T>(low), right = pack_quad<T>(high);
            *reinterpret_cast<uint4*>(a.y + to) = make_uint4(left.x, left.y, right.x, right.y);
        }
        __syncwarp();  // before the next rows take their place
    }
}

// The output. A warp makes 32 pixels by up to 48 channels; slices of weights pass through two buffers.
template <bool kStem, MbconvPass kPass, class T>
__device__ NAT_PHASE void project(const MbconvBlock<T>& b) {
    const MbconvParams& p = b.p;
    const MbconvConfig& c = b.c;
    const MbconvArgs& a = b.a;
    const unsigned rows = b.rows_out(), chunks = p.mid / kHalfChunk;
    const unsigned down = ceil_div(rows, 32), columns = 8 * c.groups * c.tiles;
    uint4* buffers = b.shared + c.project_at;
    auto copy = [&](unsigned k0, unsigned buffer) {
        for (unsigned i = threadIdx.x; i < columns * kProjectRow; i += kMbconvThreads) {
            const unsigned n = i / kProjectRow, chunk = i % kProjectRow, k = k0 + kHalfChunk * chunk;
            const bool valid = n < p.cout && k < p.mid;
            nat_async_copy<16>(buffers + buffer * columns * kProjectRow + weight_at(n, chunk),
                               a.project + (valid ? static_cast<size_t>(n) * p.weight_mid + k : 0), valid);
        }
        nat_async_commit();
    };
    for (unsigned first = 0; first < down * c.groups; first += kMbconvWarps) {
        const unsigned item = first + b.warp();
        const bool active = item < down * c.groups;
        const unsigned m0 = item % down * 32, n0 = item / down * c.tiles * 8;
        const uint4* left[2];
        NAT_UNROLL
        for (int i = 0; i < 2; ++i) left[i] = b.kept(min(m0 + 16 * i + b.lane() % 16, rows - 1));
        float sums[2][kProjectTiles][4];
        clear(sums);
        copy(0, 0);
        for (unsigned k0 = 0, buffer = 0; k0 < p.mid; k0 += kProjectSlice, buffer ^= 1) {
            nat_async_wait<0>();
            __syncthreads();
            // The other buffer was last read before this barrier.
            if (k0 + kProjectSlice < p.mid) copy(k0 + kProjectSlice, buffer ^ 1);
            const uint4* from = buffers + buffer * columns * kProjectRow;
            for (unsigned k = 0; k < kProjectRow && active; k += 2) {
                if (k0 + kHalfChunk * k >= p.mid) break;
                const unsigned left_chunk = k0 / kHalfChunk + k + b.lane() / 16;
                multiply_step<T>(
                    sums, c.tiles, [&](int i) { return left_chunk < chunks ? left[i] + left_chunk : b.shared; },
                    [&](int j) {
                        return from + weight_at(n0 + 8 * j + b.lane() / 16 * 8 + b.lane() % 8, k + b.lane() / 8 % 2);
                    });
            }
        }
        __syncthreads();  // the buffers are read: their memory is free
        if (active) write<kStem, kPass>(b, sums, m0, n0);
        __syncthreads();
    }
}

}  // namespace mbconv
