// Batch norm where a batch's own statistics are needed: statistics, folding, application.
//
//   kernel           computes                                                bytes, s a number   FLOPs
//   bn_statistics_*  mean and biased variance of every batch of at most 32 blocks of 256 rows, and where asked
//                    for what bn_fold_f32 makes of them                      s rows channels     3 rows channels
//   bn_partials_*    of more: mean and squared deviations (M2) of every block
//                                                                            s rows channels     3 rows channels
//   bn_merge_f32     of many batch norms: what bn_statistics makes of such units of rows, blocks or shorter ones
//                                                                            8 units channels    8 units channels
//   bn_average_f32   of many batch norms: average += weight * each batch     4 batches length    2 batches length
//   bn_fold_f32      of many batch norms: scale = gamma / sqrt(variance + epsilon), shift = beta + (bias - mean) * scale
//                                                                            24 channels         5 channels
//   bn_apply_*       y = activation(x * scale + shift) + residual, with the scale and shift of a row's batch
//                                                                            2 s rows channels (3 s with residual)
//                                                                                                4 rows channels
//   bn_apply_group_* of many batch norms: the same
//
// Maps are f32, f16 or bf16, per-channel numbers f32. Batches lie behind one another, all of as many rows.
// 16-bit maps and more than one batch: checked on the emulator, not yet on a card.
//
// Statistics read the map once. Deviations are taken from the block's first row, so that their squares do
// not cancel where a mean is large against the spread. The shape of the reduction is a function of the rows
// of a batch alone and everything is added in order: no atomics, the same bits every time.
#include "nat_formats.cuh"

struct StatisticsParams {
    unsigned rows, channels, batches;
    float epsilon;
    unsigned format;
};
NAT_LAYOUT(StatisticsParams, rows, channels, batches, epsilon, format);

// What a batch's statistics are folded with, and into; all null where they are not.
struct BatchFold {
    const float* gamma;
    const float* beta;
    float* scale;  // [batches][channels]
    float* shift;
};
NAT_LAYOUT(BatchFold, gamma, beta, scale, shift);

struct StatisticsArgs {
    const void* x;
    float* partials;  // [batches][blocks][2][channels]
    float* batch;     // [batches][2][channels]
    BatchFold fold;
    StatisticsParams p;
};
NAT_LAYOUT(StatisticsArgs, x, partials, batch, fold, p);

// Scale and shift of a channel, whose affine parameters are at gamma and beta.
__device__ __forceinline__ void fold_channel(const float* gamma, const float* beta, float bias, float mean, float variance,
                                             float epsilon, float* scale, float* shift) {
    const float factor = *gamma / sqrtf(variance + epsilon);
    *scale = factor;
    *shift = *beta + (bias - mean) * factor;
}

struct MergeParams {
    unsigned rows, unit_rows, span_rows, channels, batches;
    float epsilon;
};
NAT_LAYOUT(MergeParams, rows, unit_rows, span_rows, channels, batches, epsilon);

// A batch is spans of rows, the last of which may be shorter, and a span units of rows, of which the last may.
struct MergeArgs {
    const float* partials;  // [batches][units][2][channels]
    float* batch;           // [batches][2][channels]
    BatchFold fold;
    MergeParams p;
};
NAT_LAYOUT(MergeArgs, partials, batch, fold, p);

constexpr unsigned kMerges = 56;  // 4 KiB, which is what every driver takes as arguments

struct MergesArgs {
    MergeArgs calls[kMerges];
};
NAT_LAYOUT(MergesArgs, calls);

constexpr unsigned kBlockRows = 256;  // crate::ops::batch_norm::BLOCK_ROWS
constexpr unsigned kStatisticsChannels = 32;
constexpr unsigned kTeam = 128;  // threads for a block of rows

// Mean and M2 of the channels of a unit of rows, the latter `second` floats behind the former.
struct Partials {
    const float* at;
    unsigned second;
};

// Those of a thread's channels.
template <class T>
struct Result {
    bool there;
    unsigned channel;  // of the first, of 32
    Chunk<T> mean, squares;
};

template <class T>
__device__ __forceinline__ void store_result(const Result<T>& result, float* to, unsigned second) {
    if (!result.there) return;
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        store_quad(to + result.channel + 4 * q, result.mean.quads[q]);
        store_quad(to + second + result.channel + 4 * q, result.squares.quads[q]);
    }
}

