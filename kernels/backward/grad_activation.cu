// Activations on their own with dropout, their gradient, and the gradient of a bias. Maps are f32, f16 or bf16;
// masks and sums are f32. 16-bit maps: checked on the emulator, not yet on a card.
//
//   kernel             computes                                 bytes, s a number             FLOPs
//   activate_*         y = activation(x) * mask                 2 s n (4 n more with a mask)  4 n
//   activate_grad_*    dx = dy * activation'(x) * mask          3 s n (4 n more with a mask)  4 n
//   column_partials_*  sums of columns over blocks of 256 rows  s rows columns                rows columns
//   column_merge_f32   y[c] += the sum of those                 4 blocks columns              blocks columns
//
// Element-wise kernels take 16 bytes of a map a thread. Sums of columns have a shape that is a function of the
// rows alone and are added in order.
#include "nat_row_sums.cuh"

struct ActivateParams {
    unsigned len, activation, format;
};
NAT_LAYOUT(ActivateParams, len, activation, format);

struct ActivateArgs {
    const void* x;
    const float* mask;  // or null
    void* y;
    ActivateParams p;
};
NAT_LAYOUT(ActivateArgs, x, mask, y, p);

constexpr unsigned kActivateThreads = 256;

// `value` times the mask's elements from `at` on.
template <class T>
__device__ __forceinline__ void apply_mask(const float* mask, size_t at, Chunk<T>& value) {
    if (mask == nullptr) return;
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) value.quads[q] = value.quads[q] * load_quad(mask + at + 4 * q);
}

template <class T>
__device__ __forceinline__ void activate_map(const ActivateArgs& a) {
    const unsigned i = blockIdx.x * kActivateThreads + threadIdx.x;
    if (i >= a.p.len / kChunk<T>) return;
    const size_t at = kChunk<T> * static_cast<size_t>(i);
    Chunk<T> value = load_chunk(static_cast<const T*>(a.x) + at);
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) value.quads[q] = activate(a.p.activation, value.quads[q]);
    apply_mask(a.mask, at, value);
    store_chunk(static_cast<T*>(a.y) + at, value);
}

struct ActivateGradArgs {
    const void* x;
    const void* dy;
    const float* mask;  // or null
    void* dx;
    ActivateParams p;
};
NAT_LAYOUT(ActivateGradArgs, x, dy, mask, dx, p);

template <class T>
__device__ __forceinline__ void activate_grad(const ActivateGradArgs& a) {
    const unsigned i = blockIdx.x * kActivateThreads + threadIdx.x;
    if (i >= a.p.len / kChunk<T>) return;
    const size_t at = kChunk<T> * static_cast<size_t>(i);
    const Chunk<T> x = load_chunk(static_cast<const T*>(a.x) + at);
    Chunk<T> value = load_chunk(static_cast<const T*>(a.dy) + at);
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        value.quads[q] = value.quads[q] * derivative(a.p.activation, x.quads[q]);
    }
    apply_mask(a.mask, at, value);
    store_chunk(static_cast<T*>(a.dx) + at, value);
}

struct ColumnSumParams {
    unsigned rows, columns, format;
};
NAT_LAYOUT(ColumnSumParams, rows, columns, format);

struct ColumnSumArgs {
    const void* x;
    float* partials;  // [blocks][columns]
    float* y;
    ColumnSumParams p;
};
NAT_LAYOUT(ColumnSumArgs, x, partials, y, p);

constexpr unsigned kColumnBlockRows = 256;  // crate::ops::batch_norm::BLOCK_ROWS

template <class T>
__device__ __forceinline__ void column_partials(const ColumnSumArgs& a, Quad* sums) {
    const ColumnSumParams& p = a.p;
    const RowSums<T> place(p.columns);
    const unsigned rows = min(kColumnBlockRows, p.rows - place.block * kColumnBlockRows);
    const bool there = place.c < p.columns;
    const T* x = static_cast<const T*>(a.x) + static_cast<size_t>(place.block) * kColumnBlockRows * p.columns + place.c;
    Chunk<T> sum = {};
    if (there) {
        for (unsigned row = place.lane; row < rows; row += place.kLanes) sum = sum + load_chunk(x + row * p.columns);
    }
    place.leave(sums, sum);
    __syncthreads();
    if (place.lane != 0 || !there) return;
    for (unsigned i = 1; i < place.kLanes; ++i) sum = sum + place.left(sums, i);
    store_floats(a.partials + static_cast<size_t>(place.block) * p.columns + place.c, sum);
}

#define ACTIVATION_KERNELS(suffix, T)                                                                          \
    NAT_KERNEL_BOUNDED(activate_##suffix, kActivateThreads, ActivateArgs a) { activate_map<T>(a); }            \
    NAT_KERNEL_BOUNDED(activate_grad_##suffix, kActivateThreads, ActivateGradArgs a) { activate_grad<T>(a); } \
    NAT_KERNEL_BOUNDED(column_partials_##suffix, kRowSumThreads, ColumnSumArgs a) {                            \
        NAT_SHARED(Quad, sums, RowSums<T>::kQuads);                                                            \
        column_partials<T>(a, sums);                                                                           \
    }

NAT_EVERY_FORMAT(ACTIVATION_KERNELS)

constexpr unsigned kColumnMergeThreads = 128;

// A thread adds the blocks of one column, in f64.
NAT_KERNEL_BOUNDED(column_merge_f32, kColumnMergeThreads, ColumnSumArgs a) {
    const ColumnSumParams& p = a.p;
    const unsigned c = blockIdx.x * kColumnMergeThreads + threadIdx.x;
    if (c >= p.columns) return;
    double sum = 0.0;
    for (unsigned block = 0; block < ceil_div(p.rows, kColumnBlockRows); ++block) {
        sum += a.partials[static_cast<size_t>(block) * p.columns + c];
    }
    a.y[c] += static_cast<float>(sum);
}
