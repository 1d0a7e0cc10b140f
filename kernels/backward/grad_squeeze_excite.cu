// The gradient of squeeze-and-excitation, gate and gated map together. With the forward pass
//
//   z = mean over pixels of x     h = relu(reduce z + b)     q = expand h + b     gate = hsigmoid(q)     xg = x gate
//
// and dxg given, in four kernels, which pass on per image what the scratch slot holds:
//
//   kernel          computes                                                   bytes, s a number        FLOPs
//   se_squeeze_*    z, dgate = sum over pixels of dxg x                        2 s images pixels channels   3 images pixels channels
//   se_layers_f32   h, dq = dgate hsigmoid'(q), dh = (dq . expand) relu',      8 channels hidden        8 images channels hidden
//                   dz = (dh . reduce) / pixels
//   se_weights_f32  dexpand += dq h, dreduce += dh z, biases += dq, dh; sums over the images
//                                                                              16 channels hidden       4 images channels hidden
//   se_input_*      dx = dxg gate + dz                                         2 s images pixels channels   2 images pixels channels
//
// Only the first and the last read maps, which are f32, f16 or bf16; everything else is f32. 16-bit maps: checked
// on the emulator, not yet on a card. A quad of a weight's gradient is one thread's sum over the images in
// order; other partial sums meet in shared memory and are added in order.
#include "nat_row_sums.cuh"

struct SqueezeExciteGradParams {
    unsigned images, pixels, channels, hidden, weight_channels, weight_hidden, format;
};
NAT_LAYOUT(SqueezeExciteGradParams, images, pixels, channels, hidden, weight_channels, weight_hidden, format);

struct SqueezeExciteGradArgs {
    const void* x;
    const float* gate;
    const void* dxg;
    const float* reduce;
    const float* reduce_bias;
    const float* expand;
    const float* expand_bias;
    float* scratch;
    void* dx;
    float* dreduce;
    float* dreduce_bias;
    float* dexpand;
    float* dexpand_bias;
    SqueezeExciteGradParams p;
};
NAT_LAYOUT(SqueezeExciteGradArgs, x, gate, dxg, reduce, reduce_bias, expand, expand_bias, scratch, dx, dreduce,
           dreduce_bias, dexpand, dexpand_bias, p);

// The parts of the scratch slot: rows of channels or of hidden units, a row an image.
struct SqueezeExciteScratch {
    float *z, *h, *dq, *dh, *dz;
};

__device__ __forceinline__ SqueezeExciteScratch parts_of(const SqueezeExciteGradArgs& a) {
    const size_t wide = static_cast<size_t>(a.p.images) * a.p.channels;
    const size_t narrow = static_cast<size_t>(a.p.images) * a.p.hidden;
    SqueezeExciteScratch s;
    s.z = a.scratch;
    s.h = s.z + wide;
    s.dq = s.h + narrow;
    s.dh = s.dq + wide;
    s.dz = s.dh + narrow;
    return s;
}

// A block of threads takes 32 channels of an image, whose pixels are its rows. What it leaves in dq is dgate.
template <class T>
__device__ __forceinline__ void se_squeeze(const SqueezeExciteGradArgs& a, Quad* sums, Quad* products) {
    const SqueezeExciteGradParams& p = a.p;
    const RowSums<T> place(p.channels);
    const size_t image = place.block;
    const size_t first = image * p.pixels * p.channels + place.c;
    const T* x = static_cast<const T*>(a.x) + first;
    const T* dxg = static_cast<const T*>(a.dxg) + first;
    const bool there = place.c < p.channels;
    Chunk<T> sum = {}, product = {};
    if (there) {
        for (unsigned pixel = place.lane; pixel < p.pixels; pixel += place.kLanes) {
            const Chunk<T> value = load_chunk(x + pixel * p.channels), gradient = load_chunk(dxg + pixel * p.channels);
            sum = sum + value;
            NAT_UNROLL
            for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
                product.quads[q] = multiply_add(value.quads[q], gradient.quads[q], product.quads[q]);
            }
        }
    }
    place.leave(sums, sum);
    place.leave(products, product);
    __syncthreads();
    if (place.lane != 0 || !there) return;
    for (unsigned i = 1; i < place.kLanes; ++i) {
        sum = sum + place.left(sums, i);
        product = product + place.left(products, i);
    }
    const Quad share = splat(1.0f / static_cast<float>(p.pixels));
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) sum.quads[q] = sum.quads[q] * share;
    const SqueezeExciteScratch s = parts_of(a);
    store_floats(s.z + image * p.channels + place.c, sum);
    store_floats(s.dq + image * p.channels + place.c, product);
}

constexpr unsigned kSeThreads = 256;
constexpr unsigned kSeParts = kSeThreads / kPanel;
constexpr unsigned kSePanelQuads = kPanel / 4;
constexpr unsigned kSePanelThreads = kSePanelQuads * kSeParts;  // of a hidden panel, each a quad of its rows
constexpr unsigned kSePanelsAtATime = kSeThreads / kSePanelThreads;

