// A whole inverted bottleneck (MBConv) of inference in one kernel, in f16 or bf16 on tensor cores.
//
//   e = half(activation(expand_scale * (x * expand) + expand_shift))                1x1, cin to mid; or
//   e = half(stem_activation(expand_scale * (x conv stem) + expand_shift))          3x3, stride 2, 3 to mid; or x
//   d = half(activation(filter_scale * (e conv filter) + filter_shift))             depthwise k x k, stride s
//   g = hsigmoid(excite * relu(reduce * mean(d) + reduce_bias) + excite_bias)       or 1 without squeeze-excite
//   y = half(project_scale * (half(d * g) * project) + project_shift + residual)    1x1, mid to cout
//
// x, the pointwise weights, residual and y are 16-bit numbers of one format, two in a 32-bit word; half()
// rounds to it. Everything else is f32, sums too, and so are the images that are a stem's x: this is the
// chain of pointwise_half or stem, depthwise, squeeze_excite and pointwise_half, with the maps between them
// in 16 bits. Checked on the emulator, not yet on a card.
//
// bytes: 2 images (side_in^2 cin + side_out^2 cout) + 2 mid (cin + cout) + 4 k^2 mid + SE's, and a residual that
//        is not x; of a stem 12 images image_side^2 + 108 mid instead of what has cin
// FLOPs: 2 images mid (side_in^2 cin + side_out^2 (k^2 + cout)) + images mid (side_out^2 + 4 hidden);
//        27 for cin of a stem
//
// The maps that the chain writes and reads again stay in shared memory: 2 images mid (2 side_in^2 + 2
// side_out^2) bytes less, and more with squeeze-excite, which reads the depthwise output once more and scales it.
//
// A block owns whole images, or, where there is no squeeze-excite, a band of rows of one, with the input rows
// above and below that its filter needs. It takes the expanded channels in slices: expands a slice (tensor cores),
// filters it (the slice is all that lives of the expanded map), and keeps the depthwise output of all slices,
// which is what squeeze-excite needs. Then it makes the gates, multiplies by them in place, and projects.
// Small maps: several images a block, so that its weights, read from the L2 cache, serve more pixels. Which
// shapes fit, and how they are cut, is crate::ops::mbconv::blocks.
//
// The kernels with a stem are those of a network's first layers: a filter of 3x3 with stride 1, no
// squeeze-excite, one slice, whose numbers are the residual too.
//
// A launch takes up to fifteen calls of one kernel, a row of the grid each: those of many networks fill a card
// together, and those of one input find it in the L2 cache.
//
// Every output is one chain of products over the channels in order, and every mean one sum over the
// pixels in order: results do not depend on how a block cuts its work, nor on how many images it owns.
#include "nat_mbconv.cuh"

NAT_LAYOUT(MbconvParams, images, side_in, side_out, cin, mid, cout, kernel, stride, activation, hidden, weight_cin,
           weight_channels, weight_mid, se_channels, se_hidden, image_side, stem_activation, shortcut, format);
NAT_LAYOUT(MbconvArgs, x, stem, expand, expand_scale, expand_shift, filter, filter_scale, filter_shift, reduce, reduce_bias,
           excite, excite_bias, project, project_scale, project_shift, residual, y, p);
NAT_LAYOUT(MbconvConfig, images, slice, groups, tiles, expanded_pixel, expanded_row, x_at, weights_at, filter_at,
           project_at, kept_at, bands, band_rows);
NAT_LAYOUT(MbconvLaunch, a, c);
NAT_LAYOUT(MbconvGroup, calls);

MBCONV_KERNEL(mbconv_3_1_f16, __half, 3, 1)
MBCONV_KERNEL(mbconv_3_2_f16, __half, 3, 2)
MBCONV_KERNEL(mbconv_5_1_f16, __half, 5, 1)
MBCONV_KERNEL(mbconv_5_2_f16, __half, 5, 2)
MBCONV_KERNEL(mbconv_7_1_f16, __half, 7, 1)
MBCONV_KERNEL(mbconv_7_2_f16, __half, 7, 2)

MBCONV_STEM_KERNEL(mbconv_stem_f16, __half)

MBCONV_KERNEL(mbconv_3_1_bf16, __nv_bfloat16, 3, 1)
MBCONV_KERNEL(mbconv_3_2_bf16, __nv_bfloat16, 3, 2)
MBCONV_KERNEL(mbconv_5_1_bf16, __nv_bfloat16, 5, 1)
MBCONV_KERNEL(mbconv_5_2_bf16, __nv_bfloat16, 5, 2)
MBCONV_KERNEL(mbconv_7_1_bf16, __nv_bfloat16, 7, 1)
MBCONV_KERNEL(mbconv_7_2_bf16, __nv_bfloat16, 7, 2)
MBCONV_STEM_KERNEL(mbconv_stem_bf16, __nv_bfloat16)
