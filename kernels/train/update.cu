// What changes weights: filling, gradient norms and clipping, SGD, AdamW. Tensors of any length.
//
//   kernel                computes                                              bytes    FLOPs
//   update_fill_f32       y = value                                             4 n      0
//   square_partials_f32   sums of squares of blocks of 4096 elements            4 n      2 n
//   square_merge_f32      their sum, for each tensor                            n / 1024 n / 4096
//   clip_factor_f32       norm = unscale sqrt(sum), factor = unscale min(1, limit / (norm + 1e-6)), and whether
//                         the norm is no finite number                          4 n      n
//   sgd_f32               d = factor g + decay w, v = momentum v + d,           20 n     8 n
//                         w -= rate (v, or d + momentum v with Nesterov's)
//   adamw_f32             w *= 1 - rate decay, m and v moving averages of g and g^2,
//                         w -= rate (m / correction1) / (sqrt(v / correction2) + epsilon)    28 n  15 n
//
// But for filling, a launch works on many tensors, the parts of one buffer that its arguments list: a block finds
// its tensor by the first block of each. A step leaves everything as it is where the norm is no finite number.
//
// Element-wise kernels take four elements a thread, as a quad where all operands are aligned to quads, else one by
// one: tensors start anywhere in a buffer and have any length. Sums have a shape that is a function of the length
// alone and are added in order.
#include "nat_common.cuh"

constexpr unsigned kUpdateThreads = 256;

// The first of this thread's four elements.
__device__ __forceinline__ unsigned first_of_four() { return 4 * (blockIdx.x * kUpdateThreads + threadIdx.x); }

// Whether quads can be read at an address.
__device__ __forceinline__ bool takes_quads(const float* at) { return reinterpret_cast<size_t>(at) % sizeof(Quad) == 0; }

struct UpdateFillParams {
    unsigned len;
    float value;
};
NAT_LAYOUT(UpdateFillParams, len, value);

struct UpdateFillArgs {
    float* y;
    UpdateFillParams p;
};
NAT_LAYOUT(UpdateFillArgs, y, p);

NAT_KERNEL_BOUNDED(update_fill_f32, kUpdateThreads, UpdateFillArgs a) {
    const unsigned first = first_of_four();
    if (first + 4 <= a.p.len && takes_quads(a.y)) {
        store_quad(a.y + first, splat(a.p.value));
    } else {
        for (unsigned i = first; i < min(first + 4, a.p.len); ++i) a.y[i] = a.p.value;
    }
}

// The tensor of a block, of `count` tensors that have blocks of their own from first_block on.
template <class Segment>
__device__ __forceinline__ unsigned segment_of(const Segment* segments, unsigned count, unsigned block) {
    unsigned low = 0, high = count;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (segments[middle].first_block <= block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

struct SquaresSegment {
    unsigned offset, len, first_block;
};
NAT_LAYOUT(SquaresSegment, offset, len, first_block);

constexpr unsigned kSquaresSegments = 320;  // 4 KiB, which is what every driver takes as arguments

struct SumOfSquaresArgs {
    const float* x;
    float* partials;  // a number a block
    float* y;         // [count]
    unsigned count;
    SquaresSegment segments[kSquaresSegments];
};
NAT_LAYOUT(SumOfSquaresArgs, x, partials, y, count, segments);

constexpr unsigned kSquareBlock = 4096;  // crate::ops::update::BLOCK

// The sum of a number a thread, in a tree of fixed shape; the first thread has it.
template <class T>
__device__ __forceinline__ T block_sum(T* shared, T value) {
    shared[threadIdx.x] = value;
    for (unsigned half = kUpdateThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    return shared[threadIdx.x];
}

// A block of threads a block of elements, a thread every 256th of them. A whole block comes in quads, by way of
// shared memory.
NAT_KERNEL_BOUNDED(square_partials_f32, kUpdateThreads, SumOfSquaresArgs a) {
    NAT_SHARED(float, shared, kUpdateThreads);
    NAT_SHARED(float, staged, kSquareBlock);
    const SquaresSegment segment = a.segments[segment_of(a.segments, a.count, blockIdx.x)];
    const unsigned first = (blockIdx.x - segment.first_block) * kSquareBlock;
    const unsigned count = min(kSquareBlock, segment.len - first);
    const float* x = a.x + segment.offset + first;
    float sum = 0.0f;
    if (count == kSquareBlock && takes_quads(x)) {
        for (unsigned i = 4 * threadIdx.x; i < kSquareBlock; i += 4 * kUpdateThreads) store_quad(staged + i, load_quad(x + i));
        __syncthreads();
        for (unsigned i = threadIdx.x; i < kSquareBlock; i += kUpdateThreads) sum += staged[i] * staged[i];
    } else {
        for (unsigned i = threadIdx.x; i < count; i += kUpdateThreads) sum += x[i] * x[i];
    }
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) a.partials[blockIdx.x] = sum;
}

// A block a tensor: a thread every 256th partial sum, in f64.
NAT_KERNEL_BOUNDED(square_merge_f32, kUpdateThreads, SumOfSquaresArgs a) {
    NAT_SHARED(double, shared, kUpdateThreads);
    const SquaresSegment segment = a.segments[blockIdx.x];
    const unsigned blocks = ceil_div(segment.len, kSquareBlock);
    const float* partials = a.partials + segment.first_block;
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < blocks; i += kUpdateThreads) sum += partials[i];
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) a.y[blockIdx.x] = static_cast<float>(sum);
}

