// What changes weights: filling, gradient norms and clipping, SGD, AdamW. Tensors of any length.
//
//   kernel                computes                                              bytes    FLOPs
//   update_fill_f32       y = value                                             4 n      0
//   square_partials_f32   sums of squares of blocks of 4096 elements            4 n      2 n
//   square_merge_f32      their sum                                             n / 1024 n / 4096
//   clip_factor_f32       norm = sqrt(sum), factor = min(1, limit / (norm + 1e-6))   4 n  n
//   sgd_f32               d = factor g + decay w, v = momentum v + d,           20 n     8 n
//                         w -= rate (v, or d + momentum v with Nesterov's)
//   adamw_f32             w *= 1 - rate decay, m and v moving averages of g and g^2,
//                         w -= rate (m / correction1) / (sqrt(v / correction2) + epsilon)    28 n  15 n
//
// Element-wise kernels take an element a thread: tensors start anywhere in a buffer and have any length. Sums have
// a shape that is a function of the length alone and are added in order.
#include "nat_common.cuh"

constexpr unsigned kUpdateThreads = 256;

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
    const unsigned i = blockIdx.x * kUpdateThreads + threadIdx.x;
    if (i < a.p.len) a.y[i] = a.p.value;
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

// A block of threads a block of elements.
NAT_KERNEL_BOUNDED(square_partials_f32, kUpdateThreads, SumOfSquaresArgs a) {
    NAT_SHARED(float, shared, kUpdateThreads);
    const unsigned first = blockIdx.x * kSquareBlock;
    const unsigned end = first + min(kSquareBlock, a.p.len - first);
    float sum = 0.0f;
    for (unsigned i = first + threadIdx.x; i < end; i += kUpdateThreads) sum += a.x[i] * a.x[i];
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
    float limit;
};
NAT_LAYOUT(ClipFactorParams, count, limit);

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
    const float norm = sqrtf(static_cast<float>(sum));
    a.out[0] = norm;
    a.out[1] = fminf(1.0f, a.p.limit / (norm + 1e-6f));
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

NAT_KERNEL_BOUNDED(sgd_f32, kUpdateThreads, SgdArgs a) {
    const SgdParams& p = a.p;
    const unsigned i = blockIdx.x * kUpdateThreads + threadIdx.x;
    if (i >= p.len) return;
    const float factor = a.clip != nullptr ? a.clip[1] : 1.0f, w = a.w[i];
    const float d = factor * a.g[i] + p.decay * w;
    const float velocity = p.momentum * a.velocity[i] + d;
    a.velocity[i] = velocity;
    a.w[i] = w - p.rate * (p.nesterov == 1 ? d + p.momentum * velocity : velocity);
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

NAT_KERNEL_BOUNDED(adamw_f32, kUpdateThreads, AdamWArgs a) {
    const AdamWParams& p = a.p;
    const unsigned i = blockIdx.x * kUpdateThreads + threadIdx.x;
    if (i >= p.len) return;
    const float g = (a.clip != nullptr ? a.clip[1] : 1.0f) * a.g[i];
    const float m = a.m[i] + (1.0f - p.beta1) * (g - a.m[i]);
    const float v = a.v[i] + (1.0f - p.beta2) * (g * g - a.v[i]);
    a.m[i] = m;
    a.v[i] = v;
    const float root = sqrtf(v / p.correction2) + p.epsilon;
    a.w[i] = a.w[i] * (1.0f - p.rate * p.decay) - p.rate * (m / p.correction1) / root;
}