// x . w over the 16 outputs (or the last 8) of a row of a panel.
__device__ __forceinline__ float panel_row(const float* x, const float* w, unsigned count) {
    Quad sum = splat(0.0f);
    for (unsigned i = 0; i < count; i += 4) sum = multiply_add(load_quad(x + i), load_quad(w + i), sum);
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// The sums of the 16 parts of units j to j + 3 that the block has left in shared memory.
__device__ __forceinline__ Quad sum_of_parts(const float* parts, unsigned j) {
    const float* from = parts + j / kPanel * kSeThreads + j % kPanel;
    Quad sum = load_quad(from);
    for (unsigned i = 1; i < kSeParts; ++i) sum = sum + load_quad(from + i * kPanel);
    return sum;
}

// One block an image. Dynamic shared memory, in floats: z and dq [channels], h and dh [hidden], and the parts of
// sums over channels [panels of hidden][16][16].
NAT_KERNEL_BOUNDED(se_layers_f32, kSeThreads, SqueezeExciteGradArgs a) {
    NAT_DYNAMIC_SHARED(float, memory);
    const SqueezeExciteGradParams& p = a.p;
    const SqueezeExciteScratch s = parts_of(a);
    float* z = memory;
    float* dq = z + p.channels;
    float* h = dq + p.channels;
    float* dh = h + p.hidden;
    float* parts = dh + p.hidden;
    const size_t wide = static_cast<size_t>(blockIdx.x) * p.channels;
    const size_t narrow = static_cast<size_t>(blockIdx.x) * p.hidden;
    const unsigned column = threadIdx.x % kPanel, part = threadIdx.x / kPanel;
    const unsigned hidden_panels = ceil_div(p.hidden, kPanel), channel_panels = ceil_div(p.channels, kPanel);

    for (unsigned c = 4 * threadIdx.x; c < p.channels; c += 4 * kSeThreads) store_quad(z + c, load_quad(s.z + wide + c));
    __syncthreads();
    // h: four panels of hidden units at a time, 16 parts of the channels, a thread a quad of a panel's rows.
    for (unsigned panel = threadIdx.x / kSePanelThreads; panel < hidden_panels; panel += kSePanelsAtATime) {
        const unsigned four = threadIdx.x % kSePanelQuads * 4, share = threadIdx.x / kSePanelQuads % kSeParts;
        const float* w = a.reduce + panel * p.weight_channels * kPanel + four;
        Quad sum = splat(0.0f);
        for (unsigned c = share; c < p.channels; c += kSeParts) sum = multiply_add(z[c], load_quad(w + c * kPanel), sum);
        store_quad(parts + (panel * kSeParts + share) * kPanel + four, sum);
    }
    __syncthreads();
    for (unsigned j = 4 * threadIdx.x; j < p.hidden; j += 4 * kSeThreads) {
        const Quad units = activate(kRelu, sum_of_parts(parts, j) + load_quad(a.reduce_bias + j));
        store_quad(h + j, units);
        store_quad(s.h + narrow + j, units);
    }
    __syncthreads();
    // dq: a thread a quad of channels.
    for (unsigned c = 4 * threadIdx.x; c < p.channels; c += 4 * kSeThreads) {
        const float* w = a.expand + c / kPanel * p.weight_hidden * kPanel + c % kPanel;
        Quad sum = splat(0.0f);
        for (unsigned j = 0; j < p.hidden; ++j) sum = multiply_add(h[j], load_quad(w + j * kPanel), sum);
        const Quad slope = derivative(kHSigmoid, sum + load_quad(a.expand_bias + c));
        const Quad product = load_quad(s.dq + wide + c) * slope;
        store_quad(dq + c, product);
        store_quad(s.dq + wide + c, product);
    }
    __syncthreads();
    // dh: a thread a hidden unit and every 16th panel of channels.
    for (unsigned tile = 0; tile < hidden_panels; ++tile) {
        const unsigned j = tile * kPanel + column;
        float sum = 0.0f;
        if (j < p.hidden) {
            for (unsigned panel = part; panel < channel_panels; panel += kSeParts) {
                const float* w = a.expand + (panel * p.weight_hidden + j) * kPanel;
                sum += panel_row(dq + panel * kPanel, w, min(kPanel, p.channels - panel * kPanel));
            }
        }
        parts[(tile * kSeParts + part) * kPanel + column] = sum;
    }
    __syncthreads();
    for (unsigned j = 4 * threadIdx.x; j < p.hidden; j += 4 * kSeThreads) {
        // A unit that is not above zero had nothing to say; at zero ReLU's derivative is zero. NaN has much to say.
        const Quad units = load_quad(h + j), sum = sum_of_parts(parts, j);
        const Quad kept = sum * derivative(kRelu, units);
        store_quad(dh + j, kept);
        store_quad(s.dh + narrow + j, kept);
    }
    __syncthreads();
    // dz: a thread a channel.
    for (unsigned c = threadIdx.x; c < p.channels; c += kSeThreads) {
        float sum = 0.0f;
        for (unsigned panel = 0; panel < hidden_panels; ++panel) {
            const float* w = a.reduce + (panel * p.weight_channels + c) * kPanel;
            sum += panel_row(dh + panel * kPanel, w, min(kPanel, p.hidden - panel * kPanel));
        }
        s.dz[wide + c] = sum / static_cast<float>(p.pixels);
    }
}

// sum over images of dy[image, n] x[image, k], for a quad of n
__device__ __forceinline__ Quad over_images(unsigned images, const float* dy, unsigned dy_stride, const float* x,
                                            unsigned x_stride) {
    Quad sum = splat(0.0f);
    for (unsigned image = 0; image < images; ++image) {
        const size_t row = image;
        sum = multiply_add(x[row * x_stride], load_quad(dy + row * dy_stride), sum);
    }
    return sum;
}

// sum over images of dy[image, n], for a quad of n
__device__ __forceinline__ Quad over_images(unsigned images, const float* dy, unsigned dy_stride) {
    Quad sum = splat(0.0f);
    for (unsigned image = 0; image < images; ++image) sum = sum + load_quad(dy + static_cast<size_t>(image) * dy_stride);
    return sum;
}

__device__ __forceinline__ void add_quad(float* to, Quad value) { store_quad(to, load_quad(to) + value); }

// A thread makes a quad: of dreduce and dexpand, in the order of their panels, then of the biases.
NAT_KERNEL_BOUNDED(se_weights_f32, kSeThreads, SqueezeExciteGradArgs a) {
    const SqueezeExciteGradParams& p = a.p;
    const SqueezeExciteScratch s = parts_of(a);
    const unsigned reduce = ceil_div(p.hidden, kPanel) * kPanel * p.channels;
    const unsigned expand = ceil_div(p.channels, kPanel) * kPanel * p.hidden;
    unsigned i = 4 * (blockIdx.x * kSeThreads + threadIdx.x);
    if (i < reduce) {
        const unsigned lane = i % kPanel, c = i / kPanel % p.channels, panel = i / kPanel / p.channels;
        const unsigned j = panel * kPanel + lane;
        if (j >= p.hidden) return;
        add_quad(a.dreduce + (panel * p.weight_channels + c) * kPanel + lane,
                 over_images(p.images, s.dh + j, p.hidden, s.z + c, p.channels));
        return;
    }
    i -= reduce;
    if (i < expand) {
        const unsigned lane = i % kPanel, j = i / kPanel % p.hidden, panel = i / kPanel / p.hidden;
        const unsigned c = panel * kPanel + lane;
        if (c >= p.channels) return;
        add_quad(a.dexpand + (panel * p.weight_hidden + j) * kPanel + lane,
                 over_images(p.images, s.dq + c, p.channels, s.h + j, p.hidden));
        return;
    }
    i -= expand;
    if (i < p.hidden) {
        add_quad(a.dreduce_bias + i, over_images(p.images, s.dh + i, p.hidden));
    } else if (i - p.hidden < p.channels) {
        add_quad(a.dexpand_bias + i - p.hidden, over_images(p.images, s.dq + i - p.hidden, p.channels));
    }
}

// A thread makes 16 bytes of channels of a pixel.
template <class T>
__device__ __forceinline__ void se_input(const SqueezeExciteGradArgs& a) {
    const SqueezeExciteGradParams& p = a.p;
    const unsigned chunks = p.channels / kChunk<T>;
    const unsigned i = blockIdx.x * kSeThreads + threadIdx.x;
    if (i >= p.images * p.pixels * chunks) return;
    const size_t at = static_cast<size_t>(i / chunks / p.pixels) * p.channels + i % chunks * kChunk<T>;
    const float* dz = parts_of(a).dz;
    Chunk<T> value = load_chunk(static_cast<const T*>(a.dxg) + kChunk<T> * static_cast<size_t>(i));
    NAT_UNROLL
    for (unsigned q = 0; q < kChunkQuads<T>; ++q) {
        value.quads[q] = multiply_add(value.quads[q], load_quad(a.gate + at + 4 * q), load_quad(dz + at + 4 * q));
    }
    store_chunk(static_cast<T*>(a.dx) + kChunk<T> * static_cast<size_t>(i), value);
}

#define SE_GRADIENT_KERNELS(suffix, T)                                                                   \
    NAT_KERNEL_BOUNDED(se_squeeze_##suffix, kRowSumThreads, SqueezeExciteGradArgs a) {                   \
        NAT_SHARED(Quad, sums, RowSums<T>::kQuads);                                                      \
        NAT_SHARED(Quad, products, RowSums<T>::kQuads);                                                  \
        se_squeeze<T>(a, sums, products);                                                                \
    }                                                                                                    \
    NAT_KERNEL_BOUNDED(se_input_##suffix, kSeThreads, SqueezeExciteGradArgs a) { se_input<T>(a); }

NAT_EVERY_FORMAT(SE_GRADIENT_KERNELS)
