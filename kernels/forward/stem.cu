// The first convolution: 3x3, stride 2, padding 1, three input channels.
//
//   y[i, oy, ox, n] = activation(scale[n] * sum_{ky, kx, c} x[i, 2 oy + ky - 1, 2 ox + kx - 1, c] * w[ky, kx, c, n] + shift[n])
//
// y is f32, f16 or bf16, everything else f32. 16-bit maps: checked on the emulator, not yet on a card.
//
// bytes: 4 (3 images side_in^2 + 27 cout) + s cout images side_out^2, s a number of y   FLOPs: 54 cout images side_out^2
//
// A block takes 8 x 16 outputs of an image. Their inputs, 17 x 33 pixels with zeros outside the image, and
// all filters go to shared memory. A thread makes four outputs of a row for 16 bytes of channels: of the nine
// inputs of a row of taps and colour each serves up to two outputs, and each filter quad all four.
#include "nat_convolutions.cuh"
#include "nat_formats.cuh"

NAT_LAYOUT(StemParams, images, side_in, side_out, cout, activation, format);

struct StemArgs {
    const float* x;
    const float* w;
    const float* scale;  // or null
    const float* shift;  // or null
    void* y;
    StemParams p;
};
NAT_LAYOUT(StemArgs, x, w, scale, shift, y, p);

constexpr int kStemThreads = 128;
constexpr int kStemX = 16, kStemY = 8, kStemStrip = 4;
constexpr int kStemInX = 3 * (2 * kStemX + 1), kStemInY = 2 * kStemY + 1;  // floats of a row, rows

// Dynamic shared memory: the filters, [27][cout].
template <class T>
__device__ __forceinline__ void stem(const StemArgs& a, float* inputs, float* filters) {
    const StemParams& p = a.p;
    const unsigned across = ceil_div(p.side_out, kStemX), down = ceil_div(p.side_out, kStemY);
    const unsigned tile = blockIdx.x % (across * down);
    const size_t image = blockIdx.x / (across * down);
    const unsigned first_x = tile % across * kStemX, first_y = tile / across * kStemY;

    const float* x = a.x + image * p.side_in * p.side_in * 3;
    const int left = static_cast<int>(first_x) * 2 - 1, top = static_cast<int>(first_y) * 2 - 1;
    for (unsigned i = threadIdx.x; i < kStemInX * kStemInY; i += kStemThreads) {
        const unsigned ix = left + i % kStemInX / 3, iy = top + i / kStemInX;  // -1 wraps round
        const bool inside = ix < p.side_in && iy < p.side_in;
        inputs[i] = inside ? x[(iy * p.side_in + ix) * 3 + i % 3] : 0.0f;
    }
    for (unsigned i = threadIdx.x; i < 27 * p.cout / 4; i += kStemThreads) {
        store_quad(filters + 4 * i, load_quad(a.w + 4 * i));
    }
    __syncthreads();

    const unsigned chunks = p.cout / kChunk<T>;
    for (unsigned i = threadIdx.x; i < chunks * kStemY * (kStemX / kStemStrip); i += kStemThreads) {
        const unsigned n = i % chunks * kChunk<T>, strip = i / chunks;
        const unsigned tile_x = strip % (kStemX / kStemStrip) * kStemStrip, tile_y = strip / (kStemX / kStemStrip);
        const unsigned oy = first_y + tile_y;
        if (oy >= p.side_out || first_x + tile_x >= p.side_out) continue;
        Chunk<T> sums[kStemStrip] = {};
        for (int ky = 0; ky < 3; ++ky) {
            const float* from = inputs + (2 * tile_y + ky) * kStemInX + 6 * tile_x;
            NAT_UNROLL
            for (int kx = 0; kx < 3; ++kx) {
                NAT_UNROLL
                for (int c = 0; c < 3; ++c) {
                    NAT_UNROLL
                    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
                        const Quad w = load_quad(filters + ((ky * 3 + kx) * 3 + c) * p.cout + n + 4 * q);
                        NAT_UNROLL
                        for (int j = 0; j < kStemStrip; ++j) {
                            Quad& sum = sums[j].quads[q];
                            sum = multiply_add(from[(2 * j + kx) * 3 + c], w, sum);
                        }
                    }
                }
            }
        }
        NAT_UNROLL
        for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
            const Quad scale = load_quad_or(a.scale, n + 4 * q, 1.0f), shift = load_quad_or(a.shift, n + 4 * q, 0.0f);
            NAT_UNROLL
            for (int j = 0; j < kStemStrip; ++j) {
                sums[j].quads[q] = activate(p.activation, multiply_add(sums[j].quads[q], scale, shift));
            }
        }
        NAT_UNROLL
        for (int j = 0; j < kStemStrip; ++j) {
            const unsigned ox = first_x + tile_x + j;
            if (ox >= p.side_out) continue;
            const size_t at = ((image * p.side_out + oy) * p.side_out + ox) * p.cout + n;
            store_chunk(static_cast<T*>(a.y) + at, sums[j]);
        }
    }
}

#define STEM_KERNEL(suffix, T)                                          \
    NAT_KERNEL_BOUNDED(stem_##suffix, kStemThreads, StemArgs a) { \
        NAT_SHARED(float, inputs, kStemInX * kStemInY);                 \
        NAT_DYNAMIC_SHARED(float, filters);                             \
        stem<T>(a, inputs, filters);                                    \
    }

NAT_EVERY_FORMAT(STEM_KERNEL)
