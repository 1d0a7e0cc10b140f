//! Launch geometry of `kernels/forward/squeeze_excite.cu`.

use super::super::PANEL;
use super::SqueezeExcite;
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 256;

/// A block an image. The pixels are split so that the block's threads have 16 bytes of channels each.
pub(crate) fn run(call: &SqueezeExcite, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let groups = (THREADS / (p.channels / chunk(p.format)).max(1)).clamp(1, p.pixels.max(1));
    let scratch = (groups * p.channels).max(p.hidden.div_ceil(PANEL as u32) * THREADS);
    let shared_bytes = 4 * (p.channels + p.hidden + scratch);
    let geometry = Geometry { shared_bytes, ..to.blocks(u64::from(p.images), THREADS)? };
    to.launch(kernel!("squeeze_excite", p.format), geometry, &call.addresses(to, groups))
}
