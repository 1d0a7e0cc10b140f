//! Launch geometry of `kernels/backward/grad_stem.cu`.

use super::super::pointwise::gpu::MERGE;
use super::{STRIP, StemWeights};
use crate::launch::{Error, Launcher};
use crate::ops::halves::kernel;

const THREADS: u32 = 64;

/// A block a strip of an image; then a quad of the sum eight threads.
pub(crate) fn weights(call: &StemWeights, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let strips = u64::from(p.images) * u64::from(p.side_out.div_ceil(STRIP));
    let args = call.addresses(to);
    to.launch(kernel!("stem_weights", p.format), to.blocks(strips, THREADS)?, &args)?;
    let quads = 27 * u64::from(p.cout) / 4;
    to.launch("stem_weights_merge", to.blocks(quads.div_ceil(MERGE.0), MERGE.1)?, &args)
}
