// Checks of ../../forward/elementwise.cu. The structs mirror its params structs.
#include "check.h"

namespace {

struct FillParams {
    float4* y;
    unsigned quads;
    float value;
};

struct SumArgs {
    const float4* x[4];
    float4* y;
    unsigned len, terms, format, quads;
};

}  // namespace

NAT_CHECK(fill) {
    for (unsigned quads : {1u, 255u, 256u, 300u}) {
        std::vector<float4> y(quads, float4{NAN, NAN, NAN, NAN});
        check::launch("fill_f32", {(quads + 255) / 256}, {256}, 0, FillParams{y.data(), quads, 2.5f});
        for (const float4& v : y) check::expect(v.x == 2.5f && v.y == 2.5f && v.z == 2.5f && v.w == 2.5f, "%g", v.x);
    }
}

NAT_CHECK(sum) {
    for (unsigned quads : {1u, 257u}) {
        std::vector<float4> in[4], y(quads);
        check::Numbers numbers(6);
        for (auto& values : in) {
            const std::vector<float> floats = numbers.floats(4 * quads);
            values.resize(quads);
            std::memcpy(values.data(), floats.data(), floats.size() * sizeof(float));
        }
        for (int count = 2; count <= 4; ++count) {
            const SumArgs args = {{in[0].data(), in[1].data(), count > 2 ? in[2].data() : nullptr,
                                   count > 3 ? in[3].data() : nullptr},
                                  y.data(), 4 * quads, static_cast<unsigned>(count), 0, quads};
            check::launch("sum_f32", {(quads + 255) / 256}, {256}, 0, args);
            for (unsigned i = 0; i < quads; ++i) {
                float4 wanted = {};
                for (int k = 0; k < count; ++k) {
                    wanted.x += in[k][i].x, wanted.y += in[k][i].y, wanted.z += in[k][i].z, wanted.w += in[k][i].w;
                }
                check::expect(y[i].x == wanted.x && y[i].y == wanted.y && y[i].z == wanted.z && y[i].w == wanted.w,
                              "%d arrays, quad %u of %u", count, i, quads);
            }
        }
    }
}
