// Activations on their own with dropout, their gradient, and the gradient of a bias.
//
//   kernel                  computes                                        bytes                     FLOPs
//   activate_f32            y = activation(x) * mask                        8 n (12 with a mask)      4 n
//   activate_grad_f32       dx = dy * activation'(x) * mask                 12 n (16 with a mask)     4 n
//   column_partials_f32     sums of columns over blocks of 256 rows         4 rows columns            rows columns
//   column_merge_f32        y[c] += the sum of those                        4 blocks columns          blocks columns
//
// Element-wise kernels take a quad a thread. Sums of columns have a shape that is a function of the rows alone
// and are added in order.
#include "nat_common.cuh"

struct ActivateParams {
    unsigned len, activation;
};
NAT_LAYOUT(ActivateParams, len, activation);

struct ActivateArgs {
    const float* x;
    const float* mask;  // or null
    float* y;
    ActivateParams p;
};
NAT_LAYOUT(ActivateArgs, x, mask, y, p);

constexpr unsigned kActivateThreads = 256;

NAT_KERNEL_BOUNDED(activate_f32, kActivateThreads, ActivateArgs a) {
    const unsigned i = blockIdx.x * kActivateThreads + threadIdx.x;
    if (i >= a.p.len / 4) return;
    const size_t at = 4 * static_cast<size_t>(i);
    Quad value = activate(a.p.activation, load_quad(a.x + at));
    if (a.mask != nullptr) value = value * load_quad(a.mask + at);
    store_quad(a.y + at, value);
}

struct ActivateGradArgs {
    const float* x;
    const float* dy;
    const float* mask;  // or null
    float* dx;
    ActivateParams p;
};
NAT_LAYOUT(ActivateGradArgs, x, dy, mask, dx, p);

NAT_KERNEL_BOUNDED(activate_grad_f32, kActivateThreads, ActivateGradArgs a) {
    const unsigned i = blockIdx.x * kActivateThreads + threadIdx.x;
    if (i >= a.p.len / 4) return;
    const size_t at = 4 * static_cast<size_t>(i);
    Quad value = load_quad(a.dy + at) * derivative(a.p.activation, load_quad(a.x + at));
    if (a.mask != nullptr) value = value * load_quad(a.mask + at);
    store_quad(a.dx + at, value);
}

struct ColumnSumParams {
    unsigned rows, columns;
};
NAT_LAYOUT(ColumnSumParams, rows, columns);

struct ColumnSumArgs {
    const float* x;
    float* partials;  // [blocks][columns]
    float* y;
    ColumnSumParams p;
};
NAT_LAYOUT(ColumnSumArgs, x, partials, y, p);

constexpr unsigned kColumnBlockRows = 256;  // crate::ops::batch_norm::BLOCK_ROWS
constexpr unsigned kColumnQuads = 8, kColumnLanes = 16;
constexpr unsigned kColumnThreads = kColumnQuads * kColumnLanes;

// A block of threads takes 32 columns of a block of rows: 16 lanes take every 16th row, a thread a quad.
NAT_KERNEL_BOUNDED(column_partials_f32, kColumnThreads, ColumnSumArgs a) {
    NAT_SHARED(Quad, sums, kColumnThreads);
    const ColumnSumParams& p = a.p;
    const unsigned chunks = ceil_div(p.columns, 4 * kColumnQuads);
    const unsigned quad = threadIdx.x % kColumnQuads, lane = threadIdx.x / kColumnQuads;
    const unsigned c = (blockIdx.x % chunks * kColumnQuads + quad) * 4;
    const unsigned block = blockIdx.x / chunks;
    const unsigned rows = min(kColumnBlockRows, p.rows - block * kColumnBlockRows);
    const bool there = c < p.columns;
    const float* x = a.x + static_cast<size_t>(block) * kColumnBlockRows * p.columns + c;
    Quad sum = splat(0.0f);
    if (there) {
        for (unsigned row = lane; row < rows; row += kColumnLanes) sum = sum + load_quad(x + row * p.columns);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (lane != 0 || !there) return;
    for (unsigned i = 1; i < kColumnLanes; ++i) sum = sum + sums[i * kColumnQuads + quad];
    store_quad(a.partials + static_cast<size_t>(block) * p.columns + c, sum);
}

// A thread adds the blocks of one column, in f64.
NAT_KERNEL_BOUNDED(column_merge_f32, kColumnThreads, ColumnSumArgs a) {
    const ColumnSumParams& p = a.p;
    const unsigned c = blockIdx.x * kColumnThreads + threadIdx.x;
    if (c >= p.columns) return;
    double sum = 0.0;
    for (unsigned block = 0; block < ceil_div(p.rows, kColumnBlockRows); ++block) {
        sum += a.partials[static_cast<size_t>(block) * p.columns + c];
    }
    a.y[c] += static_cast<float>(sum);
}
