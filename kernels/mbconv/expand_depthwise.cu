// The first of the two kernels that an MBConv is where no image of it fits a block: expansion and depthwise filter, in
// f16 or bf16 on tensor cores. Gates (squeeze_excite.cu) and the projection with them (pointwise_half.cu) come behind.
//
//   e = half(activation(expand_scale * (x * expand) + expand_shift))                1x1, cin to mid; or x
//   d = half(activation(filter_scale * (e conv filter) + filter_shift))             depthwise k x k, stride s
//   means[row] = mean over the columns of d                                         f32, of every row of an image
//
// That is mbconv.cu without what comes behind d, and as there, half() rounds to the format, and all else is f32. In
// recalibration it is the last pass (mbconv_passes.cu) as far: scales and shifts are those of a batch, and applied to
// rounded sums.
// The means of an image are those of its rows' means: these do not depend on how an image is cut into
// bands, and squeeze_excite.cu takes them as a map of side_out pixels. Checked on the emulator, not yet on a card.
//
// bytes: 2 images (side_in^2 cin + side_out^2 mid) + 2 mid cin + 4 k^2 mid, and 4 images side_out mid of means
// FLOPs: 2 images mid (side_in^2 cin + side_out^2 k^2), and images mid side_out^2 of means
//
// The expanded map stays in shared memory, and of the depthwise output a block has no more than a slice. So it needs
// a third of the memory or less of what mbconv.cu does, and takes a band of rows of one image where an image does
// not fit.
#include "nat_mbconv.cuh"

NAT_LAYOUT(ExpandDepthwiseLaunch, whole, means, batch_images, rounds);

#define EXPAND_DEPTHWISE_KERNEL(name, T, kernel, stride)                                      \
    NAT_KERNEL_RESIDENT(name, kMbconvThreads, 2, ExpandDepthwiseLaunch launch) {              \
        NAT_DYNAMIC_SHARED(uint4, shared);                                                    \
        const mbconv::PairBlock<T> block(launch, shared);                                     \
        mbconv_filtered<kernel, stride, MbconvPass::kDepthwise>(block);                       \
    }

#define EXPAND_DEPTHWISE_KERNELS(suffix, T)                          \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_3_1_##suffix, T, 3, 1)  \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_3_2_##suffix, T, 3, 2)  \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_5_1_##suffix, T, 5, 1)  \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_5_2_##suffix, T, 5, 2)  \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_7_1_##suffix, T, 7, 1)  \
    EXPAND_DEPTHWISE_KERNEL(expand_depthwise_7_2_##suffix, T, 7, 2)

EXPAND_DEPTHWISE_KERNELS(f16, __half)
EXPAND_DEPTHWISE_KERNELS(bf16, __nv_bfloat16)
