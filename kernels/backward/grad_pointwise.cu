// Gradients of the 1x1 convolution and of the linear layer.
//
//   dw[n, k] += sum_m dz[m, n] * x[row(m), k] * gate[image(m), k]
//
//   kernel                    computes                              bytes                              FLOPs
//   pointwise_weights_wide    sums of blocks of 512 rows, a tile    4 (M K ceil(N / 64)                2 M K N
//                             of 64 x 64 weights a block              + M N ceil(K / 64))
//   pointwise_weights_small   the same, 32 x 32                     twice that                         2 M K N
//   pointwise_weights_merge   dw += their sum                       4 K N (M / 512 + 2)                K N M / 512
//   transpose_f32             panels of the transposed matrix       8 K N                              0
//   scatter_*                 strided pixels put back to their      s C (small map + large map, twice  C small map
//                             places, plus a residual                 with a residual), s a number
//
// Scattered maps are f32, f16 or bf16 (16-bit ones: checked on the emulator, not yet on a card), all else f32.
//
// The input's gradient is the forward product with transposed panels. The weights' is a product that adds
// over rows, of which there may be far more than weights: the rows are cut into blocks, so that there is
// work for every multiprocessor, and the blocks' products are added in order by a second kernel. A single
// block adds to the gradient itself.
//
// Slices of 16 rows of x and of dz pass through two buffers in shared memory as they lie, channels side by
// side: while one is multiplied, the next is on its way to registers. A thread keeps 8 or 4 input channels
// by a quad of output channels in registers, a quad that is stored as one in the panels.
#include "nat_convolutions.cuh"
#include "nat_formats.cuh"
#include "nat_partials.cuh"

struct PointwiseWeightsArgs {
    const float* x;
    const float* dz;
    const float* gate;  // or null
    float* partials;    // [blocks][ceil(cout / 16)][cin][16]
    float* dw;          // [ceil(cout / 16)][weight_cin][16]
    PointwiseParams p;
};
NAT_LAYOUT(PointwiseWeightsArgs, x, dz, gate, partials, dw, p);

constexpr unsigned kSlice = 16;  // rows in shared memory at a time

template <int kInputs, int kColumns, int kThreadInputs>
struct PointwiseWeightsTile {
    static constexpr int kAcross = kColumns / 4, kGroups = kThreadInputs / 4;
    static constexpr int kThreads = kInputs / kThreadInputs * kAcross;
    static constexpr int kXs = kSlice * kInputs, kZs = kSlice * kColumns;
    static constexpr int kXQuads = kXs / 4 / kThreads, kZQuads = kZs / 4 / kThreads;  // a thread loads a slice
    static_assert(kXs / 4 % kThreads == 0 && kZs / 4 % kThreads == 0, "slices are shared out evenly");

