// Sample kernels that exercise the emulator; samples_check.cpp runs them. Not part of natv2.
#include "nat_grad_pointwise_half.cuh"
#include "nat_pointwise_half.cuh"

// C[m, n] = A[m, k] B[k, n] with 16 x 16 tiles in static shared memory; any sizes.
constexpr int kTile = 16;
NAT_KERNEL(sample_matmul_tiled, const float* __restrict__ a, const float* __restrict__ b, float* c, int m, int n,
           int k) {
    NAT_SHARED(float, tile_a, kTile * kTile);
    NAT_SHARED(float, tile_b, kTile * kTile);
    const int x = threadIdx.x, y = threadIdx.y;
    const int row = blockIdx.y * kTile + y, column = blockIdx.x * kTile + x;
    float sum = 0.0f;
    for (int start = 0; start < k; start += kTile) {
        tile_a[y * kTile + x] = row < m && start + x < k ? a[row * k + start + x] : 0.0f;
        tile_b[y * kTile + x] = column < n && start + y < k ? b[(start + y) * n + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < kTile; ++i) sum += tile_a[y * kTile + i] * tile_b[i * kTile + x];
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// The same with 64 x 64 tiles, 4 x 4 results a thread, dynamic shared memory, 16-byte reads.
NAT_KERNEL_BOUNDED(sample_matmul_blocked, 256, const float* __restrict__ a, const float* __restrict__ b, float* c,
                   int m, int n, int k) {
    NAT_DYNAMIC_SHARED(float, tiles);
    float* tile_a = tiles;            // [16][64], k-major
    float* tile_b = tiles + 16 * 64;  // [16][64]
    const int thread = threadIdx.x, x = thread % 16, y = thread / 16;
    const int first_row = blockIdx.y * 64, first_column = blockIdx.x * 64;
    float sum[4][4] = {};
    for (int start = 0; start < k; start += 16) {
        for (int i = thread; i < 16 * 64; i += 256) {
            const int ka = i % 16, row = i / 16;
            tile_a[ka * 64 + row] = first_row + row < m && start + ka < k ? a[(first_row + row) * k + start + ka] : 0.0f;
            const int column = i % 64, kb = i / 64;
            tile_b[kb * 64 + column] =
                first_column + column < n && start + kb < k ? b[(start + kb) * n + first_column + column] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            const float4 u = *reinterpret_cast<const float4*>(&tile_a[i * 64 + y * 4]);
            const float4 v = *reinterpret_cast<const float4*>(&tile_b[i * 64 + x * 4]);
            const float left[4] = {u.x, u.y, u.z, u.w}, right[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int r = 0; r < 4; ++r) {
#pragma unroll
                for (int s = 0; s < 4; ++s) sum[r][s] += left[r] * right[s];
            }
        }
        __syncthreads();
    }
    for (int r = 0; r < 4; ++r) {
        for (int s = 0; s < 4; ++s) {
            const int row = first_row + y * 4 + r, column = first_column + x * 4 + s;
            if (row < m && column < n) c[row * n + column] = sum[r][s];
        }
    }
}

// Sum of n floats: grid-stride loop, warp shuffles, shared memory, one atomic a block.
NAT_KERNEL(sample_reduce, const float* x, float* sum, int n) {
    NAT_SHARED(float, partial, 32);
    float value = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) value += __ldg(x + i);
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    if (warp == 0) {
        value = lane < static_cast<int>(blockDim.x / 32) ? partial[lane] : 0.0f;
        for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
        if (lane == 0) atomicAdd(sum, value);
    }
}

// Every lane writes what each kind of shuffle, vote and barrier reduction gives it.
NAT_KERNEL(sample_collectives, int* out, int width, int operand) {
    const int lane = threadIdx.x % 32;
    int* mine = out + threadIdx.x * 12;
    mine[0] = __shfl_sync(0xffffffffu, lane, operand, width);
    mine[1] = __shfl_up_sync(0xffffffffu, lane, operand, width);
    mine[2] = __shfl_down_sync(0xffffffffu, lane, operand, width);
    mine[3] = __shfl_xor_sync(0xffffffffu, lane, operand, width);
    mine[4] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
    mine[5] = __any_sync(0xffffffffu, lane == 31);
    mine[6] = __all_sync(0xffffffffu, lane < 31);
    // The two halves of the warp apart, with masks of their own and different counts.
    int sum = lane;
    if (lane < 16) {
        for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, step);
    } else {
        sum = __shfl_sync(0xffff0000u, sum, 20);
    }
    __syncwarp();
    mine[7] = sum;
    mine[8] = __syncthreads_count(threadIdx.x % 5 == 0);
    mine[9] = __syncthreads_and(threadIdx.x < blockDim.x);
    mine[10] = __syncthreads_or(threadIdx.x == blockDim.x);
    // 8-byte values.
    mine[11] = static_cast<int>(__shfl_xor_sync(0xffffffffu, static_cast<unsigned long long>(lane) << 40, 1) >> 40);
}