constexpr float kLargestFloat = 3.402823466e38f;

struct ClipFactorParams {
    unsigned count;
    float limit, unscale;
};
NAT_LAYOUT(ClipFactorParams, count, limit, unscale);

struct ClipFactorArgs {
    const float* squares;
    float* out;  // norm, factor, and 1 where the norm is no finite number
    ClipFactorParams p;
};
NAT_LAYOUT(ClipFactorArgs, squares, out, p);

NAT_KERNEL_BOUNDED(clip_factor_f32, kUpdateThreads, ClipFactorArgs a) {
    NAT_SHARED(double, shared, kUpdateThreads);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < a.p.count; i += kUpdateThreads) sum += a.squares[i];
    sum = block_sum(shared, sum);
    if (threadIdx.x != 0) return;
    const float norm = a.p.unscale * sqrtf(static_cast<float>(sum));
    a.out[0] = norm;
    a.out[1] = a.p.unscale * nat_min(1.0f, a.p.limit / (norm + 1e-6f));
    a.out[2] = norm <= kLargestFloat ? 0.0f : 1.0f;  // 1 for NaN too
}

// A tensor that a step changes.
struct SgdSegment {
    unsigned offset, len, first_block;
    float decay;
};
NAT_LAYOUT(SgdSegment, offset, len, first_block, decay);

constexpr unsigned kSgdSegments = 240;

struct SgdArgs {
    const float* g;
    const float* clip;  // as clip_factor_f32 leaves it, or null
    float* velocity;
    float* w;
    float rate, momentum;
    unsigned nesterov, count;
    SgdSegment segments[kSgdSegments];
};
NAT_LAYOUT(SgdArgs, g, clip, velocity, w, rate, momentum, nesterov, count, segments);

// Whether a step is to be left out.
__device__ __forceinline__ bool skips(const float* clip) { return clip != nullptr && clip[2] != 0.0f; }

// One element; g is scaled by the clipping factor.
__device__ __forceinline__ void sgd_step(const SgdArgs& a, float decay, float factor, float g, float& velocity, float& w) {
    const float d = factor * g + decay * w;
    velocity = a.momentum * velocity + d;
    w = w - a.rate * (a.nesterov == 1 ? d + a.momentum * velocity : velocity);
}

