// Batch norm where a batch's own statistics are needed: statistics, folding, application.
//
//   kernel         computes                                                  bytes, s a number   FLOPs
//   bn_partials_*  mean and squared deviations (M2) of blocks of 256 rows    s rows channels     3 rows channels
//   bn_merge_f32   mean and biased variance of the batch, average += weight * batch
//                                                                            8 blocks channels   8 blocks channels
//                  and, where asked for, what bn_fold_f32 makes of them      16 channels         5 channels
//   bn_fold_f32    of many batch norms: scale = gamma / sqrt(variance + epsilon), shift = beta + (bias - mean) * scale
//                                                                            24 channels         5 channels
//   bn_apply_*     y = activation(x * scale + shift) + residual              2 s rows channels (3 s with residual)
//                                                                                                4 rows channels
//
// Maps are f32, f16 or bf16, per-channel numbers f32. 16-bit maps: checked on the emulator, not yet on a card.
//
// Statistics read the map once. Deviations are taken from the block's first row, so that their squares do
// not cancel where a mean is large against the spread. The shape of the reduction is a function of the rows
// alone and everything is added in order: no atomics, the same bits every time.
#include "nat_formats.cuh"

struct StatisticsParams {
    unsigned rows, channels;
    float weight, epsilon;
    unsigned format;
};
NAT_LAYOUT(StatisticsParams, rows, channels, weight, epsilon, format);

struct StatisticsArgs {
    const void* x;
    float* partials;  // [blocks][2][channels]
    float* batch;     // [2][channels]
    float* average;   // [2][channels]
    const float* gamma;  // or null, and then so are the next three
    const float* beta;
    float* scale;
    float* shift;
    StatisticsParams p;
};
NAT_LAYOUT(StatisticsArgs, x, partials, batch, average, gamma, beta, scale, shift, p);

// Scale and shift of a channel, whose affine parameters are at gamma and beta.
__device__ __forceinline__ void fold_channel(const float* gamma, const float* beta, float bias, float mean, float variance,
                                             float epsilon, float* scale, float* shift) {
    const float factor = *gamma / sqrtf(variance + epsilon);
    *scale = factor;
    *shift = *beta + (bias - mean) * factor;
}

constexpr unsigned kBlockRows = 256;  // crate::ops::batch_norm::BLOCK_ROWS
constexpr unsigned kStatisticsChannels = 32, kStatisticsThreads = 128;

// A block of threads takes 32 channels of a block of rows. Eight threads in f32, four in 16 bits, have the 16
// bytes each of a row's channels, and every 16th or 32nd row.
template <class T>
__device__ __forceinline__ void partials(const StatisticsArgs& a, Chunk<T>* sums, Chunk<T>* squares) {
    constexpr unsigned kChunks = kStatisticsChannels / kChunk<T>, kLanes = kStatisticsThreads / kChunks;
    const StatisticsParams& p = a.p;
    const unsigned groups = ceil_div(p.channels, kStatisticsChannels);
    const unsigned chunk = threadIdx.x % kChunks, lane = threadIdx.x / kChunks;
    const unsigned c = blockIdx.x % groups * kStatisticsChannels + chunk * kChunk<T>;
    const unsigned block = blockIdx.x / groups;
    const unsigned rows = min(kBlockRows, p.rows - block * kBlockRows);
    const bool there = c < p.channels;

    const T* x = static_cast<const T*>(a.x) + static_cast<size_t>(block) * kBlockRows * p.channels + c;
    Chunk<T> first = {}, sum = {}, square = {};
    if (there) {
        first = load_chunk(x);
        for (unsigned row = lane; row < rows; row += kLanes) {
            const Chunk<T> value = load_chunk(x + row * p.channels);
            NAT_UNROLL
            for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
                const Quad deviation = value.quads[q] - first.quads[q];
                sum.quads[q] = sum.quads[q] + deviation;
                square.quads[q] = multiply_add(deviation, deviation, square.quads[q]);
            }
        }
    }
    sums[threadIdx.x] = sum;
    squares[threadIdx.x] = square;
    __syncthreads();
    if (lane != 0 || !there) return;
    for (unsigned i = 1; i < kLanes; ++i) {
        sum = sum + sums[i * kChunks + chunk];
        square = square + squares[i * kChunks + chunk];
    }
    const Quad share = splat(1.0f / static_cast<float>(rows));
    float* out = a.partials + static_cast<size_t>(block) * 2 * p.channels + c;
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad mean = sum.quads[q] * share;
        store_quad(out + 4 * q, first.quads[q] + mean);
        store_quad(out + p.channels + 4 * q, max_quad(square.quads[q] - sum.quads[q] * mean, splat(0.0f)));
    }
}

#define PARTIALS_KERNEL(suffix, T)                                                          \
    NAT_KERNEL_BOUNDED(bn_partials_##suffix, kStatisticsThreads, StatisticsArgs a) { \
        NAT_SHARED(Chunk<T>, sums, kStatisticsThreads);                                     \
        NAT_SHARED(Chunk<T>, squares, kStatisticsThreads);                                  \
        partials<T>(a, sums, squares);                                                      \
    }

NAT_EVERY_FORMAT(PARTIALS_KERNEL)

constexpr unsigned kMergeChannels = 32, kMergeSegments = 8;
constexpr unsigned kMergeThreads = kMergeChannels * kMergeSegments;