// A team of threads takes 32 channels, from blockIdx.x of these on, of a block of rows of batch blockIdx.y.
// Eight threads in f32, four in 16 bits, have the 16 bytes each of a row's channels, and every 16th or 32nd
// row. All teams of a block come here, even with no rows.
template <class T>
__device__ __forceinline__ Result<T> partials(const StatisticsArgs& a, unsigned channels_at, unsigned block,
                                              unsigned team, Chunk<T>* sums, Chunk<T>* squares) {
    constexpr unsigned kChunks = kStatisticsChannels / kChunk<T>, kLanes = kTeam / kChunks;
    const StatisticsParams& p = a.p;
    const unsigned thread = threadIdx.x % kTeam;
    const unsigned chunk = thread % kChunks, lane = thread / kChunks;
    const unsigned c = channels_at + chunk * kChunk<T>;
    const unsigned first_row = min(block * kBlockRows, p.rows);
    const unsigned rows = min(kBlockRows, p.rows - first_row);
    const bool there = c < p.channels && rows > 0;

    const size_t start = static_cast<size_t>(blockIdx.y) * p.rows + first_row;
    const T* x = static_cast<const T*>(a.x) + start * p.channels + c;
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
    const unsigned own = team * kTeam;
    sums[own + thread] = sum;
    squares[own + thread] = square;
    __syncthreads();
    Result<T> result = {lane == 0 && there, chunk * kChunk<T>, {}, {}};
    if (!result.there) return result;
    for (unsigned i = 1; i < kLanes; ++i) {
        sum = sum + sums[own + i * kChunks + chunk];
        square = square + squares[own + i * kChunks + chunk];
    }
    const Quad share = splat(1.0f / static_cast<float>(rows));
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad mean = sum.quads[q] * share;
        result.mean.quads[q] = first.quads[q] + mean;
        result.squares.quads[q] = max_quad(square.quads[q] - sum.quads[q] * mean, splat(0.0f));
    }
    return result;
}

#define PARTIALS_KERNEL(suffix, T)                                                                                \
    NAT_KERNEL_BOUNDED(bn_partials_##suffix, kTeam, StatisticsArgs a) {                                           \
        NAT_SHARED(Chunk<T>, sums, kTeam);                                                                        \
        NAT_SHARED(Chunk<T>, squares, kTeam);                                                                     \
        const unsigned groups = ceil_div(a.p.channels, kStatisticsChannels);                                      \
        const unsigned c = blockIdx.x % groups * kStatisticsChannels, block = blockIdx.x / groups;                \
        const size_t at = static_cast<size_t>(blockIdx.y) * ceil_div(a.p.rows, kBlockRows) + block;               \
        const Result<T> result = partials<T>(a, c, block, 0, sums, squares);                                      \
        store_result(result, a.partials + at * 2 * a.p.channels + c, a.p.channels);                               \
    }

NAT_EVERY_FORMAT(PARTIALS_KERNEL)

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

// Units of a batch.
__device__ __forceinline__ unsigned units_of(const MergeParams& p) {
    return p.rows / p.span_rows * ceil_div(p.span_rows, p.unit_rows) + ceil_div(p.rows % p.span_rows, p.unit_rows);
}

