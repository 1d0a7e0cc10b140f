// A block of mbconv.cu: its operands, and where things lie in its shared memory.
//
// Shared memory, in 16-byte units ("chunks": eight 16-bit numbers, or a quad of floats). What is in front of
// the depthwise output is used three times, for what one phase after the other needs:
//
//   0          kFront: the first chunk is zeros, what matrices read behind their last channel
//   kFront     slices: the expanded slice, rows of an image `expanded_row` apart, each k / 2 pixels of zeros
//              and then its own, `expanded_pixel` apart; the input [pixels][odd(cin / 8)]; a slice of
//              expansion weights [slice][odd(cin / 8)] with its scale and shift; a slice of the filter
//              [k k][slice / 4] with its scale and shift
//   kFront     squeeze-excite: means [mid][images], hidden [hidden][images], both to whole quads of images;
//              gates [images][mid]
//   kFront     projection: two buffers of weights [8 groups tiles][8], then the sums on their way out
//   kept_at    the depthwise output [pixels][odd(mid / 8)]
//
// With a stem there is one slice, and the projection still adds what it holds:
//
//   kFront     the slice, as above; then, at project_at, the stem's filters [27][slice / 4] and the
//              depthwise ones, each with scale and shift; then the images (nat_mbconv_stem.cuh)
//   project_at projection, as above
//   kept_at    the depthwise output, in place of the images
//
// Passes (mbconv_passes.cu) have what they need of it. The first: the expanded slice without zeros, pixels
// `expanded_pixel` apart, the input, the expansion weights without scale and shift. The second: the slices,
// the filter without scale and shift, and at kept_at a slice of the depthwise output, [pixels][odd(slice / 8)].
// The third: everything. The first of a pair (expand_depthwise.cu): as the second, with the filter's scale and
// shift.
//
// Rows of an odd number of chunks put the eight rows of a matrix of ldmatrix on different banks, and so
// they do for the four lanes a row that store the sums of a product. Bank conflicts are counted by
// emulator/tests/mbconv_check.cpp.
#pragma once

#include "nat_halves.cuh"

struct MbconvParams {
    unsigned images, side_in, side_out, cin, mid, cout, kernel, stride, activation, hidden;
    unsigned weight_cin, weight_channels, weight_mid, se_channels, se_hidden;
    unsigned image_side, stem_activation, shortcut;  // 0 without a stem
    unsigned format;  // 1 f16, 2 bf16: the kernel's name says it too
};

// 16-bit numbers are given by their bits.
struct MbconvArgs {
    const void* x;           // a map of 16-bit numbers; of a stem, f32 images
    const float* stem;       // or null
    const uint16_t* expand;  // or null; without either and the next two x is the expanded map
    const float* expand_scale;
    const float* expand_shift;
    const float* filter;
    const float* filter_scale;
    const float* filter_shift;
    const float* reduce;  // null, and the next three: no squeeze-excite
    const float* reduce_bias;
    const float* excite;
    const float* excite_bias;
    const uint16_t* project;
    const float* project_scale;
    const float* project_shift;
    const uint16_t* residual;  // or null
    uint16_t* y;
    MbconvParams p;
};

// How a block goes about it. Results do not depend on it.
struct MbconvConfig {
    unsigned images;         // of a block
    unsigned slice;          // expanded channels at a time: 16, 32 or 64
    unsigned groups, tiles;  // output channels: `groups` times `tiles` times 8; tiles is 2, 4 or 6
    unsigned expanded_pixel, expanded_row;  // from one to the next, in chunks
    unsigned x_at, weights_at, filter_at, project_at, kept_at;
    unsigned bands, band_rows;  // of an image, and output rows of one; 1 and all but for a block of one image
};

struct MbconvLaunch {
    MbconvArgs a;
    MbconvConfig c;
};

// Calls of one launch, a row of the grid each. As many as 4 KiB of arguments can name.
constexpr unsigned kMbconvGroup = 15;

struct MbconvGroup {
    MbconvLaunch calls[kMbconvGroup];
};

// How far a kernel goes: to the end, to statistics of what it has made, or to the depthwise output.
enum class MbconvPass { kWhole, kExpanded, kFiltered, kProjected, kDepthwise };

// Whether it has a slice of the depthwise output and not all of it.
__host__ __device__ constexpr bool keeps_slice(MbconvPass pass) {
    return pass == MbconvPass::kFiltered || pass == MbconvPass::kDepthwise;
}

