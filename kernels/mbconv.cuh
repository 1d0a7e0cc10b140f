// The phases of mbconv.cu, apart from its kernels. mbconv.cu says what they compute and how a block goes
// through them; here is how.
//
// Shared memory, in 16-byte units ("chunks": eight 16-bit numbers, or a quad of floats). The front is
// used three times, for what one phase after the other needs:
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
// Rows of an odd number of chunks put the eight rows of a matrix of ldmatrix on different banks, and so
// they do for the four lanes a row that store the sums of a product. Bank conflicts are counted by
// emulator/tests/mbconv_check.cpp.
#pragma once

#include "nat_halves.cuh"

struct MbconvParams {
    unsigned images, side_in, side_out, cin, mid, cout, kernel, stride, activation, hidden;
    unsigned weight_cin, weight_channels, weight_mid, se_channels, se_hidden;
    unsigned format;  // 1 f16, 2 bf16: the kernel's name says it too
};

// 16-bit numbers are given by their bits.
struct MbconvArgs {
    const uint16_t* x;
    const uint16_t* expand;  // null, and the next two: x is the expanded map
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
    unsigned x_at, weights_at, filter_at, kept_at;
};

struct MbconvLaunch {
    MbconvArgs a;
    MbconvConfig c;
};

constexpr unsigned kMbconvThreads = 256, kMbconvWarps = kMbconvThreads / 32;
constexpr unsigned kFront = 8;           // chunks before everything else: a whole line of banks
constexpr unsigned kExpandTiles = 4;     // of 8 channels, that a warp expands at a time
constexpr unsigned kProjectTiles = 6;    // that a warp projects to
constexpr unsigned kProjectSlice = 64;   // expanded channels of project weights at a time
constexpr unsigned kProjectRow = kProjectSlice / kHalfChunk;
// Sums on their way out: the first quads of all chunks of a row, then the second ones.
constexpr unsigned kOutSecond = kProjectTiles + 1, kOutRow = 2 * kOutSecond, kOutWarp = 16 * kOutRow;

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

// sums += left [16 kDown rows] * right [8 kAcross columns] over 16 channels, of which the first `across`
// tiles of columns are in use. `left_at(i)` is this lane's row of 16 rows, `right_at(j)` that of two tiles.
template <class T, int kDown, int kAcross, class Left, class Right>
__device__ __forceinline__ void multiply_step(float (&sums)[kDown][kAcross][4], unsigned across, Left left_at,
                                              Right right_at) {
    unsigned left[kDown][4];
    NAT_UNROLL
    for (int i = 0; i < kDown; ++i) nat_ldmatrix_x4(left[i], left_at(i));
    NAT_UNROLL
    for (int j = 0; j < kAcross; j += 2) {
        if (j >= static_cast<int>(across)) break;
        unsigned right[4];
        nat_ldmatrix_x4(right, right_at(j));
        const unsigned even[2] = {right[0], right[1]}, next[2] = {right[2], right[3]};
        NAT_UNROLL
        for (int i = 0; i < kDown; ++i) {
            Halves<T>::multiply_add(sums[i][j], left[i], even);
            Halves<T>::multiply_add(sums[i][j + 1], left[i], next);
        }
    }
}

template <int kDown, int kAcross>
__device__ __forceinline__ void clear(float (&sums)[kDown][kAcross][4]) {
    NAT_UNROLL
    for (int i = 0; i < kDown; ++i) {
        NAT_UNROLL
        for (int j = 0; j < kAcross; ++j) {
            NAT_UNROLL
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
        }
    }
}

template <class T>
struct MbconvBlock {
    const MbconvArgs& a;
    const MbconvParams& p;
    const MbconvConfig& c;
    uint4* shared;
    unsigned first_image, images;  // of this block

    __device__ __forceinline__ MbconvBlock(const MbconvLaunch& launch, uint4* memory)
        : a(launch.a), p(launch.a.p), c(launch.c), shared(memory) {
        first_image = blockIdx.x * c.images;
        images = min(c.images, p.images - first_image);
    }