// A thread merges one of consecutive segments of the units of batch blockIdx.y for channel `c`; then the
// first merges those; threads behind the segments only wait. Units are `stride` floats apart.
template <unsigned kSegments>
__device__ __forceinline__ void merge_units(const MergeArgs& a, unsigned c, unsigned segment, Moments* segments,
                                            Partials from, unsigned stride) {
    const MergeParams& p = a.p;
    const unsigned lane = threadIdx.x % kStatisticsChannels;
    const unsigned units = units_of(p), length = ceil_div(units, kSegments);
    Moments moments = {0.0, 0.0, 0.0};
    if (c < p.channels && segment < kSegments) {
        const unsigned first = segment * length;
        unsigned left = min(length, units - min(first, units));
        const unsigned in_a_span = ceil_div(p.span_rows, p.unit_rows);
        const unsigned before = first / in_a_span * p.span_rows, ahead = first % in_a_span * p.unit_rows;
        // Rows that are left, of all and of the span.
        unsigned rows = p.rows - before - ahead, span = min(p.span_rows, p.rows - before) - ahead;
        const float* at = from.at + static_cast<size_t>(first) * stride + lane;
        for (; left > 0; --left, at += stride) {
            const unsigned unit = min(p.unit_rows, span);
            merge(moments, {static_cast<double>(unit), at[0], at[from.second]});
            rows -= unit;
            span -= unit;
            if (span == 0) span = min(p.span_rows, rows);
        }
    }
    if (segment < kSegments) segments[threadIdx.x] = moments;
    __syncthreads();
    if (segment != 0 || c >= p.channels) return;
    for (unsigned i = 1; i < kSegments; ++i) merge(moments, segments[i * kStatisticsChannels + lane]);
    const float mean = static_cast<float>(moments.mean);
    const float variance = static_cast<float>(moments.squares / p.rows);
    float* batch = a.batch + blockIdx.y * 2 * p.channels;
    batch[c] = mean;
    batch[p.channels + c] = variance;
    const BatchFold& fold = a.fold;
    if (fold.gamma == nullptr) return;
    const unsigned at = blockIdx.y * p.channels + c;
    fold_channel(fold.gamma + c, fold.beta + c, 0.0f, mean, variance, p.epsilon, fold.scale + at, fold.shift + at);
}

constexpr unsigned kMergeSegments = 8, kMergeThreads = kMergeSegments * kStatisticsChannels;

// Layer z of the grid is merge z, whose batches are its rows; the grid is as large as the largest needs.
NAT_KERNEL_BOUNDED(bn_merge_f32, kMergeThreads, MergesArgs all) {
    NAT_SHARED(Moments, segments, kMergeThreads);
    const MergeArgs& a = all.calls[blockIdx.z];
    const MergeParams& p = a.p;
    const unsigned channels_at = blockIdx.x * kStatisticsChannels;
    if (channels_at >= p.channels || blockIdx.y >= p.batches) return;
    const size_t batch_len = static_cast<size_t>(units_of(p)) * 2 * p.channels;
    const Partials from = {a.partials + blockIdx.y * batch_len + channels_at, p.channels};
    merge_units<kMergeSegments>(a, channels_at + threadIdx.x % kStatisticsChannels,
                                threadIdx.x / kStatisticsChannels, segments, from, 2 * p.channels);
}

constexpr unsigned kTeams = 4, kWholeThreads = kTeams * kTeam, kWholeSegments = 8;
constexpr unsigned kWholeBlocks = 32;  // of rows, at most: crate::ops::batch_norm::gpu::WHOLE_BLOCKS

// Both of the above for 32 channels of a batch, with the partial results in shared memory.
template <class T>
__device__ __forceinline__ void statistics(const StatisticsArgs& a, Chunk<T>* sums, Chunk<T>* squares, float* all,
                                           Moments* segments) {
    constexpr unsigned kBoth = 2 * kStatisticsChannels;
    const unsigned channels_at = blockIdx.x * kStatisticsChannels, team = threadIdx.x / kTeam;
    const unsigned blocks = ceil_div(a.p.rows, kBlockRows);
    for (unsigned block = 0; block < blocks; block += kTeams) {
        const Result<T> result = partials<T>(a, channels_at, block + team, team, sums, squares);
        store_result(result, all + (block + team) * kBoth, kStatisticsChannels);
        __syncthreads();
    }
    const MergeParams p = {a.p.rows, kBlockRows, a.p.rows, a.p.channels, a.p.batches, a.p.epsilon};
    merge_units<kWholeSegments>({a.partials, a.batch, a.fold, p},
                                channels_at + threadIdx.x % kStatisticsChannels, threadIdx.x / kStatisticsChannels,
                                segments, {all, kStatisticsChannels}, kBoth);
}

#define STATISTICS_KERNEL(suffix, T)                                             \
    NAT_KERNEL_BOUNDED(bn_statistics_##suffix, kWholeThreads, StatisticsArgs a) { \
        NAT_SHARED(Chunk<T>, sums, kWholeThreads);                               \
        NAT_SHARED(Chunk<T>, squares, kWholeThreads);                            \
        NAT_SHARED(float, all, kWholeBlocks * 2 * kStatisticsChannels);          \
        NAT_SHARED(Moments, segments, kWholeSegments * kStatisticsChannels);                            \
        statistics<T>(a, sums, squares, all, segments);                          \
    }

