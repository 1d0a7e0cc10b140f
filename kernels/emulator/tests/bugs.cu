// Kernels with planted bugs; bugs_check.cpp says who has to find each.
#include "nat_device.cuh"

// Writes one element past the end.
NAT_KERNEL(bug_global_bounds, float* x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) x[i] = 1.0f;
}

// Writes past the end of a static shared array through a pointer, and of dynamic shared memory.
NAT_KERNEL(bug_shared_bounds, float* x, int offset) {
    NAT_SHARED(float, array, 64);
    float* pointer = array;
    pointer[threadIdx.x + offset] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = pointer[threadIdx.x];
}
NAT_KERNEL(bug_dynamic_bounds, float* x, int offset) {
    NAT_DYNAMIC_SHARED(float, array);
    array[threadIdx.x + offset] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = array[threadIdx.x];
}

// An index past the end of a declared array.
NAT_KERNEL(bug_index, float* x, int offset) {
    NAT_SHARED(float, array, 64);
    array[threadIdx.x + offset] = 1.0f;
    x[threadIdx.x] = array[threadIdx.x + offset];
}

// Reads 16 bytes from an address that is a multiple of 4 only.
NAT_KERNEL(bug_misaligned, const float* x, float* y) {
    const float4 v = *reinterpret_cast<const float4*>(x + 1);
    y[threadIdx.x] = v.x + v.w;
}

// No barrier between writing shared memory and reading what a neighbour wrote.
NAT_KERNEL(bug_missing_barrier, float* x) {
    NAT_SHARED(float, array, 128);
    array[threadIdx.x] = static_cast<float>(threadIdx.x);
    x[threadIdx.x] = array[threadIdx.x > 0 ? threadIdx.x - 1 : 0];
}

// The same within a warp: a shuffle is no memory barrier.
NAT_KERNEL(bug_missing_syncwarp, float* x) {
    NAT_SHARED(float, array, 32);
    array[threadIdx.x] = static_cast<float>(threadIdx.x);
    const float unrelated = __shfl_xor_sync(0xffffffffu, 0.0f, 1);
    x[threadIdx.x] = array[threadIdx.x ^ 1] + unrelated;
}

// Every block adds to the same cell without an atomic.
NAT_KERNEL(bug_block_race, float* x) {
    if (threadIdx.x == 0) x[0] += 1.0f;
}

// Some threads at a barrier, the others done.
NAT_KERNEL(bug_divergent_exit, float* x) {
    if (threadIdx.x >= 7) return;
    __syncthreads();
    x[threadIdx.x] = 1.0f;
}

// Two halves of the block at two barriers.
NAT_KERNEL(bug_divergent_branch, float* x) {
    if (threadIdx.x < 16) {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
    } else {
        __syncthreads();
    }
}

// A shuffle that half of its mask never reaches.
NAT_KERNEL(bug_divergent_shuffle, float* x) {
    float value = 1.0f;
    if (threadIdx.x < 16) value = __shfl_xor_sync(0xffffffffu, value, 1);
    __syncthreads();
    x[threadIdx.x] = value;
}

// A shuffle by a lane that its mask does not name.
NAT_KERNEL(bug_mask, float* x) { x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1); }

// A tensor-core instruction by less than a warp.
NAT_KERNEL(bug_partial_mma, float* x) {
    const unsigned a[4] = {}, b[2] = {};
    float d[4] = {};
    nat_mma_f16(d, a, b, d);
    x[threadIdx.x] = d[0];
}

// ldmatrix from an address that is not a multiple of 16.
NAT_KERNEL(bug_ldmatrix_address, unsigned* x) {
    NAT_SHARED(unsigned, matrix, 64);
    matrix[threadIdx.x] = matrix[threadIdx.x + 32] = 0;
    __syncthreads();
    unsigned r[1];
    nat_ldmatrix_x1(r, matrix + threadIdx.x % 8 * 4 + 1);
    x[threadIdx.x] = r[0];
}

// Reads shared memory that nobody wrote.
NAT_KERNEL(bug_uninitialised, float* x) {
    NAT_SHARED(float, array, 64);
    if (threadIdx.x != 5) array[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = array[threadIdx.x];
}

// Does not wait for its asynchronous copy.
NAT_KERNEL(bug_missing_wait, const float* in, float* out) {
    NAT_SHARED(float, array, 128);
    nat_async_copy<16>(array + threadIdx.x * 4, in + threadIdx.x * 4);
    nat_async_commit();
    __syncthreads();
    out[threadIdx.x] = array[threadIdx.x * 4];
    nat_async_wait<0>();
}

// More shared memory than a block can have.
NAT_KERNEL(bug_too_much_shared, float* x) {
    NAT_SHARED(float, array, 1024);
    array[threadIdx.x] = 1.0f;
    x[threadIdx.x] = array[threadIdx.x];
}

NAT_KERNEL(bug_trap, float* x) {
    if (x != nullptr && threadIdx.x == 3) __trap();
}