    // xs and zs hold two slices each: [2][kSlice][kInputs] and [2][kSlice][kColumns].
    static __device__ __forceinline__ void run(const PointwiseWeightsArgs& a, float* xs, float* zs) {
        const PointwiseParams& p = a.p;
        const unsigned thread = threadIdx.x;
        const unsigned column_tiles = ceil_div(p.cout, kColumns), input_tiles = ceil_div(p.cin, kInputs);
        const unsigned first_column = blockIdx.x % column_tiles * kColumns;
        const unsigned first_input = blockIdx.x / column_tiles % input_tiles * kInputs;
        const unsigned block = blockIdx.x / column_tiles / input_tiles;
        const unsigned pixels = p.side_out * p.side_out, rows = p.images * pixels;
        const unsigned first_row = block * kPointwiseRows, end_row = min(first_row + kPointwiseRows, rows);

        Quad x_next[kXQuads], z_next[kZQuads];
        auto fetch = [&](unsigned m0) {
            NAT_UNROLL
            for (int i = 0; i < kXQuads; ++i) {
                const unsigned at = thread + i * kThreads;
                const unsigned m = m0 + at / (kInputs / 4), k = first_input + at % (kInputs / 4) * 4;
                const bool inside = m < end_row && k < p.cin;
                x_next[i] = inside ? load_quad(a.x + input_row(p, m) * p.cin + k) : splat(0.0f);
                if (a.gate != nullptr && inside) {
                    x_next[i] = x_next[i] * load_quad(a.gate + static_cast<size_t>(m / pixels) * p.cin + k);
                }
            }
            NAT_UNROLL
            for (int i = 0; i < kZQuads; ++i) {
                const unsigned at = thread + i * kThreads;
                const unsigned m = m0 + at / (kColumns / 4), n = first_column + at % (kColumns / 4) * 4;
                const bool inside = m < end_row && n < p.cout;
                z_next[i] = inside ? load_quad(a.dz + static_cast<size_t>(m) * p.cout + n) : splat(0.0f);
            }
        };
        auto stage = [&](int buffer) {
            NAT_UNROLL
            for (int i = 0; i < kXQuads; ++i) store_quad(xs + buffer * kXs + 4 * (thread + i * kThreads), x_next[i]);
            NAT_UNROLL
            for (int i = 0; i < kZQuads; ++i) store_quad(zs + buffer * kZs + 4 * (thread + i * kThreads), z_next[i]);
        };

        const unsigned across = thread % kAcross, down = thread / kAcross;
        Quad sums[kThreadInputs];
        NAT_UNROLL
        for (int i = 0; i < kThreadInputs; ++i) sums[i] = splat(0.0f);
        fetch(first_row);
        stage(0);
        __syncthreads();
        for (unsigned m0 = first_row, buffer = 0; m0 < end_row; m0 += kSlice, buffer ^= 1) {
            const bool more = m0 + kSlice < end_row;
            if (more) fetch(m0 + kSlice);
            const float* x_from = xs + buffer * kXs + 4 * down;
            const float* z_from = zs + buffer * kZs + 4 * across;
            NAT_UNROLL
            for (int row = 0; row < static_cast<int>(kSlice); ++row) {
                Quad left[kGroups];
                NAT_UNROLL
                for (int i = 0; i < kGroups; ++i) left[i] = load_quad(x_from + row * kInputs + i * (kInputs / kGroups));
                const Quad right = load_quad(z_from + row * kColumns);
                NAT_UNROLL
                for (int i = 0; i < kThreadInputs; ++i) {
                    sums[i] = multiply_add(component(left[i / 4], i % 4), right, sums[i]);
                }
            }
            if (more) {
                // The other buffer was last read before the barrier of the slice before.
                stage(buffer ^ 1);
                __syncthreads();
            }
        }

        const unsigned n = first_column + 4 * across;
        if (n >= p.cout) return;
        const bool single = rows <= kPointwiseRows;
        const unsigned stored = single ? p.weight_cin : p.cin;
        float* out = single ? a.dw : a.partials + block * pointwise_partial_len(p);
        out += static_cast<size_t>(n / kPanel) * stored * kPanel + n % kPanel;
        NAT_UNROLL
        for (int i = 0; i < kThreadInputs; ++i) {
            const unsigned k = first_input + i / 4 * (kInputs / kGroups) + 4 * down + i % 4;
            if (k >= p.cin) continue;
            store_quad(out + k * kPanel, single ? load_quad(out + k * kPanel) + sums[i] : sums[i]);
        }
    }
};

