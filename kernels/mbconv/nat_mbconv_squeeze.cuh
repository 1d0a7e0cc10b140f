// Squeeze-and-excitation of mbconv.cu, on the depthwise output where it lies.
#pragma once

#include "nat_mbconv_block.cuh"

namespace mbconv {

// A linear layer on vectors that lie side by side, a value of every image next to each other. A warp makes
// a panel of 16 outputs for four images: a lane a quad of the outputs and an eighth of the inputs.
template <class T, class Out>
__device__ __forceinline__ void linear(const MbconvBlock<T>& b, const float* weights, unsigned stored, const float* bias,
                                       unsigned activation, const float* in, unsigned inputs, unsigned outputs,
                                       Out out_at) {
    const unsigned across = ceil_div(b.images, 4), quad = b.lane() % 4, part = b.lane() / 4;
    for (unsigned item = b.warp(); item < ceil_div(outputs, kPanel) * across; item += kMbconvWarps) {
        const unsigned four = item % across, panel = item / across;
        const float* w = weights + static_cast<size_t>(panel) * stored * kPanel + 4 * quad;
        Quad sums[4];  // a quad of outputs an image
        NAT_UNROLL
        for (int i = 0; i < 4; ++i) sums[i] = splat(0.0f);
        for (unsigned k = part; k < inputs; k += 8) {
            const Quad factors = load_quad(w + k * kPanel);
            const Quad values = load_shared<Quad>(in + (k * across + four) * 4);
            NAT_UNROLL
            for (int i = 0; i < 4; ++i) sums[i] = multiply_add(component(values, i), factors, sums[i]);
        }
        const unsigned n = panel * kPanel + 4 * quad;
        NAT_UNROLL
        for (int i = 0; i < 4; ++i) {
            NAT_UNROLL
            for (int distance = 4; distance < 32; distance *= 2) {
                sums[i] = sums[i] + make_float4(__shfl_xor_sync(0xffffffffu, sums[i].x, distance),
                                                __shfl_xor_sync(0xffffffffu, sums[i].y, distance),
                                                __shfl_xor_sync(0xffffffffu, sums[i].z, distance),
                                                __shfl_xor_sync(0xffffffffu, sums[i].w, distance));
            }
            const unsigned image = 4 * four + i;
            if (part != static_cast<unsigned>(i) || n >= outputs) continue;
            const Quad value = activate(activation, sums[i] + load_quad(bias + n));
            NAT_UNROLL
            for (int e = 0; e < 4; ++e) *out_at(n + e, image) = component(value, e);
        }
    }
}

// Multiplies the depthwise output by the gates of its images.
template <class T>
__device__ NAT_PHASE void squeeze_excite(const MbconvBlock<T>& b) {
    const MbconvParams& p = b.p;
    const MbconvArgs& a = b.a;
    const unsigned across = ceil_div(b.images, 4) * 4;  // images, as means and hidden have them
    float* means = reinterpret_cast<float*>(b.shared + kFront);
    float* hidden = means + p.mid * across;
    float* gates = hidden + p.hidden * across;
    const unsigned quads = p.mid / 4, pixels = p.side_out * p.side_out;
    for (unsigned i = threadIdx.x; i < across * quads; i += kMbconvThreads) {
        const unsigned quad = i % quads, image = i / quads;
        Quad sum = splat(0.0f);
        for (unsigned pixel = 0; pixel < pixels && image < b.images; ++pixel) {
            sum = sum + unpack_quad<T>(load_shared<uint2>(b.kept_quad(image * pixels + pixel, quad)));
        }
        NAT_UNROLL
        for (int e = 0; e < 4; ++e) {
            means[(4 * quad + e) * across + image] = component(sum, e) / static_cast<float>(pixels);
        }
    }
    __syncthreads();
    linear(b, a.reduce, p.se_channels, a.reduce_bias, kRelu, means, p.mid, p.hidden,
           [&](unsigned n, unsigned image) { return hidden + n * across + image; });
    __syncthreads();
    linear(b, a.excite, p.se_hidden, a.excite_bias, kHSigmoid, hidden, p.hidden, p.mid,
           [&](unsigned n, unsigned image) { return gates + image * p.mid + n; });
    __syncthreads();
    for (unsigned i = threadIdx.x; i < b.rows_out() * quads; i += kMbconvThreads) {
        const unsigned quad = i % quads, pixel = i / quads;
        uint2* at = b.kept_quad(pixel, quad);
        const Quad gate = load_shared<Quad>(gates + pixel / pixels * p.mid + 4 * quad);
        store_shared(at, pack_quad<T>(unpack_quad<T>(load_shared<uint2>(at)) * gate));
    }
    __syncthreads();
}

}  // namespace mbconv
