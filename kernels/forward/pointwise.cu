// 1x1 convolution, or a linear layer: a matrix product with everything around it.
//
//   y[m, n] = activation(scale[n] * sum_k x[row(m), k] * gate[image(m), k] * w[n, k] + shift[n]) + residual[m, n]
//
// bytes: 4 (M K + K N + M N), and 4 M N with a residual   FLOPs: 2 M K N
//
// Weights lie in panels of 16 output channels, [N / 16][weight_cin][16]; a sub-network uses a prefix of
// the panels and of each panel's rows, as they lie.
//
// A block makes a tile of kRows x kColumns of y. Slices of 16 input channels of x (transposed, so that a
// thread reads four rows as a quad) and of w pass through two buffers in shared memory: while one is
// multiplied, the next slice is on its way to registers, so a slice costs one barrier. A thread keeps
// kThreadRows x kThreadColumns sums in registers, in groups of four rows and four columns, for conflict-free
// quads from shared memory and whole 128-byte lines to y. The gate is applied on the way in, the rest on
// the way out. Each output is one chain of multiply-adds over the input channels in order, whatever the
// tile, so results do not depend on which of the kernels below runs.
//
// Reads of quads at row ^ swizzle(k): the four quads of a row of x, which neighbouring threads write as
// columns, then fall into different banks.
//
//   kernel           tile       a thread  for
//   pointwise_wide   128 x 64   8 x 8     many outputs
//   pointwise_mid    128 x 32   8 x 4     17 to 32 outputs, or that many left over
//   pointwise_thin   128 x 16   4 x 4     up to 16 outputs
//   pointwise_small   32 x 32   4 x 4     few rows
#include "nat_convolutions.cuh"

NAT_LAYOUT(PointwiseParams, images, side_in, side_out, cin, cout, weight_cin, stride, activation);

struct PointwiseArgs {
    const float* x;
    const float* w;
    const float* scale;     // or null
    const float* shift;     // or null
    const float* gate;      // or null
    const float* residual;  // or null
    float* y;
    PointwiseParams p;
};
NAT_LAYOUT(PointwiseArgs, x, w, scale, shift, gate, residual, y, p);

constexpr int kSlice = 16;  // input channels in shared memory at a time

__device__ __forceinline__ constexpr int swizzle(int k) { return (k / 4 % 4) * 8; }

template <int kRows, int kColumns, int kThreadRows, int kThreadColumns>
struct PointwiseTile {
    static constexpr int kAcross = kColumns / kThreadColumns;
    static constexpr int kThreads = kRows / kThreadRows * kAcross;
    static constexpr int kXs = kSlice * kRows, kWs = kSlice * kColumns;
    static constexpr int kRowGroups = kThreadRows / 4, kColumnGroups = kThreadColumns / 4;
    static constexpr int kXQuads = kXs / 4 / kThreads;                          // a thread loads a slice
    static constexpr int kWQuads = (kWs / 4 + kThreads - 1) / kThreads;
    static_assert(kRows % 32 == 0 && kColumns % 16 == 0, "swizzling and panels");
    static_assert(kXs / 4 % kThreads == 0 && kThreads % 4 == 0, "slices are shared out evenly");