    template <int kKernel, int kStride>
    __device__ __forceinline__ void run() const {
        if (threadIdx.x == 0) shared[0] = make_uint4(0, 0, 0, 0);
        clear_margins();
        if (a.expand != nullptr) {
            copy_input();
            copy_weights(0);
            nat_async_commit();
        }
        for (unsigned c0 = 0; c0 < p.mid; c0 += c.slice) {
            if (a.expand != nullptr) {
                nat_async_wait<0>();
                __syncthreads();  // the weights are there, and the slice before is read
                copy_filter(c0);
                nat_async_commit();
                expand(c0);
                nat_async_wait<0>();
                __syncthreads();
                if (c0 + c.slice < p.mid) copy_weights(c0 + c.slice);
            } else {
                __syncthreads();
                copy_filter(c0);
                copy_map(c0);
                nat_async_commit();
                nat_async_wait<0>();
                __syncthreads();
            }
            nat_async_commit();
            if (p.side_out > 4) {
                depthwise<kKernel, kStride, 8>(c0);
            } else if (p.side_out > 2) {
                depthwise<kKernel, kStride, 4>(c0);
            } else {
                depthwise<kKernel, kStride, 2>(c0);
            }
        }
        __syncthreads();
        if (a.reduce != nullptr) squeeze_excite();
        project();
    }

private:
    __device__ __forceinline__ unsigned rows_in() const { return images * p.side_in * p.side_in; }
    __device__ __forceinline__ unsigned rows_out() const { return images * p.side_out * p.side_out; }
    __device__ __forceinline__ static unsigned warp() { return threadIdx.x / 32; }
    __device__ __forceinline__ static unsigned lane() { return threadIdx.x % 32; }
    __device__ __forceinline__ uint4* expanded() const { return shared + kFront; }

    // Copies rows of `chunks` chunks to rows of odd(chunks). Threads pass the gaps over, so that eight
    // neighbours write to different banks.
    __device__ NAT_PHASE static void copy_rows(uint4* to, const uint16_t* from, unsigned stored, unsigned rows,
                                                     unsigned valid_rows, unsigned chunks) {
        const unsigned pitch = odd(chunks);
        for (unsigned i = threadIdx.x; i < rows * pitch; i += kMbconvThreads) {
            const unsigned row = i / pitch, chunk = i % pitch;
            const bool valid = row < valid_rows;
            if (chunk < chunks) {
                nat_async_copy<16>(to + i, from + (valid ? static_cast<size_t>(row) * stored + kHalfChunk * chunk : 0), valid);
            }
        }
    }

    __device__ NAT_PHASE void copy_input() const {
        const size_t first = static_cast<size_t>(first_image) * p.side_in * p.side_in;
        copy_rows(shared + c.x_at, a.x + first * p.cin, p.cin, rows_in(), rows_in(), p.cin / kHalfChunk);
    }

    // Expansion weights of a slice; rows behind the last channel are zeros.
    __device__ NAT_PHASE void copy_weights(unsigned c0) const {
        const unsigned chunks = p.cin / kHalfChunk;
        uint4* to = shared + c.weights_at;
        copy_rows(to, a.expand + static_cast<size_t>(c0) * p.weight_cin, p.weight_cin, c.slice,
                  min(c.slice, p.mid - c0), chunks);
        copy_vectors(to + c.slice * odd(chunks), a.expand_scale, a.expand_shift, c0);
    }

    __device__ NAT_PHASE void copy_filter(unsigned c0) const {
        const unsigned quads = c.slice / 4;
        uint4* to = shared + c.filter_at;
        for (unsigned i = threadIdx.x; i < p.kernel * p.kernel * quads; i += kMbconvThreads) {
            const unsigned tap = i / quads, channel = c0 + i % quads * 4;
            const bool valid = channel < p.mid;
            nat_async_copy<16>(to + i, a.filter + (valid ? static_cast<size_t>(tap) * p.weight_channels + channel : 0), valid);
        }
        copy_vectors(to + p.kernel * p.kernel * quads, a.filter_scale, a.filter_shift, c0);
    }

    // Scale and shift of a slice.
    __device__ __forceinline__ void copy_vectors(uint4* to, const float* scale, const float* shift, unsigned c0) const {
        const unsigned quads = c.slice / 4;
        if (threadIdx.x < 2 * quads) {
            const unsigned channel = c0 + threadIdx.x % quads * 4;
            const bool valid = channel < p.mid;
            nat_async_copy<16>(to + threadIdx.x, (threadIdx.x < quads ? scale : shift) + (valid ? channel : 0), valid);
        }
    }