// Count, mean and M2 of rows, in f64.
struct Moments {
    double count, mean, squares;
};

// Chan's formula: the moments of two sets of rows together.
__device__ __forceinline__ void merge(Moments& into, const Moments& other) {
    if (other.count == 0.0) return;
    const double total = into.count + other.count;
    const double delta = other.mean - into.mean, share = other.count / total;
    into.mean += delta * share;
    into.squares += other.squares + delta * delta * into.count * share;
    into.count = total;
}

// A thread merges one of 8 consecutive segments of the blocks for one channel; then the first merges those.
NAT_KERNEL_BOUNDED(bn_merge_f32, kMergeThreads, StatisticsArgs a) {
    NAT_SHARED(Moments, segments, kMergeThreads);
    const StatisticsParams& p = a.p;
    const unsigned lane = threadIdx.x % kMergeChannels, segment = threadIdx.x / kMergeChannels;
    const unsigned c = blockIdx.x * kMergeChannels + lane;
    const unsigned blocks = ceil_div(p.rows, kBlockRows), length = ceil_div(blocks, kMergeSegments);
    Moments moments = {0.0, 0.0, 0.0};
    if (c < p.channels) {
        for (unsigned block = segment * length; block < min((segment + 1) * length, blocks); ++block) {
            const float* from = a.partials + static_cast<size_t>(block) * 2 * p.channels + c;
            const unsigned rows = min(kBlockRows, p.rows - block * kBlockRows);
            merge(moments, {static_cast<double>(rows), from[0], from[p.channels]});
        }
    }
    segments[threadIdx.x] = moments;
    __syncthreads();
    if (segment != 0 || c >= p.channels) return;
    for (unsigned i = 1; i < kMergeSegments; ++i) merge(moments, segments[i * kMergeChannels + lane]);
    const float mean = static_cast<float>(moments.mean);
    const float variance = static_cast<float>(moments.squares / p.rows);
    a.batch[c] = mean;
    a.batch[p.channels + c] = variance;
    a.average[c] += p.weight * mean;
    a.average[p.channels + c] += p.weight * variance;
    if (a.gamma == nullptr) return;
    fold_channel(a.gamma + c, a.beta + c, 0.0f, mean, variance, p.epsilon, a.scale + c, a.shift + c);
}

struct FoldParams {
    unsigned channels;
    float epsilon;
};
NAT_LAYOUT(FoldParams, channels, epsilon);

struct FoldArgs {
    const float* gamma;
    const float* beta;
    const float* mean;
    const float* variance;
    const float* bias;  // or null
    float* scale;
    float* shift;
    FoldParams p;
};
NAT_LAYOUT(FoldArgs, gamma, beta, mean, variance, bias, scale, shift, p);

constexpr unsigned kFoldThreads = 128;
constexpr unsigned kFolds = 64;  // 4 KiB, which is what every driver takes as arguments

struct FoldsArgs {
    FoldArgs folds[kFolds];
};
NAT_LAYOUT(FoldsArgs, folds);

// Row y of the grid folds batch norm y, a thread a channel; rows are as long as the widest needs.
NAT_KERNEL_BOUNDED(bn_fold_f32, kFoldThreads, FoldsArgs all) {
    const FoldArgs& a = all.folds[blockIdx.y];
    const unsigned c = blockIdx.x * kFoldThreads + threadIdx.x;
    if (c >= a.p.channels) return;
    const float bias = a.bias != nullptr ? a.bias[c] : 0.0f;
    fold_channel(a.gamma + c, a.beta + c, bias, a.mean[c], a.variance[c], a.p.epsilon, a.scale + c, a.shift + c);
}

struct ApplyParams {
    unsigned rows, channels, activation, format;
};
NAT_LAYOUT(ApplyParams, rows, channels, activation, format);

struct ApplyArgs {
    const void* x;  // may be y
    const float* scale;
    const float* shift;
    const void* residual;  // or null
    void* y;
    ApplyParams p;
};
NAT_LAYOUT(ApplyArgs, x, scale, shift, residual, y, p);

constexpr unsigned kApplyThreads = 256;

template <class T>
__device__ __forceinline__ void apply(const ApplyArgs& a) {
    const ApplyParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>;
    const size_t i = static_cast<size_t>(blockIdx.x) * kApplyThreads + threadIdx.x;
    if (i >= static_cast<size_t>(p.rows) * chunks) return;
    // i % chunks without a 64-bit division.
    const unsigned c = (blockIdx.x % chunks * kApplyThreads + threadIdx.x) % chunks * kChunk<T>;
    Chunk<T> value = load_chunk(static_cast<const T*>(a.x) + kChunk<T> * i);
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad scale = load_quad(a.scale + c + 4 * q), shift = load_quad(a.shift + c + 4 * q);
        value.quads[q] = activate(p.activation, multiply_add(value.quads[q], scale, shift));
    }
    if (a.residual != nullptr) value = value + load_chunk(static_cast<const T*>(a.residual) + kChunk<T> * i);
    store_chunk(static_cast<T*>(a.y) + kChunk<T> * i, value);
}

#define APPLY_KERNEL(suffix, T) \
    NAT_KERNEL_BOUNDED(bn_apply_##suffix, kApplyThreads, ApplyArgs a) { apply<T>(a); }

NAT_EVERY_FORMAT(APPLY_KERNEL)