// Lanes that return early: a shuffle among the rest.
NAT_KERNEL(sample_early_exit, int* out) {
    const int lane = threadIdx.x;
    if (lane >= 8) return;
    int sum = lane;
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(0x000000ffu, sum, step);
    __syncwarp();  // the full mask: exited lanes are not waited for
    out[lane] = sum;
}

// All the atomics on one cell each.
NAT_KERNEL(sample_atomics, int* ints, unsigned* words, float* sum) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&ints[0], 1);
    atomicSub(&ints[1], 2);
    atomicMax(&ints[2], thread);
    atomicMin(&ints[3], -thread);
    atomicOr(&ints[4], 1 << (thread % 31));
    atomicAnd(&ints[5], ~(1 << (thread % 31)));
    atomicCAS(&ints[6], 0, thread + 1);
    atomicAdd(&words[0], 3u);
    atomicMax(&words[1], 0x80000000u + static_cast<unsigned>(thread));
    atomicMin(&words[2], 0xffffffffu - static_cast<unsigned>(thread));
    atomicExch(&words[3], 7u);
    atomicAdd(sum, 1.0f);
}

// D[m, n] = A[m, k] B[n, k]^T, f16 or bf16 in, f32 out: one warp makes 16 x 8. m, n, k multiples
// of 16, 8 and 16. Fragments are read straight from memory, as the PTX manual lays them out.
template <bool bfloat16, class T>
__device__ __forceinline__ void matmul_mma(const T* a, const T* b, float* d, int n, int k) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int row = blockIdx.y * 16, column = (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * 8;
    float sum[4] = {};
    for (int start = 0; start < k; start += 16) {
        auto pair = [](const T* p) { return *reinterpret_cast<const unsigned*>(p); };
        const unsigned fragment_a[4] = {
            pair(a + (row + g) * k + start + 2 * t), pair(a + (row + g + 8) * k + start + 2 * t),
            pair(a + (row + g) * k + start + 2 * t + 8), pair(a + (row + g + 8) * k + start + 2 * t + 8)};
        const unsigned fragment_b[2] = {pair(b + (column + g) * k + start + 2 * t),
                                        pair(b + (column + g) * k + start + 2 * t + 8)};
        if (bfloat16) {
            nat_mma_bf16(sum, fragment_a, fragment_b, sum);
        } else {
            nat_mma_f16(sum, fragment_a, fragment_b, sum);
        }
    }
    d[(row + g) * n + column + 2 * t] = sum[0];
    d[(row + g) * n + column + 2 * t + 1] = sum[1];
    d[(row + g + 8) * n + column + 2 * t] = sum[2];
    d[(row + g + 8) * n + column + 2 * t + 1] = sum[3];
}
NAT_KERNEL(sample_mma_f16, const __half* a, const __half* b, float* d, int n, int k) {
    matmul_mma<false>(a, b, d, n, k);
}
NAT_KERNEL(sample_mma_bf16, const __nv_bfloat16* a, const __nv_bfloat16* b, float* d, int n, int k) {
    matmul_mma<true>(a, b, d, n, k);
}

// The same for one warp and one 16 x 8 x k problem, the way a fast kernel does it: cp.async into
// two buffers, ldmatrix for the fragments. B is [k, n] row-major here, so its matrices are loaded
// transposed.
NAT_KERNEL(sample_mma_pipeline, const __half* a, const __half* b, float* d, int k) {
    NAT_SHARED(__half, tile_a, 2 * 16 * 16);
    NAT_SHARED(__half, tile_b, 2 * 16 * 8);
    const int lane = threadIdx.x;
    auto load = [&](int step) {
        const int buffer = step % 2;
        nat_async_copy<16>(tile_a + buffer * 256 + lane * 8, a + (lane / 2) * k + step * 16 + (lane % 2) * 8);
        if (lane < 16) nat_async_copy<16>(tile_b + buffer * 128 + lane * 8, b + (step * 16 + lane) * 8);
        nat_async_commit();
    };
    const int steps = k / 16;
    float sum[4] = {};
    load(0);
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) {
            load(step + 1);
            nat_async_wait<1>();
        } else {
            nat_async_wait<0>();
        }
        __syncthreads();
        const int buffer = step % 2;
        unsigned fragment_a[4], fragment_b[2];
        // Matrices of A: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15.
        nat_ldmatrix_x4(fragment_a, tile_a + buffer * 256 + (lane % 16) * 16 + (lane / 16) * 8);
        nat_ldmatrix_x2_trans(fragment_b, tile_b + buffer * 128 + (lane % 16) * 8);
        nat_mma_f16(sum, fragment_a, fragment_b, sum);
        __syncthreads();
    }
    const int g = lane / 4, t = lane % 4;
    d[g * 8 + 2 * t] = sum[0];
    d[g * 8 + 2 * t + 1] = sum[1];
    d[(g + 8) * 8 + 2 * t] = sum[2];
    d[(g + 8) * 8 + 2 * t + 1] = sum[3];
}

