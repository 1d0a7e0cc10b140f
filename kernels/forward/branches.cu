// The parallel branches of a layer, from one pass over their common input.
//
//   wide[m, n]      = f(expand, sum_k x[m, k] * expand.w[n, k])
//   pointwise[m, n] = f(pointwise, sum_k x[row(m), k] * pointwise.w[n, k])
//   transform[m, n] = f(transform, sum_k pooled[m, k] * transform.w[n, k])      or pooled[m, n] without weights
//   pooled[m, k]    = the maximum of the up to four pixels of x at twice m's place; x itself at stride 1
//   f(branch, v)    = activation(branch.scale[n] * v + branch.shift[n])
//   sum[m, n]       = transform[m, n] + (pointwise[m, n] + x[m, n])             x only with a shortcut
//
// With M pixels in, m pixels out, K, N and n channels in, expanded and out:
// bytes: 4 (M K + M N + m n + K (N + 2 n))   FLOPs: 2 M K N + 4 m K n
// (separate calls: 4 (4 M K + M N + 7 m n + ...) with a shortcut)
//
// A block holds 32 input pixels in shared memory, transposed, and walks over the outputs that they give: a
// thread makes eight rows of four columns at a time, its eight rows of x from two broadcast quads, its
// weights from the cache that all blocks share. With a stride the 32 pixels are the windows of eight outputs,
// pixel j of every window in rows 8 j..., so the first eight rows are what the 1x1 branch reads, and eight
// rows behind them hold the maxima. Both static branches are made by one thread and meet in its registers.
// Every output is one chain of multiply-adds over the input channels in order, as in pointwise.cu.
#include "nat_common.cuh"

struct BranchesParams {
    unsigned images, side_in, side_out, cin, mid, cout, stride, activation, shortcut;
};
NAT_LAYOUT(BranchesParams, images, side_in, side_out, cin, mid, cout, stride, activation, shortcut);

struct BranchArgs {
    const float* w;      // null where there is nothing to convolve, or no branch
    const float* scale;  // or null
    const float* shift;  // or null
    float* y;            // or null
};
NAT_LAYOUT(BranchArgs, w, scale, shift, y);

struct BranchesArgs {
    const float* x;
    BranchArgs expand, pointwise, transform;
    float* sum;  // or null, where each branch has its y
    BranchesParams p;
    unsigned parts;  // blocks that share a tile's outputs
};
NAT_LAYOUT(BranchesArgs, x, expand, pointwise, transform, sum, p, parts);

constexpr unsigned kBranchThreads = 128;
constexpr unsigned kTileRows = 32;

template <unsigned kStride>
struct BranchesTile {
    static constexpr unsigned kOutputs = kTileRows / (kStride * kStride);
    static constexpr unsigned kPooled = kStride == 1 ? 0 : kTileRows;  // first row of the maxima
    static constexpr unsigned kPitch = kTileRows + (kStride == 1 ? 0 : kOutputs) + 4;

    const BranchesArgs& a;
    const float* xs;
    unsigned first_output, outputs;

    // The input pixel of row `row`, inside the map in any case: pixels beyond it are not written, and one
    // twice in a window leaves its maximum as it is.
    __device__ __forceinline__ size_t pixel(unsigned row) const {
        const BranchesParams& p = a.p;
        const unsigned m = min(first_output + row % kOutputs, outputs - 1);
        if (kStride == 1) return m;
        const unsigned at = m % (p.side_out * p.side_out), window = row / kOutputs;
        const unsigned iy = min(at / p.side_out * 2 + window / 2, p.side_in - 1);
        const unsigned ix = min(at % p.side_out * 2 + window % 2, p.side_in - 1);
        return (static_cast<size_t>(m / (p.side_out * p.side_out)) * p.side_in + iy) * p.side_in + ix;
    }

    // Whether row `row` is a pixel of the input that no other row is.
    __device__ __forceinline__ bool inside(unsigned row) const {
        const BranchesParams& p = a.p;
        const unsigned m = first_output + row % kOutputs;
        if (m >= outputs) return false;
        if (kStride == 1) return true;
        const unsigned at = m % (p.side_out * p.side_out), window = row / kOutputs;
        return at / p.side_out * 2 + window / 2 < p.side_in && at % p.side_out * 2 + window % 2 < p.side_in;
    }

    // Columns n... of the product of rows at... with a branch's weights, through its epilogue.
    __device__ __forceinline__ void product(const BranchArgs& branch, unsigned n, unsigned at, Quad (&out)[8]) const {
        const unsigned cin = a.p.cin;
        const float* w = branch.w + static_cast<size_t>(n / kPanel) * cin * kPanel + n % kPanel;
        const float* x = xs + at;
        NAT_UNROLL
        for (int i = 0; i < 8; ++i) out[i] = splat(0.0f);
        for (unsigned k0 = 0; k0 < cin; k0 += 4) {
            Quad right[4];
            NAT_UNROLL
            for (int k = 0; k < 4; ++k) right[k] = load_quad(w + (k0 + k) * kPanel);
            NAT_UNROLL
            for (int k = 0; k < 4; ++k) {
                const Quad left[2] = {load_quad(x + (k0 + k) * kPitch), load_quad(x + (k0 + k) * kPitch + 4)};
                NAT_UNROLL
                for (int i = 0; i < 8; ++i) out[i] = multiply_add(component(left[i / 4], i % 4), right[k], out[i]);
            }
        }
        epilogue(branch, n, out);
    }