NAT_EVERY_FORMAT(STATISTICS_KERNEL)

struct AverageParams {
    unsigned length, batches;
    float weight;
};
NAT_LAYOUT(AverageParams, length, batches, weight);

struct AverageArgs {
    const float* batch;  // [batches][length]
    float* average;      // [length]
    AverageParams p;
};
NAT_LAYOUT(AverageArgs, batch, average, p);

constexpr unsigned kAverageThreads = 128;
constexpr unsigned kAverages = 64;

struct AveragesArgs {
    AverageArgs calls[kAverages];
};
NAT_LAYOUT(AveragesArgs, calls);

// Row y of the grid adds to average y, batch after batch, a thread an element.
NAT_KERNEL_BOUNDED(bn_average_f32, kAverageThreads, AveragesArgs all) {
    const AverageArgs& a = all.calls[blockIdx.y];
    const unsigned i = blockIdx.x * kAverageThreads + threadIdx.x;
    if (i >= a.p.length) return;
    float sum = a.average[i];
    for (unsigned batch = 0; batch < a.p.batches; ++batch) {
        sum += a.p.weight * a.batch[static_cast<size_t>(batch) * a.p.length + i];
    }
    a.average[i] = sum;
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
    FoldArgs calls[kFolds];
};
NAT_LAYOUT(FoldsArgs, calls);

// Row y of the grid folds batch norm y, a thread a channel; rows are as long as the widest needs.
NAT_KERNEL_BOUNDED(bn_fold_f32, kFoldThreads, FoldsArgs all) {
    const FoldArgs& a = all.calls[blockIdx.y];
    const unsigned c = blockIdx.x * kFoldThreads + threadIdx.x;
    if (c >= a.p.channels) return;
    const float bias = a.bias != nullptr ? a.bias[c] : 0.0f;
    fold_channel(a.gamma + c, a.beta + c, bias, a.mean[c], a.variance[c], a.p.epsilon, a.scale + c, a.shift + c);
}

struct ApplyParams {
    unsigned rows, batch_rows, channels, activation, format;
};
NAT_LAYOUT(ApplyParams, rows, batch_rows, channels, activation, format);

struct ApplyArgs {
    const void* x;  // may be y
    const float* scale;  // [rows / batch_rows][channels]
    const float* shift;
    const void* residual;  // or null
    void* y;
    ApplyParams p;
};
NAT_LAYOUT(ApplyArgs, x, scale, shift, residual, y, p);

constexpr unsigned kApplies = 64;  // as kFolds

struct AppliesArgs {
    ApplyArgs calls[kApplies];
};
NAT_LAYOUT(AppliesArgs, calls);

constexpr unsigned kApplyThreads = 256;

template <class T>
__device__ __forceinline__ void apply(const ApplyArgs& a) {
    const ApplyParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>;
    // The host has checked that 32 bits number them.
    const unsigned i = blockIdx.x * kApplyThreads + threadIdx.x;
    if (i >= p.rows * chunks) return;
    const unsigned row = i / chunks;
    const unsigned c = row / p.batch_rows * p.channels + (i - row * chunks) * kChunk<T>;
    Chunk<T> value = load_chunk(static_cast<const T*>(a.x) + static_cast<size_t>(i) * kChunk<T>);
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const Quad scale = load_quad(a.scale + c + 4 * q), shift = load_quad(a.shift + c + 4 * q);
        value.quads[q] = activate(p.activation, multiply_add(value.quads[q], scale, shift));
    }
    if (a.residual != nullptr) value = value + load_chunk(static_cast<const T*>(a.residual) + static_cast<size_t>(i) * kChunk<T>);
    store_chunk(static_cast<T*>(a.y) + static_cast<size_t>(i) * kChunk<T>, value);
}

#define APPLY_KERNEL(suffix, T)                                                                              \
    NAT_KERNEL_BOUNDED(bn_apply_##suffix, kApplyThreads, ApplyArgs a) { apply<T>(a); }                       \
    /* Row y of the grid is application y; rows are as long as the largest needs. */                         \
    NAT_KERNEL_BOUNDED(bn_apply_group_##suffix, kApplyThreads, AppliesArgs all) {                            \
        apply<T>(all.calls[blockIdx.y]);                                                                     \
    }

NAT_EVERY_FORMAT(APPLY_KERNEL)
