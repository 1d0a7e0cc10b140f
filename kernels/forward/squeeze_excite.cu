// Squeeze-and-excitation: the gate of every channel of every image.
//
//   z[i, c] = mean over pixels of x[i, :, c]
//   h[i, j] = relu(sum_c z[i, c] * reduce[j, c] + reduce_bias[j])
//   gate[i, c] = hsigmoid(sum_j h[i, j] * expand[c, j] + expand_bias[c])
//
// The map x is f32, f16 or bf16, everything else f32. 16-bit maps: checked on the emulator, not yet on a card.
//
// bytes: images channels (s pixels + 4) + 4 (2 channels hidden + channels + hidden), s a number of the map
// FLOPs: images channels (pixels + 4 hidden)
//
// One block an image. The pixels are shared out over `groups` groups of threads, a thread 16 bytes of channels;
// then four hidden panels at a time, 16 parts of the channels, a thread a quad of a panel's rows; then a thread a
// quad of output channels. Partial sums meet in shared memory and are added in order.
#include "nat_formats.cuh"

struct SqueezeExciteParams {
    unsigned images, pixels, channels, hidden, weight_channels, weight_hidden, format;
};
NAT_LAYOUT(SqueezeExciteParams, images, pixels, channels, hidden, weight_channels, weight_hidden, format);

struct SqueezeExciteArgs {
    const void* x;
    const float* reduce;
    const float* reduce_bias;
    const float* expand;
    const float* expand_bias;
    float* gate;
    SqueezeExciteParams p;
    unsigned groups;  // of pixels
};
NAT_LAYOUT(SqueezeExciteArgs, x, reduce, reduce_bias, expand, expand_bias, gate, p, groups);

constexpr unsigned kSqueezeThreads = 256;
constexpr unsigned kSqueezeParts = 16;
constexpr unsigned kPanelQuads = kPanel / 4;
constexpr unsigned kPanelThreads = kPanelQuads * kSqueezeParts;  // of a hidden panel
constexpr unsigned kPanelsAtATime = kSqueezeThreads / kPanelThreads;

// Dynamic shared memory, in floats: z [channels], h [hidden], and scratch for the larger of
// [groups][channels] and [panels][kSqueezeParts][16].
template <class T>
__device__ __forceinline__ void squeeze_excite(const SqueezeExciteArgs& a, float* memory) {
    const SqueezeExciteParams& p = a.p;
    float* z = memory;
    float* h = z + p.channels;
    float* scratch = h + p.hidden;
    const size_t image = blockIdx.x;

    const T* x = static_cast<const T*>(a.x) + image * p.pixels * p.channels;
    const unsigned chunks = p.channels / kChunk<T>;
    for (unsigned i = threadIdx.x; i < a.groups * chunks; i += kSqueezeThreads) {
        const unsigned group = i / chunks, c = i % chunks * kChunk<T>;
        Chunk<T> sum = {};
        for (unsigned pixel = group; pixel < p.pixels; pixel += a.groups) {
            sum = sum + load_chunk(x + pixel * p.channels + c);
        }
        store_floats(scratch + group * p.channels + c, sum);
    }
    __syncthreads();
    for (unsigned c = threadIdx.x; c < p.channels; c += kSqueezeThreads) {
        float sum = scratch[c];
        for (unsigned group = 1; group < a.groups; ++group) sum += scratch[group * p.channels + c];
        z[c] = sum / static_cast<float>(p.pixels);
    }
    __syncthreads();

    for (unsigned panel = threadIdx.x / kPanelThreads; panel < ceil_div(p.hidden, kPanel); panel += kPanelsAtATime) {
        const unsigned column = threadIdx.x % kPanelQuads * 4, part = threadIdx.x / kPanelQuads % kSqueezeParts;
        const float* w = a.reduce + panel * p.weight_channels * kPanel + column;
        Quad sum = splat(0.0f);
        NAT_UNROLL_TWICE  // more would spill registers on sm_80
        for (unsigned c = part; c < p.channels; c += kSqueezeParts) sum = multiply_add(z[c], load_quad(w + c * kPanel), sum);
        store_quad(scratch + (panel * kSqueezeParts + part) * kPanel + column, sum);
    }
    __syncthreads();
    for (unsigned j = 4 * threadIdx.x; j < p.hidden; j += 4 * kSqueezeThreads) {
        const float* from = scratch + j / kPanel * kSqueezeParts * kPanel + j % kPanel;
        Quad sum = load_quad(from);
        for (unsigned i = 1; i < kSqueezeParts; ++i) sum = sum + load_quad(from + i * kPanel);
        store_quad(h + j, activate(kRelu, sum + load_quad(a.reduce_bias + j)));
    }
    __syncthreads();

    for (unsigned c = 4 * threadIdx.x; c < p.channels; c += 4 * kSqueezeThreads) {
        const float* w = a.expand + c / kPanel * p.weight_hidden * kPanel + c % kPanel;
        Quad sum = splat(0.0f);
        for (unsigned j = 0; j < p.hidden; ++j) sum = multiply_add(h[j], load_quad(w + j * kPanel), sum);
        store_quad(a.gate + image * p.channels + c, activate(kHSigmoid, sum + load_quad(a.expand_bias + c)));
    }
}

#define SQUEEZE_EXCITE_KERNEL(suffix, T)                                                    \
    NAT_KERNEL_BOUNDED(squeeze_excite_##suffix, kSqueezeThreads, SqueezeExciteArgs a) { \
        NAT_DYNAMIC_SHARED(float, memory);                                                  \
        squeeze_excite<T>(a, memory);                                                       \
    }

NAT_EVERY_FORMAT(SQUEEZE_EXCITE_KERNEL)
