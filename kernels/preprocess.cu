// From stored pixels to a network's input: normalise and resize in one step.
//
//   v[y, x, c] = (pixel[y, x, c] / scale - mean[c]) / std[c]
//   out[i, oy, ox, c] = bilinear of v at ((oy + 1/2) side_in / side_out - 1/2, (ox + 1/2) side_in / side_out - 1/2)
//
// with half-pixel centres, no antialiasing, coordinates clamped at the edge. A stored pixel is one float, the
// number red + 256 green + 65536 blue, which is exact and 4 bytes.
//
// bytes: 4 images (side_in^2 + 3 side_out^2)   FLOPs: 36 images side_out^2
//
// A thread makes one output pixel from its four neighbours, which other threads share through the cache.
#include "nat_common.cuh"

struct PreprocessParams {
    unsigned images, side_in, side_out, first;
    float scale, mean[3], std[3];
};
NAT_LAYOUT(PreprocessParams, images, side_in, side_out, first, scale, mean, std);

struct PreprocessArgs {
    const float* x;        // [stored images, side_in, side_in]
    const float* indices;  // which stored images, as floats, or null: first, first + 1, ...
    float* y;              // [images, side_out, side_out, 3]
    PreprocessParams p;
};
NAT_LAYOUT(PreprocessArgs, x, indices, y, p);

constexpr unsigned kPreprocessThreads = 128;

// Output position is (1 - weight) * source[near] + weight * source[far].
struct Tap {
    unsigned near, far;
    float weight;
};

__device__ __forceinline__ Tap tap_of(unsigned position, unsigned side_in, unsigned side_out) {
    // (position + 1/2) side_in / side_out - 1/2 over the denominator 2 side_out, clamped from below.
    const int denominator = 2 * static_cast<int>(side_out);
    const int numerator = max((2 * static_cast<int>(position) + 1) * static_cast<int>(side_in) - static_cast<int>(side_out), 0);
    const unsigned near = numerator / denominator;
    return {near, min(near + 1, side_in - 1), static_cast<float>(numerator % denominator) / static_cast<float>(denominator)};
}

NAT_KERNEL_BOUNDED(preprocess_f32, kPreprocessThreads, PreprocessArgs a) {
    const PreprocessParams& p = a.p;
    const unsigned pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPreprocessThreads + threadIdx.x;
    if (i >= p.images * pixels) return;
    const unsigned image = i / pixels, pixel = i % pixels;
    const size_t stored = a.indices != nullptr ? static_cast<unsigned>(a.indices[image]) : p.first + image;
    const Tap v = tap_of(pixel / p.side_out, p.side_in, p.side_out);
    const Tap h = tap_of(pixel % p.side_out, p.side_in, p.side_out);
    const float* x = a.x + stored * p.side_in * p.side_in;
    const unsigned corners[4] = {static_cast<unsigned>(x[v.near * p.side_in + h.near]),
                                 static_cast<unsigned>(x[v.near * p.side_in + h.far]),
                                 static_cast<unsigned>(x[v.far * p.side_in + h.near]),
                                 static_cast<unsigned>(x[v.far * p.side_in + h.far])};
    float* y = a.y + 3 * static_cast<size_t>(i);
    NAT_UNROLL
    for (int c = 0; c < 3; ++c) {
        const float factor = 1.0f / (p.scale * p.std[c]), offset = -p.mean[c] / p.std[c];
        float value[4];
        NAT_UNROLL
        for (int j = 0; j < 4; ++j) value[j] = static_cast<float>(corners[j] >> (8 * c) & 255u) * factor + offset;
        const float above = (1.0f - h.weight) * value[0] + h.weight * value[1];
        const float below = (1.0f - h.weight) * value[2] + h.weight * value[3];
        y[c] = (1.0f - v.weight) * above + v.weight * below;
    }
}
