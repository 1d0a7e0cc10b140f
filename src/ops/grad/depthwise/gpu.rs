//! Launch geometry of `kernels/backward/grad_depthwise.cu`.

use super::super::pointwise::gpu::MERGE;
use super::{CHUNK, DepthwiseInput, DepthwiseWeights, block_images};
use crate::launch::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 128;
/// Inputs of a row that a thread makes the gradient of.
const STRIP: u32 = 4;

/// A thread four neighbours of a row for 16 bytes of channels.
pub(crate) fn input(call: &DepthwiseInput, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let kernel = match (p.kernel, p.stride) {
        (3, 1) => kernel!("depthwise_input_3_1", p.format),
        (5, 1) => kernel!("depthwise_input_5_1", p.format),
        (_, 1) => kernel!("depthwise_input_7_1", p.format),
        (3, _) => kernel!("depthwise_input_3_2", p.format),
        (5, _) => kernel!("depthwise_input_5_2", p.format),
        _ => kernel!("depthwise_input_7_2", p.format),
    };
    let strips = u64::from(p.images) * u64::from(p.side_in) * u64::from(p.side_in.div_ceil(STRIP));
    to.launch(
        kernel,
        to.covering(strips * u64::from(p.channels / chunk(p.format)), THREADS)?,
        &call.addresses(to),
    )
}

/// A block 32 channels of some images; then a quad of the sum eight threads.
pub(crate) fn weights(call: &DepthwiseWeights, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let kernel = match (p.kernel, p.stride) {
        (3, 1) => kernel!("depthwise_weights_3_1", p.format),
        (5, 1) => kernel!("depthwise_weights_5_1", p.format),
        (_, 1) => kernel!("depthwise_weights_7_1", p.format),
        (3, _) => kernel!("depthwise_weights_3_2", p.format),
        (5, _) => kernel!("depthwise_weights_5_2", p.format),
        _ => kernel!("depthwise_weights_7_2", p.format),
    };
    let blocks = u64::from(p.images).div_ceil(block_images(&p) as u64);
    let chunks = u64::from(p.channels).div_ceil(CHUNK as u64);
    let args = call.addresses(to);
    to.launch(kernel, to.blocks(blocks * chunks, THREADS)?, &args)?;
    let quads = u64::from(p.kernel * p.kernel) * u64::from(p.channels / 4);
    to.launch("depthwise_weights_merge", to.blocks(quads.div_ceil(MERGE.0), MERGE.1)?, &args)
}