    __device__ __forceinline__ void epilogue(const BranchArgs& branch, unsigned n, Quad (&out)[8]) const {
        const Quad scale = load_quad_or(branch.scale, n, 1.0f), shift = load_quad_or(branch.shift, n, 0.0f);
        NAT_UNROLL
        for (int i = 0; i < 8; ++i) out[i] = activate(a.p.activation, multiply_add(out[i], scale, shift));
    }

    // Channels n... of row `row` of x.
    __device__ __forceinline__ Quad staged(unsigned n, unsigned row) const {
        const float* x = xs + n * kPitch + row;
        return make_float4(x[0], x[kPitch], x[2 * kPitch], x[3 * kPitch]);
    }

    // Eight rows of the static branches' outputs.
    __device__ __forceinline__ void store(float* y, unsigned n, unsigned group, const Quad (&out)[8]) const {
        NAT_UNROLL
        for (int i = 0; i < 8; ++i) {
            const unsigned m = first_output + 8 * group + i;
            if (m < outputs) store_quad(y + static_cast<size_t>(m) * a.p.cout + n, out[i]);
        }
    }

    __device__ __forceinline__ void expand(unsigned item) const {
        const unsigned quads = a.p.mid / 4, group = item / quads, n = item % quads * 4;
        Quad out[8];
        product(a.expand, n, 8 * group, out);
        NAT_UNROLL
        for (int i = 0; i < 8; ++i) {
            const unsigned row = 8 * group + i;
            if (inside(row)) store_quad(a.expand.y + pixel(row) * a.p.mid + n, out[i]);
        }
    }

    __device__ __forceinline__ void statics(unsigned item) const {
        const unsigned quads = a.p.cout / 4, group = item / quads, n = item % quads * 4;
        bool started = a.p.shortcut != 0;
        Quad sum[8], out[8];
        NAT_UNROLL
        for (int i = 0; i < 8; ++i) sum[i] = started ? staged(n, 8 * group + i) : splat(0.0f);
        if (a.pointwise.w != nullptr) {
            product(a.pointwise, n, 8 * group, out);
            if (a.pointwise.y != nullptr) {
                store(a.pointwise.y, n, group, out);
            } else {
                NAT_UNROLL
                for (int i = 0; i < 8; ++i) sum[i] = started ? out[i] + sum[i] : out[i];
                started = true;
            }
        }
        if (a.transform.scale != nullptr || a.transform.y != nullptr) {
            const unsigned at = kPooled + 8 * group;
            if (a.transform.w != nullptr) {
                product(a.transform, n, at, out);
            } else {
                NAT_UNROLL
                for (int i = 0; i < 8; ++i) out[i] = staged(n, at + i);
                if (a.transform.scale != nullptr) epilogue(a.transform, n, out);
            }
            if (a.transform.y != nullptr) {
                store(a.transform.y, n, group, out);
            } else {
                NAT_UNROLL
                for (int i = 0; i < 8; ++i) sum[i] = started ? out[i] + sum[i] : out[i];
            }
        }
        if (a.sum != nullptr) store(a.sum, n, group, sum);
    }

    static __device__ __forceinline__ void run(const BranchesArgs& a, float* xs) {
        const BranchesParams& p = a.p;
        const BranchesTile tile{a, xs, blockIdx.x / a.parts * kOutputs, p.images * p.side_out * p.side_out};
        // Quads of channels to columns of shared memory; a warp takes four quads of eight pixels.
        for (unsigned i = threadIdx.x; i < kTileRows * 4 * ceil_div(p.cin, 16); i += kBranchThreads) {
            const unsigned row = i / 4 % kTileRows, c = (i % 4 + i / (4 * kTileRows) * 4) * 4;
            if (c >= p.cin) continue;
            const Quad x = load_quad(a.x + tile.pixel(row) * p.cin + c);
            NAT_UNROLL
            for (int j = 0; j < 4; ++j) xs[(c + j) * kPitch + row] = component(x, j);
        }
        __syncthreads();
        if (kStride > 1) {
            for (unsigned i = threadIdx.x; i < p.cin * kOutputs; i += kBranchThreads) {
                float* x = xs + i / kOutputs * kPitch + i % kOutputs;
                float best = x[0];
                NAT_UNROLL
                for (unsigned j = 1; j < kStride * kStride; ++j) best = nat_max(best, x[j * kOutputs]);
                x[kPooled] = best;
            }
            __syncthreads();
        }
        const unsigned expanded = a.expand.y != nullptr ? p.mid / 4 * (kTileRows / 8) : 0;
        const bool statics = a.sum != nullptr || a.pointwise.y != nullptr || a.transform.y != nullptr;
        const unsigned items = expanded + (statics ? p.cout / 4 * (kOutputs / 8) : 0);
        const unsigned part = blockIdx.x % a.parts;
        for (unsigned i = part * kBranchThreads + threadIdx.x; i < items; i += a.parts * kBranchThreads) {
            if (i < expanded) {
                tile.expand(i);
            } else {
                tile.statics(i - expanded);
            }
        }
    }
};

NAT_KERNEL_BOUNDED(branches_1, kBranchThreads, BranchesArgs a) {
    NAT_DYNAMIC_SHARED(float, xs);
    BranchesTile<1>::run(a, xs);
}

NAT_KERNEL_BOUNDED(branches_2, kBranchThreads, BranchesArgs a) {
    NAT_DYNAMIC_SHARED(float, xs);
    BranchesTile<2>::run(a, xs);
}
