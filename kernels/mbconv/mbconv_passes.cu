// The fused MBConv of mbconv.cu where batch norms take their own batch's statistics: it runs three times, and
// each time goes as far as the statistics that are known allow.
//
//   kernel              computes                                                            and measures
//   mbconv_expanded_*   r = half(x * expand)                                                r
//   mbconv_filtered_*   e = half(activation(expand_scale * r + expand_shift)), or x
//                       r2 = half(e conv filter)                                            r2
//   mbconv_projected_*  d = half(activation(filter_scale * r2 + filter_shift))
//                       y = half(half(d * g) * project), with g as in mbconv.cu             y
//
// Images are a whole number of batches, and scales and shifts are those of a batch: [batches][mid]. Measured
// are mean and squared deviations (M2) of each channel in every unit of rows (nat_mbconv_statistics.cuh); bn_merge of
// batch_norm.cu makes those of a batch of them. Nothing but y is stored. Sums are rounded before scale and
// shift: so this is the chain of pointwise_half, depthwise_half and squeeze_excite with a bn_statistics and a
// bn_apply behind each convolution. The first pass is any 1x1 convolution, a head's too. Checked on the
// emulator, not yet on a card.
//
// bytes: 2 images side_in^2 cin + 2 mid cin in each pass, 4 k^2 mid from the second on; in the third 2 images
//        side_out^2 cout + 2 mid cout and SE's; 8 for every unit and channel
// FLOPs: 2 images side_in^2 cin mid in each pass, 2 images side_out^2 k^2 mid from the second on; in the third
//        2 images side_out^2 mid cout and SE's; 3 for every number that is measured
//
// The chain writes four wide maps and reads them six times, seven with squeeze-excite. Here x is read three times.
//
// A block owns images of one batch, or a band of one, in whole units, and works as in mbconv.cu. The first two passes
// keep no more than a slice: their blocks are smaller.
#include "nat_mbconv.cuh"

NAT_LAYOUT(MbconvPassLaunch, whole, partials, batch_images);
NAT_LAYOUT(MbconvPassGroup, calls);

#define MBCONV_PASSES(suffix, T)                                            \
    MBCONV_PASS_KERNEL(mbconv_expanded_##suffix, T, kExpanded, 1, 1)        \
    MBCONV_PASS_KERNEL(mbconv_filtered_3_1_##suffix, T, kFiltered, 3, 1)    \
    MBCONV_PASS_KERNEL(mbconv_filtered_3_2_##suffix, T, kFiltered, 3, 2)    \
    MBCONV_PASS_KERNEL(mbconv_filtered_5_1_##suffix, T, kFiltered, 5, 1)    \
    MBCONV_PASS_KERNEL(mbconv_filtered_5_2_##suffix, T, kFiltered, 5, 2)    \
    MBCONV_PASS_KERNEL(mbconv_filtered_7_1_##suffix, T, kFiltered, 7, 1)    \
    MBCONV_PASS_KERNEL(mbconv_filtered_7_2_##suffix, T, kFiltered, 7, 2)    \
    MBCONV_PASS_KERNEL(mbconv_projected_3_1_##suffix, T, kProjected, 3, 1)  \
    MBCONV_PASS_KERNEL(mbconv_projected_3_2_##suffix, T, kProjected, 3, 2)  \
    MBCONV_PASS_KERNEL(mbconv_projected_5_1_##suffix, T, kProjected, 5, 1)  \
    MBCONV_PASS_KERNEL(mbconv_projected_5_2_##suffix, T, kProjected, 5, 2)  \
    MBCONV_PASS_KERNEL(mbconv_projected_7_1_##suffix, T, kProjected, 7, 1)  \
    MBCONV_PASS_KERNEL(mbconv_projected_7_2_##suffix, T, kProjected, 7, 2)

MBCONV_PASSES(f16, __half)
MBCONV_PASSES(bf16, __nv_bfloat16)