    // xs and ws hold two slices each: [2][kSlice][kRows] and [2][kSlice][kColumns].
    static __device__ __forceinline__ void run(const PointwiseArgs& a, float* xs, float* ws) {
        const PointwiseParams& p = a.p;
        const unsigned thread = threadIdx.x;
        const unsigned column_tiles = ceil_div(p.cout, kColumns);
        const unsigned first_row = blockIdx.x / column_tiles * kRows;
        const unsigned first_column = blockIdx.x % column_tiles * kColumns;
        const unsigned pixels = p.side_out * p.side_out;
        const unsigned rows = p.images * pixels;

        // This thread's share of a slice of x: quad `quarter` of rows thread / 4, + kThreads / 4, ...
        // Rows behind the last are read as the last; nothing is written for them.
        const unsigned quarter = thread % 4;
        const size_t base_row = input_row(p, first_row);
        const float* x = a.x + base_row * p.cin + 4 * quarter;
        const unsigned first_image = first_row / pixels;
        const float* gate = a.gate != nullptr ? a.gate + static_cast<size_t>(first_image) * p.cin + 4 * quarter : nullptr;
        unsigned x_offset[kXQuads], gate_offset[kXQuads];
        NAT_UNROLL
        for (int i = 0; i < kXQuads; ++i) {
            const unsigned m = min(first_row + thread / 4 + i * (kThreads / 4), rows - 1);
            x_offset[i] = static_cast<unsigned>(input_row(p, m) - base_row) * p.cin;
            gate_offset[i] = gate != nullptr ? (m / pixels - first_image) * p.cin : 0;
        }
        // And of w: a quad of one row of one panel.
        const unsigned panels = ceil_div(p.cout, kPanel);
        const float* w = a.w + static_cast<size_t>(first_column / kPanel) * p.weight_cin * kPanel;

        Quad x_next[kXQuads], w_next[kWQuads];
        auto fetch = [&](unsigned k0) {
            const bool inside = k0 + 4 * quarter < p.cin;
            NAT_UNROLL
            for (int i = 0; i < kXQuads; ++i) {
                x_next[i] = inside ? load_quad(x + x_offset[i] + k0) : splat(0.0f);
            }
            if (gate != nullptr && inside) {
                NAT_UNROLL
                for (int i = 0; i < kXQuads; ++i) x_next[i] = x_next[i] * load_quad(gate + gate_offset[i] + k0);
            }
            NAT_UNROLL
            for (int i = 0; i < kWQuads; ++i) {
                const unsigned at = thread + i * kThreads;
                const unsigned panel = at / (4 * kSlice), k = k0 + at / 4 % kSlice;
                const bool there = at < kWs / 4 && first_column / kPanel + panel < panels && k < p.cin;
                w_next[i] = there ? load_quad(w + (panel * p.weight_cin + k) * kPanel + at % 4 * 4) : splat(0.0f);
            }
        };
        auto stage = [&](int buffer) {
            float* x_to = xs + buffer * kXs;
            NAT_UNROLL
            for (int i = 0; i < kXQuads; ++i) {
                const unsigned row = (thread / 4 + i * (kThreads / 4)) ^ (8 * quarter);
                NAT_UNROLL
                for (int j = 0; j < 4; ++j) x_to[(4 * quarter + j) * kRows + row] = component(x_next[i], j);
            }
            float* w_to = ws + buffer * kWs;
            NAT_UNROLL
            for (int i = 0; i < kWQuads; ++i) {
                const unsigned at = thread + i * kThreads;
                const unsigned panel = at / (4 * kSlice), k = at / 4 % kSlice;
                if (at < kWs / 4) store_quad(w_to + k * kColumns + panel * kPanel + at % 4 * 4, w_next[i]);
            }
        };

        const unsigned across = thread % kAcross, down = thread / kAcross;
        Quad sums[kThreadRows][kColumnGroups];
        NAT_UNROLL
        for (int i = 0; i < kThreadRows; ++i) {
            NAT_UNROLL
            for (int j = 0; j < kColumnGroups; ++j) sums[i][j] = splat(0.0f);
        }
        fetch(0);
        stage(0);
        __syncthreads();
        for (unsigned k0 = 0, buffer = 0; k0 < p.cin; k0 += kSlice, buffer ^= 1) {
            const bool more = k0 + kSlice < p.cin;
            if (more) fetch(k0 + kSlice);
            const float* x_from = xs + buffer * kXs;
            const float* w_from = ws + buffer * kWs + 4 * across;
            NAT_UNROLL
            for (int k = 0; k < kSlice; ++k) {
                Quad left[kRowGroups], right[kColumnGroups];
                NAT_UNROLL
                for (int i = 0; i < kRowGroups; ++i) {
                    left[i] = load_quad(x_from + k * kRows + ((i * (kRows / kRowGroups) + 4 * down) ^ swizzle(k)));
                }
                NAT_UNROLL
                for (int j = 0; j < kColumnGroups; ++j) {
                    right[j] = load_quad(w_from + k * kColumns + j * (kColumns / kColumnGroups));
                }
                NAT_UNROLL
                for (int i = 0; i < kThreadRows; ++i) {
                    NAT_UNROLL
                    for (int j = 0; j < kColumnGroups; ++j) {
                        sums[i][j] = multiply_add(component(left[i / 4], i % 4), right[j], sums[i][j]);
                    }
                }
            }
            if (more) {
                // The other buffer was last read before the barrier of the slice before.
                stage(buffer ^ 1);
                __syncthreads();
            }
        }

        NAT_UNROLL
        for (int j = 0; j < kColumnGroups; ++j) {
            const unsigned n = first_column + j * (kColumns / kColumnGroups) + 4 * across;
            if (n >= p.cout) continue;
            const Quad scale = load_quad_or(a.scale, n, 1.0f), shift = load_quad_or(a.shift, n, 0.0f);
            NAT_UNROLL
            for (int i = 0; i < kThreadRows; ++i) {
                const unsigned m = first_row + i / 4 * (kRows / kRowGroups) + 4 * down + i % 4;
                if (m >= rows) continue;
                const size_t at = static_cast<size_t>(m) * p.cout + n;
                Quad value = activate(p.activation, multiply_add(sums[i][j], scale, shift));
                if (a.residual != nullptr) value = value + load_quad(a.residual + at);
                store_quad(a.y + at, value);
            }
        }
    }
};

#define POINTWISE_KERNEL(name, ...)                                             \
    using Tile_##name = PointwiseTile<__VA_ARGS__>;                             \
    NAT_KERNEL_BOUNDED(name, Tile_##name::kThreads, PointwiseArgs a) {          \
        NAT_SHARED(float, xs, 2 * Tile_##name::kXs);                            \
        NAT_SHARED(float, ws, 2 * Tile_##name::kWs);                            \
        Tile_##name::run(a, xs, ws);                                            \
    }

POINTWISE_KERNEL(pointwise_wide, 128, 64, 8, 8)
POINTWISE_KERNEL(pointwise_mid, 128, 32, 8, 4)
POINTWISE_KERNEL(pointwise_thin, 128, 16, 4, 4)
POINTWISE_KERNEL(pointwise_small, 32, 32, 4, 4)
