// Gradients of batch norm with a batch's own statistics, the activation behind it included.
//
// With u = scale z + shift, du = dy activation'(u), d = z - mean, r = 1 / sqrt(variance + epsilon):
//
//   kernel                computes                                             bytes                FLOPs
//   bn_grad_partials_f32  sums of du and of du d over blocks of 256 rows       8 rows channels      7 rows channels
//   bn_grad_merge_f32     sum du, sum du x^ = r sum du d; dbeta and dgamma += those
//                                                                              8 blocks channels    2 blocks channels
//   bn_grad_input_f32     dz = scale (du - (sum du) / rows - x^ (sum du x^) / rows) + residual
//                                                                              12 rows channels (16 with residual)
//                                                                                                   10 rows channels
//   bn_running_f32        running += momentum (batch - running)                24 channels          6 channels
//
// The pre-activation u is made again from z instead of stored: two reads of the map in all, none of y. The
// shape of the reduction is a function of the rows alone and everything is added in order: no atomics, the
// same bits every time.
#include "nat_common.cuh"

struct BnGradParams {
    unsigned rows, channels, activation;
    float epsilon;
};
NAT_LAYOUT(BnGradParams, rows, channels, activation, epsilon);

struct BnGradSumsArgs {
    const float* z;
    const float* dy;
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
constexpr unsigned kGradQuads = 8, kGradLanes = 16;
constexpr unsigned kGradThreads = kGradQuads * kGradLanes;

// A block of threads takes 32 channels of a block of rows: 16 lanes take every 16th row, a thread a quad.
NAT_KERNEL_BOUNDED(bn_grad_partials_f32, kGradThreads, BnGradSumsArgs a) {
    NAT_SHARED(Quad, plain_sums, kGradThreads);
    NAT_SHARED(Quad, weighted_sums, kGradThreads);
    const BnGradParams& p = a.p;
    const unsigned chunks = ceil_div(p.channels, 4 * kGradQuads);
    const unsigned quad = threadIdx.x % kGradQuads, lane = threadIdx.x / kGradQuads;
    const unsigned c = (blockIdx.x % chunks * kGradQuads + quad) * 4;
    const unsigned block = blockIdx.x / chunks;
    const unsigned rows = min(kGradBlockRows, p.rows - block * kGradBlockRows);
    const bool there = c < p.channels;

    Quad plain = splat(0.0f), weighted = splat(0.0f);
    if (there) {
        const size_t first = static_cast<size_t>(block) * kGradBlockRows * p.channels + c;
        const Quad scale = load_quad(a.scale + c), shift = load_quad(a.shift + c), mean = load_quad(a.batch + c);
        for (unsigned row = lane; row < rows; row += kGradLanes) {
            const Quad z = load_quad(a.z + first + row * p.channels);
            const Quad u = multiply_add(z, scale, shift);
            const Quad du = load_quad(a.dy + first + row * p.channels) * derivative(p.activation, u);
            plain = plain + du;
            weighted = multiply_add(du, z - mean, weighted);
        }
    }
    plain_sums[threadIdx.x] = plain;
    weighted_sums[threadIdx.x] = weighted;
    __syncthreads();
    if (lane != 0 || !there) return;
    for (unsigned i = 1; i < kGradLanes; ++i) {
        plain = plain + plain_sums[i * kGradQuads + quad];
        weighted = weighted + weighted_sums[i * kGradQuads + quad];
    }
    float* out = a.partials + static_cast<size_t>(block) * 2 * p.channels + c;
    store_quad(out, plain);
    store_quad(out + p.channels, weighted);
}

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
    const float* z;
    const float* dy;
    const float* batch;
    const float* scale;
    const float* shift;
    const float* sums;
    const float* residual;  // or null
    float* dz;
    BnGradParams p;
};
NAT_LAYOUT(BnGradInputArgs, z, dy, batch, scale, shift, sums, residual, dz, p);

constexpr unsigned kGradInputThreads = 256;

// A thread makes a quad of channels of a row.
NAT_KERNEL_BOUNDED(bn_grad_input_f32, kGradInputThreads, BnGradInputArgs a) {
    const BnGradParams& p = a.p;
    const unsigned quads = p.channels / 4;
    const size_t i = static_cast<size_t>(blockIdx.x) * kGradInputThreads + threadIdx.x;
    if (i >= static_cast<size_t>(p.rows) * quads) return;
    // i % quads without a 64-bit division.
    const unsigned c = (blockIdx.x % quads * kGradInputThreads + threadIdx.x) % quads * 4;
    const Quad z = load_quad(a.z + 4 * i), scale = load_quad(a.scale + c);
    const Quad u = multiply_add(z, scale, load_quad(a.shift + c));
    const Quad du = load_quad(a.dy + 4 * i) * derivative(p.activation, u);
    const Quad variance = load_quad(a.batch + p.channels + c);
    const Quad r = make_float4(rsqrtf(variance.x + p.epsilon), rsqrtf(variance.y + p.epsilon),
                               rsqrtf(variance.z + p.epsilon), rsqrtf(variance.w + p.epsilon));
    const Quad normalised = (z - load_quad(a.batch + c)) * r;
    const Quad share = splat(1.0f / static_cast<float>(p.rows));
    const Quad centring = multiply_add(normalised, load_quad(a.sums + p.channels + c), load_quad(a.sums + c)) * share;
    Quad dz = scale * (du - centring);
    if (a.residual != nullptr) dz = dz + load_quad(a.residual + 4 * i);
    store_quad(a.dz + 4 * i, dz);
}

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

NAT_KERNEL_BOUNDED(bn_running_f32, kRunningThreads, BnRunningArgs a) {
    const unsigned c = blockIdx.x * kRunningThreads + threadIdx.x;
    if (c >= a.p.channels) return;
    const float variance = a.batch[a.p.channels + c] * a.p.unbias;
    a.mean[c] += a.p.momentum * (a.batch[c] - a.mean[c]);
    a.variance[c] += a.p.momentum * (variance - a.variance[c]);
}