// A pass: what it has no use for is null or 0. Scales and shifts are [batches][mid].
struct MbconvPassLaunch {
    MbconvLaunch whole;
    float* partials;        // [batches][units][2][channels]
    unsigned batch_images;  // images of a batch
};

constexpr unsigned kMbconvPassGroup = 14;

struct MbconvPassGroup {
    MbconvPassLaunch calls[kMbconvPassGroup];
};

// The first of a pair (expand_depthwise.cu): `whole.a.y` is the depthwise output, and nothing behind it is there.
struct ExpandDepthwiseLaunch {
    MbconvLaunch whole;
    float* means;           // [images][side_out][mid], or null
    unsigned batch_images;  // images that scales and shifts are for: all of inference
    unsigned rounds;        // 1: batch norms take rounded numbers
};

constexpr unsigned kMbconvThreads = 256, kMbconvWarps = kMbconvThreads / 32;
constexpr unsigned kFront = 8;           // chunks before everything else: a whole line of banks
constexpr unsigned kExpandTiles = 4;     // of 8 channels, that a warp expands at a time
constexpr unsigned kProjectTiles = 6;    // that a warp projects to
constexpr unsigned kProjectSlice = 64;   // expanded channels of project weights at a time
constexpr unsigned kProjectRow = kProjectSlice / kHalfChunk;

// Quads of a row of sums on their way out: the first quads of its chunks, then, so many on, the second ones.
__host__ __device__ constexpr unsigned out_second(unsigned tiles) { return tiles + 1; }
__host__ __device__ constexpr unsigned out_row(unsigned tiles) { return 2 * out_second(tiles); }

__host__ __device__ constexpr unsigned odd(unsigned chunks) { return chunks | 1; }

template <class T>
__device__ __forceinline__ Quad unpack_quad(uint2 words) {
    const float2 low = Halves<T>::unpack(words.x), high = Halves<T>::unpack(words.y);
    return make_float4(low.x, low.y, high.x, high.y);
}

template <class T>
__device__ __forceinline__ uint2 pack_quad(Quad v) {
    return make_uint2(Halves<T>::pack(v.x, v.y), Halves<T>::pack(v.z, v.w));
}

// Reads or writes a value of shared memory, whose bank conflicts the emulator counts.
template <class V>
__device__ __forceinline__ V load_shared(const void* from NAT_CALLER_PARAMETER) {
#if defined(NATV2_EMULATOR)
    nat_emulator::note_shared(nat_emulator::SharedAccess::kPlain, from, sizeof(V), NAT_EMULATOR_SITE);
#endif
    return *static_cast<const V*>(from);
}

template <class V>
__device__ __forceinline__ void store_shared(void* to, V value NAT_CALLER_PARAMETER) {
#if defined(NATV2_EMULATOR)
    nat_emulator::note_shared(nat_emulator::SharedAccess::kPlain, to, sizeof(V), NAT_EMULATOR_SITE);
#endif
    *static_cast<V*>(to) = value;
}

// Blocks of a batch.
__device__ __forceinline__ unsigned batch_blocks(const MbconvLaunch& launch, unsigned batch_images) {
    return ceil_div(batch_images, launch.c.images) * launch.c.bands;
}

// Whether there are images for this block of the grid.
__device__ __forceinline__ bool has_images(const MbconvLaunch& launch, unsigned batch_images) {
    return blockIdx.x / batch_blocks(launch, batch_images) * batch_images < launch.a.p.images;
}

template <class T>
struct MbconvBlock {
    const MbconvArgs& a;
    const MbconvParams& p;
    const MbconvConfig& c;
    uint4* shared;
    bool rounds;                   // of the first of a pair: batch norms take rounded numbers
    unsigned batch;                // whose scales and shifts it takes
    unsigned first_in_batch;       // image of it
    unsigned first_image, images;  // of this block
    // What it has of them, one image below the other: where there are bands, rows of one image.
    unsigned first_in, lines_in, first_out, lines_out;

    // Blocks are numbered batch after batch, each of so many images, and the bands of an image one after the other.
    __device__ __forceinline__ MbconvBlock(const MbconvLaunch& launch, uint4* memory, unsigned batch_images)
        : a(launch.a), p(launch.a.p), c(launch.c), shared(memory), rounds(false) {
        const unsigned blocks = batch_blocks(launch, batch_images), own = blockIdx.x % blocks;
        batch = blockIdx.x / blocks;
        first_in_batch = own / c.bands * c.images, first_image = batch * batch_images + first_in_batch;
        images = min(c.images, batch_images - first_in_batch);
        first_in = first_out = 0, lines_in = images * p.side_in, lines_out = images * p.side_out;
        if (c.bands > 1) {
            first_out = own % c.bands * c.band_rows;
            lines_out = min(c.band_rows, p.side_out - first_out);
            const unsigned above = first_out * p.stride, below = above + (lines_out - 1) * p.stride + p.kernel / 2 + 1;
            first_in = above - min(above, p.kernel / 2);
            lines_in = min(below, p.side_in) - first_in;
        }
    }

