// Gradients of batch norm with a batch's own statistics, the activation behind it included.
//
// With u = scale z + shift, du = dy activation'(u), d = z - mean, r = 1 / sqrt(variance + epsilon):
//
//   kernel                computes                                             bytes, s a number    FLOPs
//   bn_grad_partials_*    sums of du and of du d over blocks of 256 rows       2 s rows channels    7 rows channels
//   bn_grad_merge_f32     sum du, sum du x^ = r sum du d; dbeta and dgamma += those
//                                                                              8 blocks channels    2 blocks channels
//   bn_grad_input_*       dz = scale (du - (sum du) / rows - x^ (sum du x^) / rows) + residual
//                                                                              3 s rows channels (4 s with residual)
//                                                                                                   10 rows channels
//   bn_running_f32        running += momentum (batch - running)                24 channels          6 channels
//
// The pre-activation u is made again from z instead of stored: two reads of the map in all, none of y. The
// shape of the reduction is a function of the rows alone and everything is added in order: no atomics, the
// same bits every time. Maps are f32, f16 or bf16, per-channel numbers f32. 16-bit maps: checked on the emulator,
// not yet on a card.
#include "nat_row_sums.cuh"

struct BnGradParams {
    unsigned rows, channels, activation;
    float epsilon;
    unsigned format;
};
NAT_LAYOUT(BnGradParams, rows, channels, activation, epsilon, format);

struct BnGradSumsArgs {
    const void* z;
    const void* dy;
    const float* batch;  // mean [channels], variance [channels]
    const float* scale;
    const float* shift;
    float* partials;  // [blocks][2][channels]
    float* sums;      // [2][channels]
    float* dgamma;
    float* dbeta;
    BnGradParams p;
};
NAT_LAYOUT(BnGradSumsArgs, z, dy, batch, scale, shift, partials, sums, dgamma, dbeta, p);

constexpr unsigned kGradBlockRows = 256;  // crate::ops::batch_norm::BLOCK_ROWS

template <class T>
__device__ __forceinline__ void bn_grad_partials(const BnGradSumsArgs& a, Quad* plain_sums, Quad* weighted_sums) {
    const BnGradParams& p = a.p;
    const RowSums<T> place(p.channels);
    const unsigned c = place.c, rows = min(kGradBlockRows, p.rows - place.block * kGradBlockRows);
    const bool there = c < p.channels;

    Chunk<T> plain = {}, weighted = {};
    if (there) {
        const size_t first = static_cast<size_t>(place.block) * kGradBlockRows * p.channels + c;
        const T* z = static_cast<const T*>(a.z) + first;
        const T* dy = static_cast<const T*>(a.dy) + first;
        Chunk<T> scale, shift, mean;
        NAT_UNROLL
        for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
            scale.quads[q] = load_quad(a.scale + c + 4 * q);
            shift.quads[q] = load_quad(a.shift + c + 4 * q);
            mean.quads[q] = load_quad(a.batch + c + 4 * q);
        }
        for (unsigned row = place.lane; row < rows; row += place.kLanes) {
            const Chunk<T> value = load_chunk(z + row * p.channels), gradient = load_chunk(dy + row * p.channels);
            NAT_UNROLL
            for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
                const Quad u = multiply_add(value.quads[q], scale.quads[q], shift.quads[q]);
                const Quad du = gradient.quads[q] * derivative(p.activation, u);
                plain.quads[q] = plain.quads[q] + du;
                weighted.quads[q] = multiply_add(du, value.quads[q] - mean.quads[q], weighted.quads[q]);
            }
        }
    }
    place.leave(plain_sums, plain);
    place.leave(weighted_sums, weighted);
    __syncthreads();
    if (place.lane != 0 || !there) return;
    for (unsigned i = 1; i < place.kLanes; ++i) {
        plain = plain + place.left(plain_sums, i);
        weighted = weighted + place.left(weighted_sums, i);
    }
    float* out = a.partials + static_cast<size_t>(place.block) * 2 * p.channels + c;
    store_floats(out, plain);
    store_floats(out + p.channels, weighted);
}

#define BN_GRAD_PARTIALS_KERNEL(suffix, T)                                                \
    NAT_KERNEL_BOUNDED(bn_grad_partials_##suffix, kRowSumThreads, BnGradSumsArgs a) {     \
        NAT_SHARED(Quad, plain_sums, RowSums<T>::kQuads);                                 \
        NAT_SHARED(Quad, weighted_sums, RowSums<T>::kQuads);                              \
        bn_grad_partials<T>(a, plain_sums, weighted_sums);                                \
    }

NAT_EVERY_FORMAT(BN_GRAD_PARTIALS_KERNEL)

constexpr unsigned kGradMergeChannels = 32, kGradMergeSegments = 8;
constexpr unsigned kGradMergeThreads = kGradMergeChannels * kGradMergeSegments;

