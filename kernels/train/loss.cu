// Losses and their gradients, and a teacher's probabilities.
//
//   kernel            computes                                                 bytes                        FLOPs
//   soft_targets_f32  softmax(sum over up to 5 exits of weight * logits)       4 images classes (exits + 1) images classes (2 exits + 4)
//   loss_f32          cross entropy with smoothed labels and a teacher's term, 4 images (2 classes + 3)     10 images classes
//                     correctness, and the gradient of the batch's mean        (3 classes with a teacher)
//
// With target = label_ratio ((1 - smoothing) [j = label] + smoothing / classes) + kd_ratio teacher and
// p = softmax(logits), loss = -weight sum target log p and dlogits = weight / images (p sum target - target).
// Elements behind the last class become zero.
//
// A warp an image: a lane takes every 32nd class, and lanes meet in a butterfly of shuffles, which adds in the
// same order every time. Exponentials are taken about the largest logit.
#include "nat_common.cuh"

constexpr unsigned kLossThreads = 128;  // four images
constexpr unsigned kWarp = 0xffffffffu;
constexpr unsigned kMinusInfinity = 0xff800000u;
constexpr int kExits = 5;

__device__ __forceinline__ float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kWarp, value, step);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) value = nat_max(value, __shfl_xor_sync(kWarp, value, step));
    return value;
}

struct SoftTargetsParams {
    unsigned images, classes, stride;
    float weights[kExits];
};
NAT_LAYOUT(SoftTargetsParams, images, classes, stride, weights);

struct SoftTargetsArgs {
    const float* a;  // logits [images, stride]; the others may be null
    const float* b;
    const float* c;
    const float* d;
    const float* e;
    float* probabilities;
    SoftTargetsParams p;
};
NAT_LAYOUT(SoftTargetsArgs, a, b, c, d, e, probabilities, p);

// The weighted sum of the exits' logits at an element.
__device__ __forceinline__ float weighted(const SoftTargetsArgs& a, size_t at) {
    float sum = a.p.weights[0] * a.a[at];
    if (a.b != nullptr) sum += a.p.weights[1] * a.b[at];
    if (a.c != nullptr) sum += a.p.weights[2] * a.c[at];
    if (a.d != nullptr) sum += a.p.weights[3] * a.d[at];
    if (a.e != nullptr) sum += a.p.weights[4] * a.e[at];
    return sum;
}

NAT_KERNEL_BOUNDED(soft_targets_f32, kLossThreads, SoftTargetsArgs a) {
    const SoftTargetsParams& p = a.p;
    const unsigned lane = threadIdx.x % 32;
    const size_t image = blockIdx.x * (kLossThreads / 32) + threadIdx.x / 32;
    if (image >= p.images) return;  // the whole warp
    const size_t row = image * p.stride;
    float largest = __uint_as_float(kMinusInfinity);
    for (unsigned j = lane; j < p.classes; j += 32) largest = nat_max(largest, weighted(a, row + j));
    largest = warp_max(largest);
    float sum = 0.0f;
    for (unsigned j = lane; j < p.classes; j += 32) sum += expf(weighted(a, row + j) - largest);
    const float log_sum = logf(warp_sum(sum));
    for (unsigned j = lane; j < p.stride; j += 32) {
        a.probabilities[row + j] = j < p.classes ? expf(weighted(a, row + j) - largest - log_sum) : 0.0f;
    }
}

struct LossParams {
    unsigned images, classes, stride;
    float smoothing, label_ratio, kd_ratio, weight;
};
NAT_LAYOUT(LossParams, images, classes, stride, smoothing, label_ratio, kd_ratio, weight);

struct LossArgs {
    const float* logits;   // [images, stride]
    const float* labels;   // class indices as floats
    const float* teacher;  // probabilities [images, stride], or null
    float* scores;         // [images, 2]
    float* dlogits;        // [images, stride]
    LossParams p;
};
NAT_LAYOUT(LossArgs, logits, labels, teacher, scores, dlogits, p);

NAT_KERNEL_BOUNDED(loss_f32, kLossThreads, LossArgs a) {
    const LossParams& p = a.p;
    const unsigned lane = threadIdx.x % 32;
    const size_t image = blockIdx.x * (kLossThreads / 32) + threadIdx.x / 32;
    if (image >= p.images) return;  // the whole warp
    const float* logits = a.logits + image * p.stride;
    const float* teacher = a.teacher != nullptr ? a.teacher + image * p.stride : nullptr;
    const unsigned label = static_cast<unsigned>(a.labels[image]);

    // The largest logit, and the first class that has it.
    float largest = __uint_as_float(kMinusInfinity);
    unsigned answer = p.classes;
    for (unsigned j = lane; j < p.classes; j += 32) {
        if (logits[j] > largest) {
            largest = logits[j];
            answer = j;
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(kWarp, largest, step);
        const unsigned other_answer = __shfl_xor_sync(kWarp, answer, step);
        if (other > largest || (other == largest && other_answer < answer)) {
            largest = other;
            answer = other_answer;
        }
    }
    float sum = 0.0f;
    for (unsigned j = lane; j < p.classes; j += 32) sum += expf(logits[j] - largest);
    const float log_sum = logf(warp_sum(sum));

    const float even = p.smoothing / static_cast<float>(p.classes);
    float total = 0.0f, entropy = 0.0f;
    for (unsigned j = lane; j < p.classes; j += 32) {
        float target = p.label_ratio * (even + (j == label ? 1.0f - p.smoothing : 0.0f));
        if (teacher != nullptr) target += p.kd_ratio * teacher[j];
        total += target;
        entropy -= target * (logits[j] - largest - log_sum);
    }
    total = warp_sum(total);
    entropy = warp_sum(entropy);

    const float share = p.weight / static_cast<float>(p.images);
    float* dlogits = a.dlogits + image * p.stride;
    for (unsigned j = lane; j < p.stride; j += 32) {
        if (j >= p.classes) {
            dlogits[j] = 0.0f;
            continue;
        }
        float target = p.label_ratio * (even + (j == label ? 1.0f - p.smoothing : 0.0f));
        if (teacher != nullptr) target += p.kd_ratio * teacher[j];
        dlogits[j] = share * (total * expf(logits[j] - largest - log_sum) - target);
    }
    if (lane != 0) return;
    a.scores[2 * image] = p.weight * entropy;
    a.scores[2 * image + 1] = answer == label ? 1.0f : 0.0f;
}