// What each lane gets from ldmatrix: 14 registers (x1, x2, x4, and the same transposed).
NAT_KERNEL(sample_ldmatrix, const unsigned short* in, unsigned* out) {
    NAT_SHARED(unsigned short, matrices, 4 * 64);
    const int lane = threadIdx.x;
    for (int i = lane; i < 4 * 64; i += 32) matrices[i] = in[i];
    __syncthreads();
    const void* row = matrices + lane * 8;
    unsigned one[1], two[2], four[4];
    unsigned* mine = out + lane * 14;
    nat_ldmatrix_x1(one, row);
    mine[0] = one[0];
    nat_ldmatrix_x2(two, row);
    for (int i = 0; i < 2; ++i) mine[1 + i] = two[i];
    nat_ldmatrix_x4(four, row);
    for (int i = 0; i < 4; ++i) mine[3 + i] = four[i];
    nat_ldmatrix_x1_trans(one, row);
    mine[7] = one[0];
    nat_ldmatrix_x2_trans(two, row);
    for (int i = 0; i < 2; ++i) mine[8 + i] = two[i];
    nat_ldmatrix_x4_trans(four, row);
    for (int i = 0; i < 4; ++i) mine[10 + i] = four[i];
}

// cp.async of every width, and its filling with zeros: out[i] = in[i] for i < n, else 0.
NAT_KERNEL(sample_async_copy, const float* in, float* out, int n) {
    NAT_DYNAMIC_SHARED(float, buffer);
    const int thread = threadIdx.x, threads = blockDim.x;
    const int i = thread * 7;  // 4 + 2 + 1 floats a thread, each in a region aligned for it
    float* four = buffer + thread * 4;
    float* two = buffer + threads * 4 + thread * 2;
    float* one = buffer + threads * 6 + thread;
    const float* from = in + thread * 8;
    nat_async_copy<16>(four, from, thread * 8 + 3 < n);
    nat_async_copy<8>(two, from + 4, thread * 8 + 5 < n);
    nat_async_copy<4>(one, from + 6, thread * 8 + 6 < n);
    nat_async_commit();
    nat_async_wait<0>();
    for (int j = 0; j < 4; ++j) out[i + j] = four[j];
    for (int j = 0; j < 2; ++j) out[i + 4 + j] = two[j];
    out[i + 6] = one[0];
}

// Conversions and arithmetic of both 16-bit types, for all pairs of bits given.
NAT_KERNEL(sample_half, const unsigned* in, unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const __half2 h = *reinterpret_cast<const __half2*>(in + i);
    const float2 f = __half22float2(h);
    __half2 sum = __floats2half2_rn(f.x + f.y, f.x * f.y);
    *reinterpret_cast<__half2*>(out + 2 * i) = sum;
    const __nv_bfloat162 b = *reinterpret_cast<const __nv_bfloat162*>(in + i);
    const float2 g = __bfloat1622float2(b);
    __nv_bfloat162 product = __floats2bfloat162_rn(g.x + g.y, g.x * g.y);
    *reinterpret_cast<__nv_bfloat162*>(out + 2 * i + 1) = product;
}

// Shared memory of every block is fresh: each block says whether it saw anything but poison.
NAT_KERNEL(sample_poison, unsigned* seen) {
    NAT_SHARED(unsigned, fixed, 33);
    NAT_DYNAMIC_SHARED(unsigned, dynamic);
    const unsigned i = threadIdx.x;
    const unsigned before = fixed[i] | dynamic[i];
    __syncthreads();
    fixed[i] = dynamic[i] = blockIdx.x;
    seen[blockIdx.x * blockDim.x + i] = before;
}

// No barrier at all: threads of three dimensions, each writes where it is.
NAT_KERNEL(sample_indices, uint4* out) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
        make_uint4(blockIdx.x * 100 + threadIdx.x, blockIdx.y * 100 + threadIdx.y, blockIdx.z * 100 + threadIdx.z, thread);
}

// A kernel of pointwise_half.cu with its rows as they come, to see that their turn is what keeps the
// banks free of conflicts.
POINTWISE_HALF_KERNEL(sample_pointwise_half_unswizzled, __half, 32, 32, 2, false, false)


// The same of grad_pointwise_half.cu.
POINTWISE_HALF_WEIGHTS_KERNEL(sample_pointwise_half_weights_unswizzled, __half, 32, 32, 2, 1, false)
