// Checks of the kernels of the depthwise convolution's and the stem's gradients in every format, on small shapes
// with whole numbers: every array is exactly as large as it must be, so AddressSanitizer sees one element too far.
// Accuracy over many shapes is what tests/device/ops/operators.rs and tests/device/ops/formats.rs check.
//
// The structs mirror those of the kernels; a launch refuses arguments of another size than the kernel's.
#include "check.h"
#include "formats.h"

namespace {

using check::Format;
using check::Map;
using Floats = std::vector<float>;

unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

// Whole numbers, exact up to the rounding of the format.
void compare(const std::string& what, const Floats& found, const Floats& wanted, double rounding) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const bool near = std::fabs(found[i] - wanted[i]) <= rounding * std::fabs(wanted[i]);
        check::expect(near, "%s: element %zu is %g, not %g", what.c_str(), i, found[i], wanted[i]);
    }
}

struct DepthwiseParams {
    unsigned images, side_in, side_out, channels, weight_channels, kernel, stride, activation, format;
};

struct DepthwiseInputArgs {
    const void* dz;
    const float* w;
    const void* residual;
    void* dx;
    DepthwiseParams p;
};

struct DepthwiseWeightsArgs {
    const void *x, *dz;
    float *partials, *dw;
    DepthwiseParams p;
};

void depthwise_gradients(Format format, unsigned kernel, unsigned stride) {
    check::Numbers numbers(21 + kernel + stride);
    const unsigned images = 9, side = 5, out = ceil_div(side, stride), channels = 40, stored = 48, taps = kernel * kernel;
    const Floats x = numbers.floats(images * side * side * channels, -2, 2);
    const Floats dz = numbers.floats(images * out * out * channels, -2, 2);
    const Floats residual = numbers.floats(x.size()), w = numbers.floats(taps * stored, -1, 1);
    Floats wanted_dx = residual, wanted_dw(taps * stored, 1.0f);
    for (unsigned i = 0; i < dz.size(); ++i) {
        const unsigned c = i % channels, ox = i / channels % out, oy = i / channels / out % out;
        const unsigned image = i / channels / out / out;
        for (unsigned tap = 0; tap < taps; ++tap) {
            const unsigned iy = oy * stride + tap / kernel - kernel / 2, ix = ox * stride + tap % kernel - kernel / 2;
            if (iy >= side || ix >= side) continue;
            const unsigned at = ((image * side + iy) * side + ix) * channels + c;
            wanted_dx[at] += dz[i] * w[tap * stored + c];
            wanted_dw[tap * stored + c] += dz[i] * x[at];
        }
    }
    const DepthwiseParams p = {images, side, out, channels, stored, kernel, stride, 0, check::number(format)};
    const std::string shape = std::to_string(kernel) + "_" + std::to_string(stride);
    const Map x_map(format, x), dz_map(format, dz), residual_map(format, residual);
    Map dx(format, x.size());
    const unsigned items = images * side * ceil_div(side, 4) * (channels / check::chunk(format));
    check::launch(check::in_format("depthwise_input_" + shape, format).c_str(), {ceil_div(items, 128)}, {128}, 0,
                  DepthwiseInputArgs{dz_map.data(), w.data(), residual_map.data(), dx.data(), p});
    compare("depthwise_input_" + shape, dx.floats(), wanted_dx, check::rounding(format));

    const unsigned block_images = std::max(1u, std::min(128 / (out * out), images));
    const unsigned blocks = ceil_div(images, block_images) * ceil_div(channels, 32);
    Floats partials(blocks * taps * 32, NAN), dw(taps * stored, 1.0f);
    const DepthwiseWeightsArgs args = {x_map.data(), dz_map.data(), partials.data(), dw.data(), p};
    check::launch(check::in_format("depthwise_weights_" + shape, format).c_str(), {blocks}, {128}, 0, args);
    check::launch("depthwise_weights_merge", {ceil_div(taps * channels / 4, 16)}, {128}, 0, args);
    compare("depthwise_weights_" + shape, dw, wanted_dw, 0.0);
}

NAT_CHECK(depthwise_gradients) {
    for (const Format format : check::kFormats) {
        for (const unsigned kernel : {3u, 5u, 7u}) {
            for (const unsigned stride : {1u, 2u}) depthwise_gradients(format, kernel, stride);
        }
    }
}

struct StemWeightsArgs {
    const float* x;
    const void* dz;
    float *partials, *dw;
    unsigned images, side_in, side_out, cout, activation, format;
};

void stem_gradients(Format format) {
    check::Numbers numbers(31);
    const unsigned images = 2, side = 11, out = 6, cout = 40;
    const Floats x = numbers.floats(images * side * side * 3), dz = numbers.floats(images * out * out * cout);
    Floats wanted(27 * cout, 1.0f);
    for (unsigned i = 0; i < dz.size(); ++i) {
        const unsigned n = i % cout, ox = i / cout % out, oy = i / cout / out % out, image = i / cout / out / out;
        for (unsigned tap = 0; tap < 9; ++tap) {
            const unsigned iy = 2 * oy + tap / 3 - 1, ix = 2 * ox + tap % 3 - 1;
            if (iy >= side || ix >= side) continue;
            for (unsigned c = 0; c < 3; ++c) {
                wanted[(tap * 3 + c) * cout + n] += dz[i] * x[((image * side + iy) * side + ix) * 3 + c];
            }
        }
    }
    const Map dz_map(format, dz);
    const unsigned strips = images * ceil_div(out, 4);
    Floats partials(strips * 27 * cout, NAN), dw(27 * cout, 1.0f);
    const StemWeightsArgs args = {x.data(), dz_map.data(), partials.data(), dw.data(), images, side, out, cout, 0,
                                  check::number(format)};
    check::launch(check::in_format("stem_weights", format).c_str(), {strips}, {64}, 0, args);
    check::launch("stem_weights_merge", {ceil_div(27 * cout / 4, 16)}, {128}, 0, args);
    compare("stem_weights", dw, wanted, 0.0);
}

NAT_CHECK(stem_gradients) {
    for (const Format format : check::kFormats) stem_gradients(format);
}

}  // namespace
