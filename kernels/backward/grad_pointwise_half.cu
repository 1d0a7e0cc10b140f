// Gradient of the weights of a 1x1 convolution in f16 or bf16 on tensor cores.
//
//   dw[n, k] += sum_m dz[m, n] * half(x[row(m), k] * gate[image(m), k])
//
// x and dz are 16-bit numbers of one format, two in a 32-bit word; half() rounds to it. gate is f32, and so
// are the sums, the partial sums and dw, which lies in panels as in grad_pointwise.cu. Checked on the
// emulator, not yet on a card.
//
// bytes: 2 (M K ceil(N / 64) + M N ceil(K / 64)) from the cache or memory, 4 K N M / 512 of partial sums
// FLOPs: 2 M K N
//
// The product adds over rows, in which neither operand lies side by side: slices of 32 rows of both pass
// through four buffers in shared memory as they lie, by cp.async, and ldmatrix transposes on the way to the
// fragments of mma.m16n8k16. Rows are cut into blocks of 512, so that there is work for every
// multiprocessor; pointwise_weights_merge of grad_pointwise.cu adds the blocks' products in order. A single
// block adds to the gradient itself. Three slices are on their way while one is multiplied: a multiprocessor
// that has one or two blocks must keep some 15 KB on their way to be given its share of the memory. A thread applies
// the gate to what it has copied itself. Neither ldmatrix nor the gate has bank conflicts (turned_chunk; the
// emulator counts them: emulator/tests/grad_pointwise_half_check.cpp). Pairs of sums become quads by one
// exchange between neighbours, so the gradient is written 16 bytes at a time.
//
//   kernel, _f16 and _bf16          tile      a warp    for
//   pointwise_half_weights_wide     64 x 64   32 x 32   many weights or rows
//   pointwise_half_weights_small    32 x 32   16 x 32   few of both
//
// Every sum is one chain of products over the rows of its block in order, whatever the tile.
#include "nat_grad_pointwise_half.cuh"

NAT_LAYOUT(PointwiseHalfWeightsParams, shape, format);
NAT_LAYOUT(PointwiseHalfWeightsArgs, x, dz, gate, partials, dw, p);

POINTWISE_HALF_WEIGHTS_KERNEL(pointwise_half_weights_wide_f16, __half, 64, 64, 2, 2)
POINTWISE_HALF_WEIGHTS_KERNEL(pointwise_half_weights_small_f16, __half, 32, 32, 2, 1)

POINTWISE_HALF_WEIGHTS_KERNEL(pointwise_half_weights_wide_bf16, __nv_bfloat16, 64, 64, 2, 2)
POINTWISE_HALF_WEIGHTS_KERNEL(pointwise_half_weights_small_bf16, __nv_bfloat16, 32, 32, 2, 1)