    // Where there is no expansion: the slice of the map itself.
    __device__ NAT_PHASE void copy_map(unsigned c0) const {
        const unsigned chunks = min(c.slice, p.mid - c0) / kHalfChunk;
        const size_t first = static_cast<size_t>(first_image) * p.side_in * p.side_in;
        const uint16_t* from = a.x + first * p.mid + c0;
        for (unsigned i = threadIdx.x; i < rows_in() * c.expanded_pixel; i += kMbconvThreads) {
            const unsigned pixel = i / c.expanded_pixel, chunk = i % c.expanded_pixel;
            if (chunk < chunks) {
                nat_async_copy<16>(expanded() + pixel_at(pixel) + chunk,
                                   from + static_cast<size_t>(pixel) * p.mid + kHalfChunk * chunk);
            }
        }
    }

    // Where a pixel of the block's images lies in the expanded slice.
    __device__ __forceinline__ unsigned pixel_at(unsigned pixel) const {
        return pixel / p.side_in * c.expanded_row + (pixel % p.side_in + p.kernel / 2) * c.expanded_pixel;
    }

    // The zeros before each row of the expanded slice, which are also those behind the row before it, with the
    // up to 7 chunks between the two. Before the first row these fall into the front.
    __device__ NAT_PHASE void clear_margins() const {
        const unsigned margin = p.kernel / 2 * c.expanded_pixel;
        const unsigned gap = c.expanded_row - margin - p.side_in * c.expanded_pixel, chunks = gap + margin;
        for (unsigned i = threadIdx.x; i < (images * p.side_in + 1) * chunks; i += kMbconvThreads) {
            store_shared(expanded() - gap + i / chunks * c.expanded_row + i % chunks, make_uint4(0, 0, 0, 0));
        }
    }

    // The slice of the expanded map from channel c0 on. A warp makes 32 pixels by 32 channels at a time.
    __device__ NAT_PHASE void expand(unsigned c0) const {
        const unsigned rows = rows_in(), chunks = p.cin / kHalfChunk, pitch = odd(chunks);
        const unsigned down = ceil_div(rows, 32), across = ceil_div(c.slice, 8 * kExpandTiles);
        const unsigned columns = min(c.slice, p.mid - c0);
        const uint4* weights = shared + c.weights_at;
        const float* scale = reinterpret_cast<const float*>(weights + c.slice * pitch);
        for (unsigned item = warp(); item < down * across; item += kMbconvWarps) {
            const unsigned m0 = item % down * 32, n0 = item / down * 8 * kExpandTiles;
            if (n0 >= columns) break;
            const unsigned tiles = min(kExpandTiles, (columns - n0) / 8);
            const uint4* left[2];
            NAT_UNROLL
            for (int i = 0; i < 2; ++i) left[i] = shared + c.x_at + min(m0 + 16 * i + lane() % 16, rows - 1) * pitch;
            const uint4* right = weights + (n0 + lane() / 16 * 8 + lane() % 8) * pitch;
            float sums[2][kExpandTiles][4];
            clear(sums);
            for (unsigned k = 0; k < chunks; k += 2) {
                const unsigned left_chunk = k + lane() / 16, right_chunk = k + lane() / 8 % 2;
                multiply_step<T>(
                    sums, tiles, [&](int i) { return left_chunk < chunks ? left[i] + left_chunk : shared; },
                    [&](int j) { return right_chunk < chunks ? right + 8 * j * pitch + right_chunk : shared; });
            }
            NAT_UNROLL
            for (int i = 0; i < 2; ++i) {
                NAT_UNROLL
                for (int h = 0; h < 2; ++h) {
                    const unsigned m = m0 + 16 * i + 8 * h + lane() / 4;
                    if (m >= rows) continue;
                    unsigned* to = reinterpret_cast<unsigned*>(expanded() + pixel_at(m) + n0 / 8) + lane() % 4;
                    NAT_UNROLL
                    for (int j = 0; j < static_cast<int>(kExpandTiles); ++j) {
                        if (j >= static_cast<int>(tiles)) break;
                        const unsigned n = n0 + 8 * j + 2 * (lane() % 4);
                        const float2 factor = load_shared<float2>(scale + n);
                        const float2 term = load_shared<float2>(scale + c.slice + n);
                        const float low = activate(p.activation, sums[i][j][2 * h] * factor.x + term.x);
                        const float high = activate(p.activation, sums[i][j][2 * h + 1] * factor.y + term.y);
                        store_shared(to + 4 * j, Halves<T>::pack(low, high));
                    }
                }
            }
        }
    }

