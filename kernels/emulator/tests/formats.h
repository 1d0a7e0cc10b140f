// Maps in f32, f16 and bf16 for checks: numbers as a kernel reads and writes them, in exactly as many bytes.
#pragma once

#include "../half.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace check {

// What a map is stored as; crate::ops::halves numbers them so.
enum class Format : unsigned { kF32, kF16, kBf16 };

// Formats of one size are instances of one source that differ in numbers alone: ThreadSanitizer, which takes
// almost a megabyte for each thread of a kernel, looks at the first.
#if defined(NAT_EMULATOR_TSAN)
constexpr Format kFormats[] = {Format::kF32, Format::kF16};
constexpr Format kHalfFormats[] = {Format::kF16};
#else
constexpr Format kFormats[] = {Format::kF32, Format::kF16, Format::kBf16};
constexpr Format kHalfFormats[] = {Format::kF16, Format::kBf16};
#endif

inline unsigned number(Format format) { return static_cast<unsigned>(format); }

// The kernel of a format.
inline std::string in_format(const std::string& kernel, Format format) {
    const char* suffixes[] = {"_f32", "_f16", "_bf16"};
    return kernel + suffixes[number(format)];
}

// Numbers of 16 bytes.
inline unsigned chunk(Format format) { return format == Format::kF32 ? 4 : 8; }

// How far a number of size 1 may be off once it has been rounded.
inline double rounding(Format format) { return format == Format::kF32 ? 0.0 : format == Format::kF16 ? 0x1p-11 : 0x1p-8; }

inline uint16_t half_bits(Format format, float value) {
    return format == Format::kBf16 ? nat_emulator::float_to_bfloat16_bits(value) : nat_emulator::float_to_half_bits(value);
}

inline float half_value(Format format, uint16_t bits) {
    return format == Format::kBf16 ? nat_emulator::bfloat16_bits_to_float(bits) : nat_emulator::half_bits_to_float(bits);
}

// Whether bits are those of one 16-bit number: 0 and -0 are.
inline bool same_number(uint16_t a, uint16_t b) { return a == b || ((a | b) & 0x7fffu) == 0; }

// The bits of numbers in a 16-bit format.
inline std::vector<uint16_t> pack(Format format, const std::vector<float>& values) {
    std::vector<uint16_t> bits;
    for (const float value : values) bits.push_back(half_bits(format, value));
    return bits;
}

class Map {
public:
    // Of numbers, rounded.
    Map(Format format, const std::vector<float>& values) : format_(format), bytes_(values.size() * bytes_each()) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            if (format_ == Format::kF32) {
                std::memcpy(bytes_.data() + 4 * i, &values[i], 4);
            } else {
                const uint16_t bits = half_bits(format_, values[i]);
                std::memcpy(bytes_.data() + 2 * i, &bits, 2);
            }
        }
    }

    // Of so many NaN, to be written.
    Map(Format format, std::size_t count) : Map(format, std::vector<float>(count, NAN)) {}

    void* data() { return bytes_.data(); }
    const void* data() const { return bytes_.data(); }

    std::vector<float> floats() const {
        std::vector<float> values(bytes_.size() / bytes_each());
        for (std::size_t i = 0; i < values.size(); ++i) {
            if (format_ == Format::kF32) {
                std::memcpy(&values[i], bytes_.data() + 4 * i, 4);
            } else {
                uint16_t bits;
                std::memcpy(&bits, bytes_.data() + 2 * i, 2);
                values[i] = half_value(format_, bits);
            }
        }
        return values;
    }

private:
    std::size_t bytes_each() const { return format_ == Format::kF32 ? 4 : 2; }

    Format format_;
    std::vector<unsigned char> bytes_;
};

}  // namespace check