#define POINTWISE_WEIGHTS_KERNEL(name, ...)                                       \
    using Tile_##name = PointwiseWeightsTile<__VA_ARGS__>;                        \
    NAT_KERNEL_BOUNDED(name, Tile_##name::kThreads, PointwiseWeightsArgs a) {     \
        NAT_SHARED(float, xs, 2 * Tile_##name::kXs);                              \
        NAT_SHARED(float, zs, 2 * Tile_##name::kZs);                              \
        Tile_##name::run(a, xs, zs);                                              \
    }

POINTWISE_WEIGHTS_KERNEL(pointwise_weights_wide, 64, 64, 8)
POINTWISE_WEIGHTS_KERNEL(pointwise_weights_small, 32, 32, 4)

NAT_KERNEL_BOUNDED(pointwise_weights_merge, kPartialThreads, PointwiseWeightsArgs a) {
    NAT_SHARED(Quad, segments, kPartialThreads);
    const PointwiseParams& p = a.p;
    const unsigned i = partial_quad(), row = i / 4, panel = row / p.cin;
    const bool there = panel * kPanel + i % 4 * 4 < p.cout;
    const float* from = there ? a.partials + 4 * static_cast<size_t>(i) : nullptr;
    const unsigned blocks = ceil_div(p.images * p.side_out * p.side_out, kPointwiseRows);
    const Quad sum = merge_partials(from, pointwise_partial_len(p), blocks, segments);
    if (partial_segment() != 0 || !there) return;
    float* to = a.dw + (static_cast<size_t>(panel) * p.weight_cin + row % p.cin) * kPanel + i % 4 * 4;
    store_quad(to, load_quad(to) + sum);
}

struct TransposeParams {
    unsigned cout, cin;
};
NAT_LAYOUT(TransposeParams, cout, cin);

struct TransposeArgs {
    const float* w;  // [ceil(cout / 16)][cin][16]
    float* t;        // [ceil(cin / 16)][cout][16]
    TransposeParams p;
};
NAT_LAYOUT(TransposeArgs, w, t, p);

constexpr unsigned kTransposes = 64;  // of a launch, a row of the grid each

struct TransposeGroup {
    TransposeArgs calls[kTransposes];
};
NAT_LAYOUT(TransposeGroup, calls);

// A block a square of 16 x 16, which lies in one piece on both sides.
NAT_KERNEL_BOUNDED(transpose_f32, (kPanel * kPanel), TransposeGroup all) {
    NAT_SHARED(float, square, kPanel * (kPanel + 1));
    const TransposeArgs& a = all.calls[blockIdx.y];
    const TransposeParams& p = a.p;
    const unsigned panels = ceil_div(p.cout, kPanel);
    const unsigned from = blockIdx.x % panels, to = blockIdx.x / panels;
    if (to >= ceil_div(p.cin, kPanel)) return;
    const unsigned row = threadIdx.x / kPanel, lane = threadIdx.x % kPanel;
    const unsigned k = to * kPanel + row;
    const bool inside = k < p.cin && from * kPanel + lane < p.cout;
    const size_t at = (static_cast<size_t>(from) * p.cin + k) * kPanel + lane;
    square[row * (kPanel + 1) + lane] = inside ? a.w[at] : 0.0f;
    __syncthreads();
    const unsigned n = from * kPanel + row;
    if (n < p.cout) {
        a.t[(static_cast<size_t>(to) * p.cout + n) * kPanel + lane] = square[lane * (kPanel + 1) + row];
    }
}

struct ScatterParams {
    unsigned images, side_in, side_out, channels, stride, format;
};
NAT_LAYOUT(ScatterParams, images, side_in, side_out, channels, stride, format);

struct ScatterArgs {
    const void* x;
    const void* residual;  // or null
    void* y;
    ScatterParams p;
};
NAT_LAYOUT(ScatterArgs, x, residual, y, p);

constexpr unsigned kScatterThreads = 256;

// A thread 16 bytes of channels of a pixel of the large map.
template <class T>
__device__ __forceinline__ void scatter(const ScatterArgs& a) {
    const ScatterParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>, pixels = p.side_in * p.side_in;
    const unsigned i = blockIdx.x * kScatterThreads + threadIdx.x;
    if (i >= p.images * pixels * chunks) return;
    const unsigned c = i % chunks * kChunk<T>, pixel = i / chunks % pixels;
    const size_t image = i / chunks / pixels;
    const unsigned iy = pixel / p.side_in, ix = pixel % p.side_in;
    const size_t at = (image * pixels + pixel) * p.channels + c;
    Chunk<T> value = {};
    if (a.residual != nullptr) value = load_chunk(static_cast<const T*>(a.residual) + at);
    if (iy % p.stride == 0 && ix % p.stride == 0) {
        const size_t from = (image * p.side_out + iy / p.stride) * p.side_out + ix / p.stride;
        value = value + load_chunk(static_cast<const T*>(a.x) + from * p.channels + c);
    }
    store_chunk(static_cast<T*>(a.y) + at, value);
}

#define SCATTER_KERNEL(suffix, T) \
    NAT_KERNEL_BOUNDED(scatter_##suffix, kScatterThreads, ScatterArgs a) { scatter<T>(a); }
NAT_EVERY_FORMAT(SCATTER_KERNEL)
