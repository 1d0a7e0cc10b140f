// __half and __nv_bfloat16 against their definitions: all 65,536 values one way, and the other way
// every value, every midpoint between neighbours, and the floats on both sides of each.
#include "../half.h"
#include "check.h"

using check::expect;
using nat_emulator::bit_cast;

namespace {

struct Format {
    const char* name;
    int exponent_bits, mantissa_bits;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);

    int bias() const { return (1 << (exponent_bits - 1)) - 1; }
    uint16_t infinity() const { return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits); }

    // The value of finite, non-negative bits, by definition. Also of the infinity, taken as the
    // next power of two: that is where rounding goes.
    double value(uint16_t bits) const {
        const int exponent = bits >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
        if (exponent == 0) return std::ldexp(mantissa, 1 - bias() - mantissa_bits);
        return std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias() - mantissa_bits);
    }
};

const Format kHalf = {"half", 5, 10, nat_emulator::half_bits_to_float, nat_emulator::float_to_half_bits};
const Format kBfloat16 = {"bfloat16", 8, 7, nat_emulator::bfloat16_bits_to_float,
                          nat_emulator::float_to_bfloat16_bits};

void check_format(const Format& format) {
    for (unsigned bits = 0; bits < 0x8000; ++bits) {
        const uint16_t positive = static_cast<uint16_t>(bits), negative = static_cast<uint16_t>(bits | 0x8000);
        const float up = format.widen(positive), down = format.widen(negative);
        if (bits > format.infinity()) {
            expect(std::isnan(up) && std::isnan(down), "%s %04x is not NaN", format.name, bits);
            expect(format.narrow(up) == 0x7fff, "%s: NaN becomes %04x", format.name, format.narrow(up));
            continue;
        }
        const float wanted = bits == format.infinity() ? INFINITY : static_cast<float>(format.value(positive));
        expect(up == wanted && down == -wanted && std::signbit(down), "%s %04x is %g", format.name, bits, up);
        expect(format.narrow(up) == positive && format.narrow(down) == negative, "%s %04x does not come back",
               format.name, bits);
        if (bits == format.infinity()) continue;

        // Between these bits and the next: the midpoint goes to the even one.
        const double middle = (format.value(positive) + format.value(static_cast<uint16_t>(bits + 1))) / 2;
        const float tie = static_cast<float>(middle);
        if (tie != middle || !std::isfinite(tie)) continue;  // half a subnormal bfloat16: no float lies there
        const uint16_t even = static_cast<uint16_t>(bits + (bits & 1));
        expect(format.narrow(tie) == even, "%s: the tie above %04x goes to %04x", format.name, bits, format.narrow(tie));
        expect(format.narrow(-tie) == (even | 0x8000), "%s: the tie below -%04x", format.name, bits);
        const float below = std::nextafter(tie, 0.0f), above = std::nextafter(tie, INFINITY);
        expect(format.narrow(below) == positive, "%s: just below the tie above %04x: %04x", format.name, bits,
               format.narrow(below));
        expect(format.narrow(above) == bits + 1, "%s: just above the tie above %04x: %04x", format.name, bits,
               format.narrow(above));
    }
    expect(format.narrow(3.4e38f) == format.infinity(), "%s: a large float becomes %04x", format.name,
           format.narrow(3.4e38f));
    expect(format.narrow(bit_cast<float>(0x7f800001u)) == 0x7fff, "%s: a signalling NaN", format.name);
}

}  // namespace

NAT_CHECK(half_conversions) { check_format(kHalf); }
NAT_CHECK(bfloat16_conversions) { check_format(kBfloat16); }
