// How good the logits of every image are: cross entropy, and whether the first largest is the label's.
//
//   out[i] = (log sum_j exp(logits[i, j]) - logits[i, label[i]], 1 if the answer is label[i] else 0)
//
// bytes: 4 images (classes + 3)   FLOPs: 4 images classes
//
// A warp an image: a lane takes every 32nd class, and lanes meet in a butterfly of shuffles, which adds in the
// same order every time. Exponentials are taken about the largest logit.
#include "nat_common.cuh"

struct ScoreParams {
    unsigned images, classes, stride;
    unsigned labelled;  // images: those behind them are the same again
};
NAT_LAYOUT(ScoreParams, images, classes, stride, labelled);

struct ScoreArgs {
    const float* logits;  // [images, stride]
    const float* labels;  // [labelled], class indices as floats
    float* out;           // [images, 2]
    ScoreParams p;
};
NAT_LAYOUT(ScoreArgs, logits, labels, out, p);

constexpr unsigned kScoreThreads = 128;  // four images
constexpr unsigned kAllLanes = 0xffffffffu;

NAT_KERNEL_BOUNDED(score_f32, kScoreThreads, ScoreArgs a) {
    const ScoreParams& p = a.p;
    const unsigned lane = threadIdx.x % 32;
    const unsigned image = blockIdx.x * (kScoreThreads / 32) + threadIdx.x / 32;
    if (image >= p.images) return;  // the whole warp
    const float* logits = a.logits + static_cast<size_t>(image) * p.stride;

    float largest = __uint_as_float(0xff800000u);  // minus infinity
    unsigned answer = p.classes;
    for (unsigned j = lane; j < p.classes; j += 32) {
        if (logits[j] > largest) {
            largest = logits[j];
            answer = j;
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, largest, step);
        const unsigned other_answer = __shfl_xor_sync(kAllLanes, answer, step);
        if (other > largest || (other == largest && other_answer < answer)) {
            largest = other;
            answer = other_answer;
        }
    }
    float sum = 0.0f;
    // A logit less itself is 0, and NaN where it is no finite number: the loss is NaN then, whatever the label is.
    for (unsigned j = lane; j < p.classes; j += 32) sum += expf(logits[j] - largest) + (logits[j] - logits[j]);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (lane != 0) return;
    const unsigned label = static_cast<unsigned>(a.labels[image % p.labelled]);
    // A label that is no class is right for nothing and makes the loss no number.
    const float own = label < p.classes ? logits[label] : __uint_as_float(0x7fc00000u);
    float* out = a.out + 2 * static_cast<size_t>(image);
    out[0] = largest + logf(sum) - own;
    out[1] = answer == label ? 1.0f : 0.0f;
}