    // The slice of the depthwise output. A thread makes a strip of a row for a quad of channels: an input that
    // it has read serves every output of the strip that it touches, and a row of the filter stays in registers.
    // Rows outside the image are left out; columns outside are zeros. Behind the last output of a row a strip
    // reads anything, for outputs that are not there.
    template <int kKernel, int kStride, int kStrip>
    __device__ NAT_PHASE void depthwise(unsigned c0) const {
        constexpr int kInputs = (kStrip - 1) * kStride + kKernel;
        const unsigned quads = c.slice / 4, across = ceil_div(p.side_out, kStrip), rows = images * p.side_out;
        const Quad* filter = reinterpret_cast<const Quad*>(shared + c.filter_at);
        for (unsigned i = threadIdx.x; i < rows * across * quads; i += kMbconvThreads) {
            // Neighbours are one below the other: `expanded_row` puts them on different banks.
            const unsigned quad = i % quads, row = i / quads % rows, first_x = i / quads / rows * kStrip;
            if (c0 + 4 * quad >= p.mid) continue;
            const unsigned image = row / p.side_out, oy = row % p.side_out;
            const int top = static_cast<int>(oy * kStride) - kKernel / 2;
            const uint2* column = reinterpret_cast<const uint2*>(expanded() + first_x * kStride * c.expanded_pixel) + quad;
            Quad sums[kStrip];
            NAT_UNROLL_ON_CARD
            for (int o = 0; o < kStrip; ++o) sums[o] = splat(0.0f);
            NAT_ROLLED
            for (int ky = 0; ky < kKernel; ++ky) {
                const unsigned iy = top + ky;  // -1 wraps round
                if (iy >= p.side_in) continue;
                const uint2* from = column + 2 * (image * p.side_in + iy) * c.expanded_row;
                uint2 inputs[kInputs];
                NAT_UNROLL_ON_CARD
                for (int j = 0; j < kInputs; ++j) inputs[j] = load_shared<uint2>(from + 2 * j * c.expanded_pixel);
                Quad w[kKernel];
                NAT_UNROLL_ON_CARD
                for (int kx = 0; kx < kKernel; ++kx) w[kx] = load_shared<Quad>(filter + (ky * kKernel + kx) * quads + quad);
                NAT_UNROLL_ON_CARD
                for (int j = 0; j < kInputs; ++j) {
                    const Quad x = unpack_quad<T>(inputs[j]);
                    NAT_UNROLL_ON_CARD
                    for (int o = 0; o < kStrip; ++o) {
                        const int kx = j - o * kStride;
                        if (kx >= 0 && kx < kKernel) sums[o] = multiply_add(x, w[kx], sums[o]);
                    }
                }
            }
            const Quad* vectors = filter + kKernel * kKernel * quads + quad;
            const Quad scale = load_shared<Quad>(vectors), shift = load_shared<Quad>(vectors + quads);
            const unsigned chunk = (c0 + 4 * quad) / kHalfChunk;
            NAT_UNROLL
            for (int o = 0; o < kStrip; ++o) {
                const unsigned ox = first_x + o;
                if (ox >= p.side_out) break;
                const uint2 out = pack_quad<T>(activate(p.activation, multiply_add(sums[o], scale, shift)));
                store_shared(reinterpret_cast<uint2*>(kept(row * p.side_out + ox) + chunk) + quad % 2, out);
            }
        }
    }

    // A pixel of the depthwise output.
    __device__ __forceinline__ uint4* kept(unsigned pixel) const {
        return shared + c.kept_at + pixel * odd(p.mid / kHalfChunk);
    }

    // A quad of channels of it.
    __device__ __forceinline__ uint2* kept_quad(unsigned pixel, unsigned quad) const {
        return reinterpret_cast<uint2*>(kept(pixel)) + quad;
    }

