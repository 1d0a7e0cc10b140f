// AutoAugment's operations on stored pixels, packed as in preprocess.cu; u8 in, u8 out, the bits of the host.
//
//   image = x[indices[i]];  image = operation 0 of it;  image = operation 1 of that;  y[i] = image
//
// bytes: 16 images side^2   FLOPs: none to speak of
//
// A block an image, which goes over its pixels once an operation and once more where an operation needs the image's
// histogram or mean. Between two operations the image lies in scratch, in the cache. Whatever maps a channel's value
// to another is a table in shared memory, an entry a thread.
//
// The host works out all that needs more than whole numbers, products and sums; see src/ops/augment. Products and
// sums are rounded one by one and never fused, histograms and sums of greys are whole numbers, so that neither the
// order of threads nor the compiler changes a bit.
#include "nat_common.cuh"

struct AugmentParams {
    unsigned images, side;
};
NAT_LAYOUT(AugmentParams, images, side);

struct AugmentArgs {
    const float* x;           // [stored images, side, side]
    const float* indices;     // [images]
    const float* operations;  // [images, 2, 13]
    float* scratch;           // [images, side, side]
    float* y;                 // [images, side, side]
    AugmentParams p;
};
NAT_LAYOUT(AugmentArgs, x, indices, operations, scratch, y, p);

constexpr unsigned kAugmentThreads = 256;
constexpr unsigned kOperationElements = 13;

// crate::ops::augment::encode.
enum Kind : unsigned {
    kNothing = 0,
    kMove = 1,
    kAutoContrast = 2,
    kEqualize = 3,
    kInvert = 4,
    kSolarize = 5,
    kPosterize = 6,
    kContrast = 7,
    kColor = 8,
    kBrightness = 9,
    kSharpness = 10,
};

// What the threads of a block share.
struct Shared {
    unsigned table[3 * 256];      // a channel's counts, then what its values become
    unsigned low[3], high[3], sum;  // smallest and largest value that occurs, sum of greys
    double scale[3];                // what stretches the range between them to 0..255
};

__device__ __forceinline__ unsigned load_pixel(const float* from, size_t at) { return static_cast<unsigned>(from[at]); }

__device__ __forceinline__ unsigned channel(unsigned pixel, unsigned c) { return pixel >> (8 * c) & 255u; }

// The Python Imaging Library's "L": ITU-R 601 luma in 16-bit fixed point.
__device__ __forceinline__ unsigned grey(unsigned pixel) {
    return (channel(pixel, 0) * 19595u + channel(pixel, 1) * 38470u + channel(pixel, 2) * 7471u + 0x8000u) >> 16;
}

// from + factor (to - from), cut to 0..255 and to whole numbers.
__device__ __forceinline__ unsigned blend(unsigned from, unsigned to, float factor) {
    const float start = static_cast<float>(from);
    const float value = __fadd_rn(start, __fmul_rn(factor, static_cast<float>(to) - start));
    return static_cast<unsigned>(fminf(fmaxf(value, 0.0f), 255.0f));
}

// Number i of an operation in 16.16 fixed point.
__device__ __forceinline__ long long fixed_point(const float* operation, unsigned i) {
    return static_cast<long long>(operation[1 + 2 * i]) * 65536 + static_cast<long long>(operation[2 + 2 * i]);
}

// Output (x, y) shows the input's pixel (c + a x + b y, f + d x + e y), or grey 128 where there is none.
__device__ __forceinline__ void move_pixels(const float* operation, const float* from, float* to, unsigned side) {
    const long long a = fixed_point(operation, 0), b = fixed_point(operation, 1), c = fixed_point(operation, 2);
    const long long d = fixed_point(operation, 3), e = fixed_point(operation, 4), f = fixed_point(operation, 5);
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) {
        const long long x = i % side, y = i / side;
        const long long from_x = (c + a * x + b * y) >> 16, from_y = (f + d * x + e * y) >> 16;
        const bool inside = from_x >= 0 && from_x < side && from_y >= 0 && from_y < side;
        to[i] = inside ? from[static_cast<size_t>(from_y) * side + static_cast<size_t>(from_x)]
                       : static_cast<float>(128u | 128u << 8 | 128u << 16);
    }
}

