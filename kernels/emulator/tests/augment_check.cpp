// Checks of ../../input/augment.cu: every kind of operation, alone and in pairs, against plain loops. The struct mirrors
// its args struct.
#include "../sanitizer.h"
#include "check.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

using Pixels = std::vector<unsigned>;

struct AugmentArgs {
    const float *x, *indices, *operations;
    float *scratch, *y;
    unsigned images, side;
};

constexpr unsigned kSide = 17, kStored = 3, kElements = 13;

unsigned part(unsigned pixel, unsigned c) { return pixel >> (8 * c) & 255u; }

unsigned cut(double value) { return static_cast<unsigned>(std::fmin(std::fmax(value, 0.0), 255.0)); }

unsigned grey(unsigned pixel) {
    return (part(pixel, 0) * 19595 + part(pixel, 1) * 38470 + part(pixel, 2) * 7471 + 0x8000) >> 16;
}

// The sum of the 3 x 3 pixels around, the middle one five times, over 13; the pixel itself at the border.
unsigned smooth(const Pixels& image, unsigned i, unsigned c) {
    const unsigned x = i % kSide, y = i / kSide;
    if (x == 0 || y == 0 || x + 1 == kSide || y + 1 == kSide) return part(image[i], c);
    unsigned sum = 4 * part(image[i], c);
    for (unsigned row = y - 1; row <= y + 1; ++row) {
        for (unsigned column = x - 1; column <= x + 1; ++column) sum += part(image[row * kSide + column], c);
    }
    return static_cast<unsigned>(std::lround(sum / 13.0));
}

// An operation with factors that are multiples of 1/4, so that nothing here is rounded.
Pixels applied(unsigned kind, double number, const Pixels& image) {
    Pixels out(image.size());
    double greys = 0;
    for (const unsigned pixel : image) greys += grey(pixel);
    const unsigned mean = static_cast<unsigned>(greys / image.size() + 0.5);
    for (unsigned i = 0; i < image.size(); ++i) {
        // Two columns to the left and one row down: what comes from outside is 128.
        const unsigned x = i % kSide + 2, y = i / kSide - 1;
        const bool inside = x < kSide && y < kSide;
        for (unsigned c = 0; c < 3; ++c) {
            const unsigned v = part(image[i], c);
            unsigned low = 255, high = 0, below = 0, last = 0, w = v;
            for (const unsigned pixel : image) low = std::min(low, part(pixel, c)), high = std::max(high, part(pixel, c));
            for (const unsigned pixel : image) below += part(pixel, c) < v, last += part(pixel, c) == high;
            const unsigned step = (kSide * kSide - last) / 255;
            const auto blend = [&](unsigned from) { return cut(from + number * (double(v) - from)); };
            if (kind == 1) w = inside ? part(image[y * kSide + x], c) : 128;
            if (kind == 2 && high > low) w = cut(v * (255.0 / (high - low)) + -(low * (255.0 / (high - low))));
            if (kind == 3 && step > 0) w = std::min((step / 2 + below) / step, 255u);
            if (kind == 4) w = 255 - v;
            if (kind == 5) w = v < number ? v : 255 - v;
            if (kind == 6) w = v & static_cast<unsigned>(number);
            if (kind == 7) w = blend(mean);
            if (kind == 8) w = blend(grey(image[i]));
            if (kind == 9) w = blend(0);
            if (kind == 10) w = blend(smooth(image, i, c));
            out[i] |= w << (8 * c);
        }
    }
    return out;
}

}  // namespace

NAT_CHECK(augment) {
    check::Numbers numbers(11);
    std::vector<float> x = numbers.floats(kStored * kSide * kSide, 0, (1 << 24) - 1);
    for (float& pixel : x) pixel = std::floor(pixel);
    // A dark image, a channel of one value.
    for (unsigned i = 0; i < kSide * kSide; ++i) x[i] = static_cast<float>(static_cast<unsigned>(x[i]) & 0x3f3fu);
    const double parameters[11] = {0, 0, 0, 0, 0, 113, 0xf0, 1.5, 0.25, 1.75, 1.5};
    std::vector<float> indices, operations;
    std::vector<Pixels> wanted;
    for (unsigned first = 0; first <= 10; ++first) {
        for (unsigned second = 0; second <= 10; ++second) {
            // Each kind once in either place.
            if (nat_emulator::kThreadSanitizer && second != (first + 3) % 11) continue;
            const unsigned stored = (first + second) % kStored;
            indices.push_back(static_cast<float>(stored));
            Pixels image;
            for (unsigned i = 0; i < kSide * kSide; ++i) image.push_back(static_cast<unsigned>(x[stored * kSide * kSide + i]));
            for (const unsigned kind : {first, second}) {
                std::vector<float> elements(kElements, 0.0f);
                elements[0] = static_cast<float>(kind);
                elements[1] = static_cast<float>(parameters[kind]);
                if (kind == 1) {
                    // x + 2 and y - 1, each half a pixel on.
                    const float map[12] = {1, 0, 0, 0, 2, 0x8000, 0, 0, 1, 0, -1, 0x8000};
                    std::copy(map, map + 12, elements.begin() + 1);
                }
                operations.insert(operations.end(), elements.begin(), elements.end());
                image = applied(kind, parameters[kind], image);
            }
            wanted.push_back(image);
        }
    }
    const unsigned images = static_cast<unsigned>(wanted.size());
    std::vector<float> scratch(images * kSide * kSide, NAN), y(images * kSide * kSide, NAN);
    const AugmentArgs args = {x.data(), indices.data(), operations.data(), scratch.data(), y.data(), images, kSide};
    check::launch("augment_u8", {images}, {256}, 0, args);
    for (unsigned image = 0; image < images; ++image) {
        for (unsigned i = 0; i < kSide * kSide; ++i) {
            const float found = y[image * kSide * kSide + i];
            check::expect(found == static_cast<float>(wanted[image][i]), "image %u, pixel %u: %06x, not %06x", image, i,
                          static_cast<unsigned>(found), wanted[image][i]);
        }
    }
}
