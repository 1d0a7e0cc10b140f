//! Launch geometry of `kernels/backward/grad_squeeze_excite.cu`.

use super::SqueezeExciteGrad;
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::PANEL;
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 256;

/// A block 32 channels of an image; a block an image; a thread a quad of weights; a thread 16 bytes of
/// `dx`.
pub(crate) fn run(call: &SqueezeExciteGrad, to: &Launcher<'_>) -> Result<(), Error> {
    let (p, args) = (call.params, call.addresses(to));
    let blocks = u64::from(p.images) * u64::from(p.channels.div_ceil(32));
    to.launch(kernel!("se_squeeze", p.format), to.blocks(blocks, 128)?, &args)?;

    let panel = PANEL as u32;
    let shared_bytes = 4 * (2 * (p.channels + p.hidden) + p.hidden.div_ceil(panel) * THREADS);
    let geometry = Geometry { shared_bytes, ..to.blocks(u64::from(p.images), THREADS)? };
    to.launch("se_layers_f32", geometry, &args)?;

    let stored = |rows: u32, columns: u32| u64::from(rows.next_multiple_of(panel)) * u64::from(columns);
    let biases = u64::from(p.channels + p.hidden);
    let items = stored(p.hidden, p.channels) + stored(p.channels, p.hidden) + biases;
    to.launch("se_weights_f32", to.covering(items / 4, THREADS)?, &args)?;

    let items = u64::from(p.images) * u64::from(p.pixels) * u64::from(p.channels / chunk(p.format));
    to.launch(kernel!("se_input", p.format), to.covering(items, THREADS)?, &args)
}
