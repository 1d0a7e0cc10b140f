// From stored pixels to a network's input: crop, mirror, normalise and resize in one step.
//
//   v[y, x, c] = (pixel[top + y, left + x, c] / scale - mean[c]) / std[c] = pixel factor[c] + offset[c]
//   out[i, oy, ox, c] = bilinear of v at ((oy + 1/2) height / side_out - 1/2, (ox + 1/2) width / side_out - 1/2)
//
// with half-pixel centres, no antialiasing, coordinates clamped at the edge of the window, black where the window
// reaches out of the image. A mirrored image has its columns in reverse. A stored pixel is one float, the number
// red + 256 green + 65536 blue, which is exact and 4 bytes.
//
// bytes: 4 images (side_in^2 + 3 side_out^2)   FLOPs: 36 images side_out^2
//
// A thread makes one output pixel from its four neighbours, which other threads share through the cache.
//
// Products and sums are rounded one by one and never fused, so the numbers are those of the host, to the bit.
#include "nat_common.cuh"

struct PreprocessParams {
    unsigned images, side_in, side_out, first;
    float scale, mean[3], std[3];
};
NAT_LAYOUT(PreprocessParams, images, side_in, side_out, first, scale, mean, std);

struct PreprocessArgs {
    const float* x;        // [stored images, side_in, side_in]
    const float* indices;  // which stored images, as floats, or null: first, first + 1, ...
    const float* windows;  // [images, 5]: left, top, width, height, whether mirrored; or null: the whole image
    float* y;              // [images, side_out, side_out, 3]
    PreprocessParams p;
    float factor[3], offset[3];
};
NAT_LAYOUT(PreprocessArgs, x, indices, windows, y, p, factor, offset);

constexpr unsigned kPreprocessThreads = 128;

// Output position is (1 - weight) * source[near] + weight * source[far].
struct Tap {
    int near, far;
    float weight;
};

__device__ __forceinline__ Tap tap_of(int position, int side_in, int side_out) {
    // (position + 1/2) side_in / side_out - 1/2 over the denominator 2 side_out, clamped from below.
    const int denominator = 2 * side_out;
    const int numerator = max((2 * position + 1) * side_in - side_out, 0);
    const int near = numerator / denominator;
    return {near, min(near + 1, side_in - 1), static_cast<float>(numerator % denominator) / static_cast<float>(denominator)};
}

__device__ __forceinline__ unsigned pixel_at(const float* x, int side, int row, int column) {
    const bool inside = row >= 0 && row < side && column >= 0 && column < side;
    return inside ? static_cast<unsigned>(x[row * side + column]) : 0u;
}

// (1 - weight) a + weight b, rounded at every step.
__device__ __forceinline__ float between(float a, float b, float weight) {
    return __fadd_rn(__fmul_rn(__fadd_rn(1.0f, -weight), a), __fmul_rn(weight, b));
}

NAT_KERNEL_BOUNDED(preprocess_f32, kPreprocessThreads, PreprocessArgs a) {
    const PreprocessParams& p = a.p;
    const unsigned pixels = p.side_out * p.side_out;
    const unsigned i = blockIdx.x * kPreprocessThreads + threadIdx.x;
    if (i >= p.images * pixels) return;
    const unsigned image = i / pixels, pixel = i % pixels;
    const size_t stored = a.indices != nullptr ? static_cast<unsigned>(a.indices[image]) : p.first + image;
    const int side = static_cast<int>(p.side_in), side_out = static_cast<int>(p.side_out);
    int left = 0, top = 0, width = side, height = side, column = static_cast<int>(pixel % p.side_out);
    if (a.windows != nullptr) {
        const float* window = a.windows + 5 * image;
        left = static_cast<int>(window[0]);
        top = static_cast<int>(window[1]);
        width = static_cast<int>(window[2]);
        height = static_cast<int>(window[3]);
        if (window[4] != 0.0f) column = side_out - 1 - column;
    }
    const Tap v = tap_of(static_cast<int>(pixel / p.side_out), height, side_out);
    const Tap h = tap_of(column, width, side_out);
    const float* x = a.x + stored * p.side_in * p.side_in;
    const unsigned corners[4] = {pixel_at(x, side, top + v.near, left + h.near),
                                 pixel_at(x, side, top + v.near, left + h.far),
                                 pixel_at(x, side, top + v.far, left + h.near),
                                 pixel_at(x, side, top + v.far, left + h.far)};
    float* y = a.y + 3 * static_cast<size_t>(i);
    NAT_UNROLL
    for (int c = 0; c < 3; ++c) {
        float value[4];
        NAT_UNROLL
        for (int j = 0; j < 4; ++j) {
            value[j] = __fadd_rn(__fmul_rn(static_cast<float>(corners[j] >> (8 * c) & 255u), a.factor[c]), a.offset[c]);
        }
        y[c] = between(between(value[0], value[1], h.weight), between(value[2], value[3], h.weight), v.weight);
    }
}
