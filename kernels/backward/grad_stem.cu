// The gradient of the stem's filters; its input is the image and needs none. dz is f32, f16 or bf16, everything else
// f32. 16-bit maps: checked on the emulator, not yet on a card.
//
//   dw[ky, kx, c, n] += sum_{i, oy, ox} dz[i, oy, ox, n] * x[i, 2 oy + ky - 1, 2 ox + kx - 1, c]
//
//   kernel                computes                        bytes, s a number of dz                        FLOPs
//   stem_weights_*        sums of strips of four rows     12 images side_in^2 + s N images side_out^2    54 N images side_out^2
//   stem_weights_merge    dw += their sum                 108 N (strips + 2)                             27 N strips
//
// A block takes four rows of outputs of an image. A thread takes one pixel of the filter, three colours of
// it, for a quad of output channels, so that a gradient that it has read serves three taps; the nine threads
// that read the same gradient, and the N / 4 that read the same input, meet in the L1 cache. A quad in 16 bits too:
// a stem has few channels, and eight of them to a thread would leave most threads without any.
#include "nat_convolutions.cuh"
#include "nat_formats.cuh"
#include "nat_partials.cuh"

struct StemWeightsArgs {
    const float* x;
    const void* dz;
    float* partials;  // [images][ceil(side_out / 4)][27][cout]
    float* dw;        // [27][cout]
    StemParams p;
};
NAT_LAYOUT(StemWeightsArgs, x, dz, partials, dw, p);

constexpr unsigned kStripRows = 4;  // crate::ops::grad::stem::STRIP
constexpr unsigned kThreads = 64;

template <class T>
__device__ __forceinline__ void stem_weights(const StemWeightsArgs& a) {
    const StemParams& p = a.p;
    const unsigned quads = p.cout / 4, strips = ceil_div(p.side_out, kStripRows);
    const size_t image = blockIdx.x / strips;
    const unsigned first = blockIdx.x % strips * kStripRows, end = min(first + kStripRows, p.side_out);
    for (unsigned i = threadIdx.x; i < 9 * quads; i += kThreads) {
        const unsigned n = i % quads * 4, ky = i / quads / 3, kx = i / quads % 3;
        Quad sums[3] = {splat(0.0f), splat(0.0f), splat(0.0f)};
        for (unsigned oy = first; oy < end; ++oy) {
            const unsigned iy = 2 * oy + ky - 1;  // -1 wraps round
            if (iy >= p.side_in) continue;
            const T* dz = static_cast<const T*>(a.dz) + (image * p.side_out + oy) * p.side_out * p.cout + n;
            const float* x = a.x + (image * p.side_in + iy) * p.side_in * 3;
            for (unsigned ox = 0; ox < p.side_out; ++ox) {
                const unsigned ix = 2 * ox + kx - 1;
                if (ix >= p.side_in) continue;
                const Quad gradient = load_numbers(dz + ox * p.cout);
                NAT_UNROLL
                for (int c = 0; c < 3; ++c) sums[c] = multiply_add(x[3 * ix + c], gradient, sums[c]);
            }
        }
        float* out = a.partials + static_cast<size_t>(blockIdx.x) * 27 * p.cout + (ky * 3 + kx) * 3 * p.cout + n;
        NAT_UNROLL
        for (int c = 0; c < 3; ++c) store_quad(out + c * p.cout, sums[c]);
    }
}

#define STEM_WEIGHTS_KERNEL(suffix, T) \
    NAT_KERNEL_BOUNDED(stem_weights_##suffix, kThreads, StemWeightsArgs a) { stem_weights<T>(a); }

NAT_EVERY_FORMAT(STEM_WEIGHTS_KERNEL)

NAT_KERNEL_BOUNDED(stem_weights_merge, kPartialThreads, StemWeightsArgs a) {
    NAT_SHARED(Quad, segments, kPartialThreads);
    const StemParams& p = a.p;
    const unsigned i = partial_quad(), len = 27 * p.cout;
    const bool there = 4 * i < len;
    const unsigned strips = p.images * ceil_div(p.side_out, kStripRows);
    const Quad sum = merge_partials(there ? a.partials + 4 * i : nullptr, len, strips, segments);
    if (partial_segment() == 0 && there) store_quad(a.dw + 4 * i, load_quad(a.dw + 4 * i) + sum);
}