// Blends with the 3 x 3 mean with weight 5 in the middle (of 13), rounded; the border stays.
__device__ __forceinline__ void sharpen(float factor, const float* from, float* to, unsigned side) {
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) {
        const unsigned x = i % side, y = i / side, pixel = load_pixel(from, i);
        const bool border = x == 0 || y == 0 || x + 1 == side || y + 1 == side;
        unsigned sums[3] = {4 * channel(pixel, 0), 4 * channel(pixel, 1), 4 * channel(pixel, 2)};
        if (!border) {
            for (unsigned row = 0; row < 3; ++row) {
                for (unsigned column = 0; column < 3; ++column) {
                    const unsigned near = load_pixel(from, static_cast<size_t>(y + row - 1) * side + (x + column - 1));
                    NAT_UNROLL
                    for (unsigned c = 0; c < 3; ++c) sums[c] += channel(near, c);
                }
            }
        }
        unsigned packed = 0;
        NAT_UNROLL
        for (unsigned c = 0; c < 3; ++c) {
            const unsigned here = channel(pixel, c), smooth = border ? here : (2 * sums[c] + 13) / 26;
            packed |= blend(smooth, here, factor) << (8 * c);
        }
        to[i] = static_cast<float>(packed);
    }
}

// Blends each pixel with its grey.
__device__ __forceinline__ void colour(float factor, const float* from, float* to, unsigned side) {
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) {
        const unsigned pixel = load_pixel(from, i), base = grey(pixel);
        unsigned packed = 0;
        NAT_UNROLL
        for (unsigned c = 0; c < 3; ++c) packed |= blend(base, channel(pixel, c), factor) << (8 * c);
        to[i] = static_cast<float>(packed);
    }
}

// Counts of each channel's values, and the smallest and largest that occur. Every thread of the block calls it.
__device__ __forceinline__ void histogram(Shared* shared, const float* from, unsigned side) {
    for (unsigned c = 0; c < 3; ++c) shared->table[c * 256 + threadIdx.x] = 0;
    if (threadIdx.x < 3) {
        shared->low[threadIdx.x] = 255;
        shared->high[threadIdx.x] = 0;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) {
        const unsigned pixel = load_pixel(from, i);
        for (unsigned c = 0; c < 3; ++c) atomicAdd(&shared->table[c * 256 + channel(pixel, c)], 1u);
    }
    __syncthreads();
    for (unsigned c = 0; c < 3; ++c) {
        if (shared->table[c * 256 + threadIdx.x] == 0) continue;
        atomicMin(&shared->low[c], threadIdx.x);
        atomicMax(&shared->high[c], threadIdx.x);
    }
    __syncthreads();
}

// Counts to tables that make the histogram even. Every thread of the block calls it.
__device__ __forceinline__ void equalize(Shared* shared, unsigned pixels) {
    const unsigned value = threadIdx.x;
    for (unsigned c = 0; c < 3; ++c) {
        unsigned* counts = shared->table + c * 256;
        const unsigned own = counts[value], step = (pixels - counts[shared->high[c]]) / 255;
        // Sums up to each value, in doubling steps.
        for (unsigned reach = 1; reach < 256; reach *= 2) {
            __syncthreads();
            const unsigned before = value >= reach ? counts[value - reach] : 0;
            __syncthreads();
            counts[value] += before;
        }
        const unsigned sum = step / 2 + counts[value] - own;
        __syncthreads();
        counts[value] = step == 0 ? value : min(sum / step, 255u);
    }
}