    // Pixels, and the first of them in the map.
    __device__ __forceinline__ unsigned rows_in() const { return lines_in * p.side_in; }
    __device__ __forceinline__ unsigned rows_out() const { return lines_out * p.side_out; }
    __device__ __forceinline__ size_t first_row_in() const {
        return (static_cast<size_t>(first_image) * p.side_in + first_in) * p.side_in;
    }
    __device__ __forceinline__ size_t first_row_out() const {
        return (static_cast<size_t>(first_image) * p.side_out + first_out) * p.side_out;
    }
    __device__ __forceinline__ static unsigned warp() { return threadIdx.x / 32; }
    __device__ __forceinline__ static unsigned lane() { return threadIdx.x % 32; }
    __device__ __forceinline__ uint4* expanded() const { return shared + kFront; }

    // Where a pixel of the block's images lies in the expanded slice.
    __device__ __forceinline__ unsigned pixel_at(unsigned pixel) const {
        return pixel / p.side_in * c.expanded_row + (pixel % p.side_in + p.kernel / 2) * c.expanded_pixel;
    }

    // A pixel of the depthwise output.
    __device__ __forceinline__ uint4* kept(unsigned pixel) const {
        return shared + c.kept_at + pixel * odd(p.mid / kHalfChunk);
    }

    // A quad of channels of it.
    __device__ __forceinline__ uint2* kept_quad(unsigned pixel, unsigned quad) const {
        return reinterpret_cast<uint2*>(kept(pixel)) + quad;
    }
};

template <class T>
struct MbconvPassBlock : MbconvBlock<T> {
    const MbconvPassLaunch& pass;

    __device__ __forceinline__ MbconvPassBlock(const MbconvPassLaunch& launch, uint4* memory)
        : MbconvBlock<T>(launch.whole, memory, launch.batch_images), pass(launch) {}
};

namespace mbconv {

// Whether scale and shift are applied to sums that are rounded to the format.
template <MbconvPass kPass, class T>
__device__ __forceinline__ bool rounds(const MbconvBlock<T>& b) {
    return kPass == MbconvPass::kDepthwise ? b.rounds : kPass != MbconvPass::kWhole;
}

// Two sums as they take them.
template <MbconvPass kPass, class T>
__device__ __forceinline__ float2 raw_pair(const MbconvBlock<T>& b, float low, float high) {
    return rounds<kPass>(b) ? Halves<T>::unpack(Halves<T>::pack(low, high)) : make_float2(low, high);
}

template <MbconvPass kPass, class T>
__device__ __forceinline__ Quad raw_quad(const MbconvBlock<T>& b, Quad sums) {
    return rounds<kPass>(b) ? unpack_quad<T>(pack_quad<T>(sums)) : sums;
}

// Scale and shift of a slice, those of the block's batch.
template <class T>
__device__ __forceinline__ void copy_vectors(const MbconvBlock<T>& b, uint4* to, const float* scale, const float* shift,
                                             unsigned c0) {
    const unsigned quads = b.c.slice / 4;
    if (threadIdx.x < 2 * quads) {
        const unsigned channel = c0 + threadIdx.x % quads * 4;
        const bool valid = channel < b.p.mid;
        const unsigned from = b.batch * b.p.mid + (valid ? channel : 0);
        nat_async_copy<16>(to + threadIdx.x, (threadIdx.x < quads ? scale : shift) + from, valid);
    }
}

// A slice of a filter of so many taps, each of `stored` channels.
template <class T>
__device__ NAT_PHASE void copy_taps(const MbconvBlock<T>& b, uint4* to, const float* filter, unsigned taps,
                                    unsigned stored, unsigned c0) {
    const unsigned quads = b.c.slice / 4;
    for (unsigned i = threadIdx.x; i < taps * quads; i += kMbconvThreads) {
        const unsigned tap = i / quads, channel = c0 + i % quads * 4;
        const bool valid = channel < b.p.mid;
        nat_async_copy<16>(to + i, filter + (valid ? static_cast<size_t>(tap) * stored + channel : 0), valid);
    }
}

}  // namespace mbconv