    // Multiplies the depthwise output by the gates of its images.
    __device__ NAT_PHASE void squeeze_excite() const {
        const unsigned across = ceil_div(images, 4) * 4;  // images, as means and hidden have them
        float* means = reinterpret_cast<float*>(shared + kFront);
        float* hidden = means + p.mid * across;
        float* gates = hidden + p.hidden * across;
        const unsigned quads = p.mid / 4, pixels = p.side_out * p.side_out;
        for (unsigned i = threadIdx.x; i < across * quads; i += kMbconvThreads) {
            const unsigned quad = i % quads, image = i / quads;
            Quad sum = splat(0.0f);
            for (unsigned pixel = 0; pixel < pixels && image < images; ++pixel) {
                sum = sum + unpack_quad<T>(load_shared<uint2>(kept_quad(image * pixels + pixel, quad)));
            }
            NAT_UNROLL
            for (int e = 0; e < 4; ++e) {
                means[(4 * quad + e) * across + image] = component(sum, e) / static_cast<float>(pixels);
            }
        }
        __syncthreads();
        linear(a.reduce, p.se_channels, a.reduce_bias, kRelu, means, p.mid, p.hidden,
               [&](unsigned n, unsigned image) { return hidden + n * across + image; });
        __syncthreads();
        linear(a.excite, p.se_hidden, a.excite_bias, kHSigmoid, hidden, p.hidden, p.mid,
               [&](unsigned n, unsigned image) { return gates + image * p.mid + n; });
        __syncthreads();
        for (unsigned i = threadIdx.x; i < rows_out() * quads; i += kMbconvThreads) {
            const unsigned quad = i % quads, pixel = i / quads;
            uint2* at = kept_quad(pixel, quad);
            const Quad gate = load_shared<Quad>(gates + pixel / pixels * p.mid + 4 * quad);
            store_shared(at, pack_quad<T>(unpack_quad<T>(load_shared<uint2>(at)) * gate));
        }
        __syncthreads();
    }

