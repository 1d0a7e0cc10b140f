// What changes weights: filling, gradient norms and clipping, SGD, AdamW. Tensors of any length.
//
//   kernel                computes                                              bytes    FLOPs
//   update_fill_f32       y = value                                             4 n      0
//   square_partials_f32   sums of squares of blocks of 4096 elements            4 n      2 n
//   square_merge_f32      their sum                                             n / 1024 n / 4096
//   clip_factor_f32       norm = u sqrt(sum), factor = u min(1, limit / (norm + 1e-6))   4 n  n
//                         with u = 1 / scale of the gradient
//   sgd_f32               d = factor g + decay w, v = momentum v + d,           20 n     8 n
//                         w -= rate (v, or d + momentum v with Nesterov's)
//   adamw_f32             w *= 1 - rate decay, m and v moving averages of g and g^2,
//                         w -= rate (m / correction1) / (sqrt(v / correction2) + epsilon)    28 n  15 n
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

struct SumOfSquaresParams {
    unsigned len;
};
NAT_LAYOUT(SumOfSquaresParams, len);

struct SumOfSquaresArgs {
    const float* x;
    float* partials;
    float* y;
    SumOfSquaresParams p;
};
NAT_LAYOUT(SumOfSquaresArgs, x, partials, y, p);

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
    const unsigned first = blockIdx.x * kSquareBlock;
    const unsigned count = min(kSquareBlock, a.p.len - first);
    const float* x = a.x + first;
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

// One block: a thread every 256th partial sum, in f64.
NAT_KERNEL_BOUNDED(square_merge_f32, kUpdateThreads, SumOfSquaresArgs a) {
    NAT_SHARED(double, shared, kUpdateThreads);
    const unsigned blocks = ceil_div(a.p.len, kSquareBlock);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < blocks; i += kUpdateThreads) sum += a.partials[i];
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) a.y[0] = static_cast<float>(sum);
}

struct ClipFactorParams {
    unsigned count;
    float limit, unscale;
};
NAT_LAYOUT(ClipFactorParams, count, limit, unscale);

struct ClipFactorArgs {
    const float* squares;
    float* out;
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
    a.out[1] = a.p.unscale * fminf(1.0f, a.p.limit / (norm + 1e-6f));
}

struct SgdParams {
    unsigned len;
    float rate, momentum, decay;
    unsigned nesterov;
};
NAT_LAYOUT(SgdParams, len, rate, momentum, decay, nesterov);

struct SgdArgs {
    const float* g;
    const float* clip;  // norm and factor, or null
    float* velocity;
    float* w;
    SgdParams p;
};
NAT_LAYOUT(SgdArgs, g, clip, velocity, w, p);

// One element; g is scaled by the clipping factor.
__device__ __forceinline__ void sgd_step(const SgdParams& p, float factor, float g, float& velocity, float& w) {
    const float d = factor * g + p.decay * w;
    velocity = p.momentum * velocity + d;
    w = w - p.rate * (p.nesterov == 1 ? d + p.momentum * velocity : velocity);
}

NAT_KERNEL_BOUNDED(sgd_f32, kUpdateThreads, SgdArgs a) {
    const SgdParams& p = a.p;
    const unsigned first = first_of_four();
    const float factor = a.clip != nullptr ? a.clip[1] : 1.0f;
    if (first + 4 <= p.len && takes_quads(a.g) && takes_quads(a.velocity) && takes_quads(a.w)) {
        const Quad g = load_quad(a.g + first);
        Quad velocity = load_quad(a.velocity + first), w = load_quad(a.w + first);
        sgd_step(p, factor, g.x, velocity.x, w.x);
        sgd_step(p, factor, g.y, velocity.y, w.y);
        sgd_step(p, factor, g.z, velocity.z, w.z);
        sgd_step(p, factor, g.w, velocity.w, w.w);
        store_quad(a.velocity + first, velocity);
        store_quad(a.w + first, w);
    } else {
        for (unsigned i = first; i < min(first + 4, p.len); ++i) sgd_step(p, factor, a.g[i], a.velocity[i], a.w[i]);
    }
}

struct AdamWParams {
    unsigned len;
    float rate, beta1, beta2, epsilon, decay, correction1, correction2;
};
NAT_LAYOUT(AdamWParams, len, rate, beta1, beta2, epsilon, decay, correction1, correction2);

struct AdamWArgs {
    const float* g;
    const float* clip;  // norm and factor, or null
    float* m;
    float* v;
    float* w;
    AdamWParams p;
};
NAT_LAYOUT(AdamWArgs, g, clip, m, v, w, p);

// One element; the gradient is scaled by the clipping factor.
__device__ __forceinline__ void adamw_step(const AdamWParams& p, float factor, float gradient, float& m, float& v, float& w) {
    const float g = factor * gradient;
    m = m + (1.0f - p.beta1) * (g - m);
    v = v + (1.0f - p.beta2) * (g * g - v);
    const float root = sqrtf(v / p.correction2) + p.epsilon;
    w = w * (1.0f - p.rate * p.decay) - p.rate * (m / p.correction1) / root;
}

NAT_KERNEL_BOUNDED(adamw_f32, kUpdateThreads, AdamWArgs a) {
    const AdamWParams& p = a.p;
    const unsigned first = first_of_four();
    const float factor = a.clip != nullptr ? a.clip[1] : 1.0f;
    if (first + 4 <= p.len && takes_quads(a.g) && takes_quads(a.m) && takes_quads(a.v) && takes_quads(a.w)) {
        const Quad g = load_quad(a.g + first);
        Quad m = load_quad(a.m + first), v = load_quad(a.v + first), w = load_quad(a.w + first);
        adamw_step(p, factor, g.x, m.x, v.x, w.x);
        adamw_step(p, factor, g.y, m.y, v.y, w.y);
        adamw_step(p, factor, g.z, m.z, v.z, w.z);
        adamw_step(p, factor, g.w, m.w, v.w, w.w);
        store_quad(a.m + first, m);
        store_quad(a.v + first, v);
        store_quad(a.w + first, w);
    } else {
        for (unsigned i = first; i < min(first + 4, p.len); ++i) adamw_step(p, factor, a.g[i], a.m[i], a.v[i], a.w[i]);
    }
}
