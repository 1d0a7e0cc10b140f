// The weights of many 1x1 convolutions as rows of 16-bit numbers, made from their panels.
//
//   rows[n, k] = transposed[k, n] = half(panels[n, k])
//
// bytes: 8 K N, or 6 K N without the transposed rows   FLOPs: 0
//
// One launch makes the rows of a whole super-network: a row of blocks a matrix, as long as the largest
// needs; the others' last blocks have nothing to do. A block takes 64 input channels of a panel, 4 KB side by
// side. A thread loads the eight outputs of an input channel, which are a chunk of a transposed row as they
// are, and leaves them in shared memory, where columns become chunks of rows. The pitch keeps both ways free
// of bank conflicts (emulator/tests/grad_pointwise_half_check.cpp counts them). The compiler stores the chunks of
// transposed rows as four words (SASS.md). Checked on the emulator, not yet on a card.
#include "nat_formats.cuh"

struct HalfRowsParams {
    unsigned cout, cin;
};
NAT_LAYOUT(HalfRowsParams, cout, cin);

struct HalfRowsJob {
    const float* w;        // [ceil(cout / 16)][cin][16]
    void* rows;            // [cout][cin], 16-bit numbers
    void* transposed;      // [cin][cout], or null
    HalfRowsParams p;
};
NAT_LAYOUT(HalfRowsJob, w, rows, transposed, p);

constexpr unsigned kRowsJobs = 128;  // 4 KiB, which is what every driver takes as arguments

struct HalfRowsArgs {
    HalfRowsJob calls[kRowsJobs];
};
NAT_LAYOUT(HalfRowsArgs, calls);

constexpr unsigned kRowsInputs = 64, kRowsThreads = 128;
// Input channels of an output's, and two more: eight such rows are half of the banks on.
constexpr unsigned kRowsPitch = kRowsInputs + 2;

// `square` is [16][kRowsPitch].
template <class T>
__device__ __forceinline__ void half_rows(const HalfRowsJob& job, float* square) {
    const unsigned slices = ceil_div(job.p.cin, kRowsInputs), panel = blockIdx.x / slices;
    const unsigned first_k = blockIdx.x % slices * kRowsInputs, first_n = panel * kPanel;
    if (first_n >= job.p.cout) return;  // the whole block
    {
        const unsigned column = threadIdx.x / 2, k = first_k + column, half = threadIdx.x % 2 * kHalfChunk;
        if (k < job.p.cin && first_n + half < job.p.cout) {
            const float* from = job.w + (static_cast<size_t>(panel) * job.p.cin + k) * kPanel + half;
            const Quad first = load_quad(from), second = load_quad(from + 4);
            if (job.transposed != nullptr) {
                T* to = static_cast<T*>(job.transposed) + static_cast<size_t>(k) * job.p.cout + first_n + half;
                store_chunk(to, Chunk<T>{{first, second}});
            }
            NAT_UNROLL
            for (int i = 0; i < 8; ++i) {
                float* to = square + (half + i) * kRowsPitch + column;
                nat_note_shared(to, 4);
                *to = i < 4 ? component(first, i) : component(second, i - 4);
            }
        }
    }
    __syncthreads();
    const unsigned row = threadIdx.x % kPanel, column = threadIdx.x / kPanel * kHalfChunk;
    const unsigned n = first_n + row, k = first_k + column;
    if (n >= job.p.cout || k >= job.p.cin) return;
    float2 pairs[4];
    NAT_UNROLL
    for (int i = 0; i < 4; ++i) {
        const float* from = square + row * kRowsPitch + column + 2 * i;
        nat_note_shared(from, 8);
        pairs[i] = *reinterpret_cast<const float2*>(from);
    }
    const Quad first = make_float4(pairs[0].x, pairs[0].y, pairs[1].x, pairs[1].y);
    const Quad second = make_float4(pairs[2].x, pairs[2].y, pairs[3].x, pairs[3].y);
    store_chunk(static_cast<T*>(job.rows) + static_cast<size_t>(n) * job.p.cin + k, Chunk<T>{{first, second}});
}

#define HALF_ROWS_KERNEL(suffix, T)                                          \
    NAT_KERNEL_BOUNDED(half_rows_##suffix, kRowsThreads, HalfRowsArgs a) {   \
        NAT_SHARED(float, square, kPanel * kRowsPitch);                      \
        half_rows<T>(a.calls[blockIdx.y], square);                           \
    }
HALF_ROWS_KERNEL(f16, __half)
HALF_ROWS_KERNEL(bf16, __nv_bfloat16)