    // A linear layer on vectors that lie side by side, a value of every image next to each other. A warp makes
    // a panel of 16 outputs for four images: a lane a quad of the outputs and an eighth of the inputs.
    template <class Out>
    __device__ __forceinline__ void linear(const float* weights, unsigned stored, const float* bias, unsigned activation,
                                           const float* in, unsigned inputs, unsigned outputs, Out out_at) const {
        const unsigned across = ceil_div(images, 4), quad = lane() % 4, part = lane() / 4;
        for (unsigned item = warp(); item < ceil_div(outputs, kPanel) * across; item += kMbconvWarps) {
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

    // The output. A warp makes 32 pixels by up to 48 channels; slices of weights pass through two buffers.
    __device__ NAT_PHASE void project() const {
        const unsigned rows = rows_out(), chunks = p.mid / kHalfChunk;
        const unsigned down = ceil_div(rows, 32), columns = 8 * c.groups * c.tiles;
        uint4* buffers = shared + kFront;
        auto copy = [&](unsigned k0, unsigned buffer) {
            for (unsigned i = threadIdx.x; i < columns * kProjectRow; i += kMbconvThreads) {
                const unsigned n = i / kProjectRow, chunk = i % kProjectRow, k = k0 + kHalfChunk * chunk;
                const bool valid = n < p.cout && k < p.mid;
                nat_async_copy<16>(buffers + buffer * columns * kProjectRow + weight_at(n, chunk),
                                   a.project + (valid ? static_cast<size_t>(n) * p.weight_mid + k : 0), valid);
            }
            nat_async_commit();
        };
        for (unsigned first = 0; first < down * c.groups; first += kMbconvWarps) {
            const unsigned item = first + warp();
            const bool active = item < down * c.groups;
            const unsigned m0 = item % down * 32, n0 = item / down * c.tiles * 8;
            const uint4* left[2];
            NAT_UNROLL
            for (int i = 0; i < 2; ++i) left[i] = kept(min(m0 + 16 * i + lane() % 16, rows - 1));
            float sums[2][kProjectTiles][4];
            clear(sums);
            copy(0, 0);
            for (unsigned k0 = 0, buffer = 0; k0 < p.mid; k0 += kProjectSlice, buffer ^= 1) {
                nat_async_wait<0>();
                __syncthreads();
                // The other buffer was last read before this barrier.
                if (k0 + kProjectSlice < p.mid) copy(k0 + kProjectSlice, buffer ^ 1);
                const uint4* from = buffers + buffer * columns * kProjectRow;
                for (unsigned k = 0; k < kProjectRow && active; k += 2) {
                    if (k0 + kHalfChunk * k >= p.mid) break;
                    const unsigned left_chunk = k0 / kHalfChunk + k + lane() / 16;
                    multiply_step<T>(
                        sums, c.tiles, [&](int i) { return left_chunk < chunks ? left[i] + left_chunk : shared; },
                        [&](int j) {
                            return from + weight_at(n0 + 8 * j + lane() / 16 * 8 + lane() % 8, k + lane() / 8 % 2);
                        });
                }
            }
            __syncthreads();  // the buffers are read: their memory is free
            if (active) write(sums, m0, n0);
            __syncthreads();
        }
    }

    // Where a chunk of project weights lies: turned by the row, so that those of eight rows differ in their banks.
    __device__ __forceinline__ static unsigned weight_at(unsigned n, unsigned chunk) {
        return n * kProjectRow + (chunk ^ n % kProjectRow);
    }

    // Writes a warp's sums to y, 16 rows at a time, through shared memory.
    __device__ NAT_PHASE void write(const float (&sums)[2][kProjectTiles][4], unsigned m0, unsigned n0) const {
        const unsigned rows = rows_out();
        const size_t first_row = static_cast<size_t>(first_image) * p.side_out * p.side_out;
        Quad* out = reinterpret_cast<Quad*>(shared + kFront) + warp() * kOutWarp;
        NAT_UNROLL
        for (int i = 0; i < 2; ++i) {
            NAT_UNROLL
            for (int j = 0; j < static_cast<int>(kProjectTiles); ++j) {
                if (j >= static_cast<int>(c.tiles)) break;
                NAT_UNROLL
                for (int h = 0; h < 2; ++h) {
                    Quad* quad = out + (lane() / 4 + 8 * h) * kOutRow + lane() % 4 / 2 * kOutSecond + j;
                    store_shared(reinterpret_cast<float2*>(quad) + lane() % 2,
                                 make_float2(sums[i][j][2 * h], sums[i][j][2 * h + 1]));
                }
            }
            __syncwarp();
            for (unsigned at = lane(); at < 16 * c.tiles; at += 32) {
                unsigned row = at / c.tiles;
                const unsigned across = at % c.tiles;
                // Two rows of four chunks: not neighbours, for the banks' sake.
                if (c.tiles == 4) row = row / 4 * 4 + row % 2 * 2 + row / 2 % 2;
                const unsigned m = m0 + 16 * i + row, n = n0 + 8 * across;
                const Quad* quad = out + row * kOutRow + across;
                Quad low = load_shared<Quad>(quad), high = load_shared<Quad>(quad + kOutSecond);
                if (m >= rows || n >= p.cout) continue;
                const size_t to = (first_row + m) * p.cout + n;
                low = multiply_add(low, load_quad(a.project_scale + n), load_quad(a.project_shift + n));
                high = multiply_add(high, load_quad(a.project_scale + n + 4), load_quad(a.project_shift + n + 4));
                if (a.residual != nullptr) {
                    const uint4 r = *reinterpret_cast<const uint4*>(a.residual + to);
                    low = low + unpack_quad<T>(make_uint2(r.x, r.y));
                    high = high + unpack_quad<T>(make_uint2(r.z, r.w));
                }
                const uint2 first = pack_quad<T>(low), second = pack_quad<T>(high);
                *reinterpret_cast<uint4*>(a.y + to) = make_uint4(first.x, first.y, second.x, second.y);
            }
            __syncwarp();  // before the next rows take their place
        }
    }
};

#define MBCONV_KERNEL(name, T, kernel, stride)                        \
    NAT_KERNEL_BOUNDED(name, kMbconvThreads, MbconvLaunch launch) {   \
        NAT_DYNAMIC_SHARED(uint4, shared);                            \
        MbconvBlock<T>(launch, shared).template run<kernel, stride>(); \
    }