NAT_KERNEL_BOUNDED(sgd_f32, kUpdateThreads, SgdArgs a) {
    if (skips(a.clip)) return;
    const SgdSegment segment = a.segments[segment_of(a.segments, a.count, blockIdx.x)];
    const unsigned first = 4 * ((blockIdx.x - segment.first_block) * kUpdateThreads + threadIdx.x);
    const float factor = a.clip != nullptr ? a.clip[1] : 1.0f, decay = segment.decay;
    const float* gradient = a.g + segment.offset;
    float* velocities = a.velocity + segment.offset;
    float* weights = a.w + segment.offset;
    if (first + 4 <= segment.len && takes_quads(gradient) && takes_quads(velocities) && takes_quads(weights)) {
        const Quad g = load_quad(gradient + first);
        Quad velocity = load_quad(velocities + first), w = load_quad(weights + first);
        sgd_step(a, decay, factor, g.x, velocity.x, w.x);
        sgd_step(a, decay, factor, g.y, velocity.y, w.y);
        sgd_step(a, decay, factor, g.z, velocity.z, w.z);
        sgd_step(a, decay, factor, g.w, velocity.w, w.w);
        store_quad(velocities + first, velocity);
        store_quad(weights + first, w);
    } else {
        for (unsigned i = first; i < min(first + 4, segment.len); ++i) {
            sgd_step(a, decay, factor, gradient[i], velocities[i], weights[i]);
        }
    }
}

struct AdamWSegment {
    unsigned offset, len, first_block;
    float decay, correction1, correction2;
};
NAT_LAYOUT(AdamWSegment, offset, len, first_block, decay, correction1, correction2);

constexpr unsigned kAdamWSegments = 160;

struct AdamWArgs {
    const float* g;
    const float* clip;  // as clip_factor_f32 leaves it, or null
    float* m;
    float* v;
    float* w;
    float rate, beta1, beta2, epsilon;
    unsigned count;
    AdamWSegment segments[kAdamWSegments];
};
NAT_LAYOUT(AdamWArgs, g, clip, m, v, w, rate, beta1, beta2, epsilon, count, segments);

// What an element's step needs of its tensor.
struct AdamWTensor {
    float factor, kept, correction1, correction2;
};

// One element; the gradient is scaled by the clipping factor.
__device__ __forceinline__ void adamw_step(const AdamWArgs& a, const AdamWTensor& t, float gradient, float& m, float& v,
                                           float& w) {
    const float g = t.factor * gradient;
    m = m + (1.0f - a.beta1) * (g - m);
    v = v + (1.0f - a.beta2) * (g * g - v);
    const float root = sqrtf(v / t.correction2) + a.epsilon;
    w = w * t.kept - a.rate * (m / t.correction1) / root;
}

NAT_KERNEL_BOUNDED(adamw_f32, kUpdateThreads, AdamWArgs a) {
    if (skips(a.clip)) return;
    const AdamWSegment& segment = a.segments[segment_of(a.segments, a.count, blockIdx.x)];
    const unsigned first = 4 * ((blockIdx.x - segment.first_block) * kUpdateThreads + threadIdx.x), len = segment.len;
    const AdamWTensor tensor = {a.clip != nullptr ? a.clip[1] : 1.0f, 1.0f - a.rate * segment.decay, segment.correction1,
                                segment.correction2};
    const float* gradient = a.g + segment.offset;
    float* means = a.m + segment.offset;
    float* squares = a.v + segment.offset;
    float* weights = a.w + segment.offset;
    const bool quads = takes_quads(gradient) && takes_quads(means) && takes_quads(squares) && takes_quads(weights);
    if (first + 4 <= len && quads) {
        const Quad g = load_quad(gradient + first);
        Quad m = load_quad(means + first), v = load_quad(squares + first), w = load_quad(weights + first);
        adamw_step(a, tensor, g.x, m.x, v.x, w.x);
        adamw_step(a, tensor, g.y, m.y, v.y, w.y);
        adamw_step(a, tensor, g.z, m.z, v.z, w.z);
        adamw_step(a, tensor, g.w, m.w, v.w, w.w);
        store_quad(means + first, m);
        store_quad(squares + first, v);
        store_quad(weights + first, w);
    } else {
        for (unsigned i = first; i < min(first + 4, len); ++i) {
            adamw_step(a, tensor, gradient[i], means[i], squares[i], weights[i]);
        }
    }
}
