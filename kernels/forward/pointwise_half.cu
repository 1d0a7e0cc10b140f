// 1x1 convolution, or a linear layer, in f16 or bf16 on tensor cores, with everything around it.
//
//   y[m, n] = half(activation(scale[n] * sum_k half(x[row(m), k] * gate[image(m), k]) * w[n, k] + shift[n])
//                  + residual[m, n])
//
// or, pooled, y[i, n] = half(mean of all that over the pixels m of image i). x, w, residual and y are 16-bit
// numbers of one format, two in a 32-bit word; half() rounds to it. scale, shift and gate are f32, and so are
// the sums and everything between them and y, which may be f32 itself: then its last half() is left out.
// Checked on the emulator, not yet on a card.
//
// bytes: 2 (M K + K N + M N), 2 M N with a residual, and the small f32 arrays   FLOPs: 2 M K N
//        pooled, N a image in place of M N; an f32 y twice its numbers
//
// That is x once where one tile holds all columns, else once a tile from the cache. At the widest maps of
// a network of 64 px (K 16, N 64) it comes to 13 FLOPs a byte, and at the late stages (K 960, N 160, M 256)
// to 89: a card with some 300 tensor-core FLOPs for each byte of memory, as an H100, is bound by memory at both.
//
// Weights lie as rows of input channels, [N][weight_cin]; a sub-network uses a prefix of the rows and of
// each row, as they lie. Channels are multiples of 8: a 16-byte chunk is inside or outside.
//
// A block makes a tile of kRows x kColumns of y; each warp a strip of its rows, all columns. Slices of 32
// input channels of x and w pass through two buffers in shared memory by cp.async: while one is
// multiplied, the next is on its way, so a slice costs one barrier. A thread applies the gate to what it
// has copied itself, before that barrier. ldmatrix takes the fragments of mma.m16n8k16 from a layout
// without bank conflicts (chunk_at). The sums leave through shared memory, 16 rows of a warp at a time,
// so that y is written, and the residual read, 16 bytes at a time; no bank conflicts there either (the
// emulator counts them: emulator/tests/pointwise_half_check.cpp). Channels behind the last are zeros, so
// each output is one chain of products over the input channels in order, whatever the tile: results do
// not depend on which of the kernels below runs.
//
//   kernel, _f16 and _bf16   tile       a warp    for
//   pointwise_half_wide      128 x 64   32 x 64   many outputs
//   pointwise_half_mid       128 x 32   32 x 32   17 to 32 outputs, or that many left over
//   pointwise_half_thin      128 x 16   32 x 16   up to 16 outputs
//   pointwise_half_small      32 x 32   16 x 32   few rows: the late stages, or few images
//   pointwise_half_pool      128 x 64   32 x 64   pooled
//   pointwise_half_pool_small 32 x 64   16 x 64   pooled, few images
//
// A pooled tile's rows are whole images, or those of one that takes several tiles, one after the other. Its
// outputs stay in shared memory, rounded, until they are summed, pixel by pixel.
//
// Registers a thread: 128, 80 to 96, 64, 64, and pooled 128; no spills (RESOURCES.md). All global accesses are
// 128 bits wide (SASS.md).
#include "nat_pointwise_half.cuh"

NAT_LAYOUT(PointwiseHalfParams, shape, output, pooled, format);
NAT_LAYOUT(PointwiseHalfArgs, x, w, scale, shift, gate, residual, y, p);

POINTWISE_HALF_KERNEL(pointwise_half_wide_f16, __half, 128, 64, 4)
POINTWISE_HALF_KERNEL(pointwise_half_mid_f16, __half, 128, 32, 4)
POINTWISE_HALF_KERNEL(pointwise_half_thin_f16, __half, 128, 16, 4)
POINTWISE_HALF_KERNEL_RESIDENT(pointwise_half_small_f16, 16, __half, 32, 32, 2)
POINTWISE_HALF_KERNEL(pointwise_half_pool_f16, __half, 128, 64, 4, true)
POINTWISE_HALF_KERNEL(pointwise_half_pool_small_f16, __half, 32, 64, 2, true)

POINTWISE_HALF_KERNEL(pointwise_half_wide_bf16, __nv_bfloat16, 128, 64, 4)
POINTWISE_HALF_KERNEL(pointwise_half_mid_bf16, __nv_bfloat16, 128, 32, 4)
POINTWISE_HALF_KERNEL(pointwise_half_thin_bf16, __nv_bfloat16, 128, 16, 4)
POINTWISE_HALF_KERNEL_RESIDENT(pointwise_half_small_bf16, 16, __nv_bfloat16, 32, 32, 2)
POINTWISE_HALF_KERNEL(pointwise_half_pool_bf16, __nv_bfloat16, 128, 64, 4, true)
POINTWISE_HALF_KERNEL(pointwise_half_pool_small_bf16, __nv_bfloat16, 32, 64, 2, true)