// A thread adds one of 8 consecutive segments of the blocks for one channel, in f64; the first adds those.
NAT_KERNEL_BOUNDED(bn_grad_merge_f32, kGradMergeThreads, BnGradSumsArgs a) {
    NAT_SHARED(double, plain_sums, kGradMergeThreads);
    NAT_SHARED(double, weighted_sums, kGradMergeThreads);
    const BnGradParams& p = a.p;
    const unsigned lane = threadIdx.x % kGradMergeChannels, segment = threadIdx.x / kGradMergeChannels;
    const unsigned c = blockIdx.x * kGradMergeChannels + lane;
    const unsigned blocks = ceil_div(p.rows, kGradBlockRows), length = ceil_div(blocks, kGradMergeSegments);
    double plain = 0.0, weighted = 0.0;
    if (c < p.channels) {
        for (unsigned block = segment * length; block < min((segment + 1) * length, blocks); ++block) {
            const float* from = a.partials + static_cast<size_t>(block) * 2 * p.channels + c;
            plain += from[0];
            weighted += from[p.channels];
        }
    }
    plain_sums[threadIdx.x] = plain;
    weighted_sums[threadIdx.x] = weighted;
    __syncthreads();
    if (segment != 0 || c >= p.channels) return;
    for (unsigned i = 1; i < kGradMergeSegments; ++i) {
        plain += plain_sums[i * kGradMergeChannels + lane];
        weighted += weighted_sums[i * kGradMergeChannels + lane];
    }
    const float sum = static_cast<float>(plain);
    const float normalised = static_cast<float>(weighted) / sqrtf(a.batch[p.channels + c] + p.epsilon);
    a.sums[c] = sum;
    a.sums[p.channels + c] = normalised;
    a.dbeta[c] += sum;
    a.dgamma[c] += normalised;
}

struct BnGradInputArgs {
    const void* z;
    const void* dy;
    const float* batch;
    const float* scale;
    const float* shift;
    const float* sums;
    const void* residual;  // or null
    void* dz;
    BnGradParams p;
};
NAT_LAYOUT(BnGradInputArgs, z, dy, batch, scale, shift, sums, residual, dz, p);

constexpr unsigned kGradInputThreads = 256;

// A thread makes 16 bytes of channels of a row.
template <class T>
__device__ __forceinline__ void bn_grad_input(const BnGradInputArgs& a) {
    const BnGradParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>;
    const size_t i = static_cast<size_t>(blockIdx.x) * kGradInputThreads + threadIdx.x;
    if (i >= static_cast<size_t>(p.rows) * chunks) return;
    // i % chunks without a 64-bit division.
    const unsigned first = (blockIdx.x % chunks * kGradInputThreads + threadIdx.x) % chunks * kChunk<T>;
    const Chunk<T> z = load_chunk(static_cast<const T*>(a.z) + kChunk<T> * i);
    Chunk<T> dz = load_chunk(static_cast<const T*>(a.dy) + kChunk<T> * i);
    const Quad share = splat(1.0f / static_cast<float>(p.rows));
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        const unsigned c = first + 4 * q;
        const Quad scale = load_quad(a.scale + c);
        const Quad u = multiply_add(z.quads[q], scale, load_quad(a.shift + c));
        const Quad du = dz.quads[q] * derivative(p.activation, u);
        const Quad variance = load_quad(a.batch + p.channels + c);
        const Quad r = make_float4(rsqrtf(variance.x + p.epsilon), rsqrtf(variance.y + p.epsilon),
                                   rsqrtf(variance.z + p.epsilon), rsqrtf(variance.w + p.epsilon));
        const Quad normalised = (z.quads[q] - load_quad(a.batch + c)) * r;
        const Quad weighted = load_quad(a.sums + p.channels + c);
        const Quad centring = multiply_add(normalised, weighted, load_quad(a.sums + c)) * share;
        dz.quads[q] = scale * (du - centring);
    }
    if (a.residual != nullptr) dz = dz + load_chunk(static_cast<const T*>(a.residual) + kChunk<T> * i);
    store_chunk(static_cast<T*>(a.dz) + kChunk<T> * i, dz);
}

#define BN_GRAD_INPUT_KERNEL(suffix, T) \
    NAT_KERNEL_BOUNDED(bn_grad_input_##suffix, kGradInputThreads, BnGradInputArgs a) { bn_grad_input<T>(a); }

NAT_EVERY_FORMAT(BN_GRAD_INPUT_KERNEL)

struct BnRunningParams {
    unsigned channels;
    float momentum, unbias;
};
NAT_LAYOUT(BnRunningParams, channels, momentum, unbias);

struct BnRunningArgs {
    const float* batch;  // mean [channels], biased variance [channels]
    float* mean;
    float* variance;
    BnRunningParams p;
};
NAT_LAYOUT(BnRunningArgs, batch, mean, variance, p);

constexpr unsigned kRunningThreads = 128;
constexpr unsigned kRunnings = 64;  // batch norms of a launch, a row of the grid each

struct BnRunningGroup {
    BnRunningArgs calls[kRunnings];
};
NAT_LAYOUT(BnRunningGroup, calls);

NAT_KERNEL_BOUNDED(bn_running_f32, kRunningThreads, BnRunningGroup all) {
    const BnRunningArgs& a = all.calls[blockIdx.y];
    const unsigned c = blockIdx.x * kRunningThreads + threadIdx.x;
    if (c >= a.p.channels) return;
    const float variance = a.batch[a.p.channels + c] * a.p.unbias;
    a.mean[c] += a.p.momentum * (a.batch[c] - a.mean[c]);
    a.variance[c] += a.p.momentum * (variance - a.variance[c]);
}