// The value that stretches a channel's range to 0..255, in f64 as the host has it.
__device__ __forceinline__ unsigned stretched(unsigned value, unsigned low, double scale) {
    const double moved = __dadd_rn(__dmul_rn(static_cast<double>(value), scale), -__dmul_rn(static_cast<double>(low), scale));
    return static_cast<unsigned>(fmin(fmax(moved, 0.0), 255.0));
}

// The mean grey of the image, rounded. Every thread of the block calls it.
__device__ __forceinline__ unsigned mean_grey(Shared* shared, const float* from, unsigned side) {
    if (threadIdx.x == 0) shared->sum = 0;
    __syncthreads();
    unsigned sum = 0;
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) sum += grey(load_pixel(from, i));
    atomicAdd(&shared->sum, sum);
    __syncthreads();
    // The host divides in f64; the quotient plus a half is never within rounding of a whole number that it is not.
    return (2 * shared->sum + side * side) / (2 * side * side);
}

// One operation of the block's image. Every thread of the block calls it, with the same operation.
__device__ __forceinline__ void apply(Shared* shared, const float* operation, const float* from, float* to, unsigned side) {
    const unsigned kind = static_cast<unsigned>(operation[0]), value = threadIdx.x;
    const float number = operation[1];
    if (kind == kMove) return move_pixels(operation, from, to, side);
    if (kind == kSharpness) return sharpen(number, from, to, side);
    if (kind == kColor) return colour(number, from, to, side);
    // The others are tables: each thread makes the entry of its value in each channel's.
    unsigned entry = value;
    if (kind == kAutoContrast || kind == kEqualize) {
        histogram(shared, from, side);
        if (kind == kEqualize) equalize(shared, side * side);
        if (kind == kAutoContrast) {
            // One division a channel; 0 where there is nothing to stretch.
            if (value < 3) {
                const int range = static_cast<int>(shared->high[value]) - static_cast<int>(shared->low[value]);
                shared->scale[value] = range > 0 ? 255.0 / static_cast<double>(range) : 0.0;
            }
            __syncthreads();
            for (unsigned c = 0; c < 3; ++c) {
                const double scale = shared->scale[c];
                shared->table[c * 256 + value] = scale > 0.0 ? stretched(value, shared->low[c], scale) : value;
            }
        }
    } else {
        if (kind == kInvert) entry = 255 - value;
        if (kind == kSolarize) entry = value < static_cast<unsigned>(number) ? value : 255 - value;
        if (kind == kPosterize) entry = value & static_cast<unsigned>(number);
        if (kind == kBrightness) entry = blend(0, value, number);
        if (kind == kContrast) entry = blend(mean_grey(shared, from, side), value, number);
        for (unsigned c = 0; c < 3; ++c) shared->table[c * 256 + value] = entry;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < side * side; i += kAugmentThreads) {
        const unsigned pixel = load_pixel(from, i);
        unsigned packed = 0;
        NAT_UNROLL
        for (unsigned c = 0; c < 3; ++c) packed |= shared->table[c * 256 + channel(pixel, c)] << (8 * c);
        to[i] = static_cast<float>(packed);
    }
}

NAT_KERNEL_BOUNDED(augment_u8, kAugmentThreads, AugmentArgs a) {
    NAT_SHARED(Shared, shared, 1);
    const unsigned image = blockIdx.x, side = a.p.side;
    if (image >= a.p.images) return;
    const size_t pixels = static_cast<size_t>(side) * side;
    const float* x = a.x + static_cast<unsigned>(a.indices[image]) * pixels;
    float* between = a.scratch + image * pixels;
    float* y = a.y + image * pixels;
    const float* operations = a.operations + 2 * kOperationElements * image;
    const bool first = operations[0] != 0.0f, second = operations[kOperationElements] != 0.0f;
    if (first) {
        apply(shared, operations, x, second ? between : y, side);
        __syncthreads();
    }
    // An image without operations is copied by way of tables that change nothing.
    if (second || !first) apply(shared, operations + kOperationElements, first ? between : x, y, side);
}
