//! Launch geometry of `kernels/squeeze_excite.cu`.

use super::super::PANEL;
use super::{Params, SqueezeExcite};
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    reduce: u64,
    reduce_bias: u64,
    expand: u64,
    expand_bias: u64,
    gate: u64,
    p: Params,
    groups: u32,
}

/// A block an image. The pixels are split so that the block's threads have 16 bytes of channels each.
pub(crate) fn launch(call: &SqueezeExcite, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let groups = (THREADS / (p.channels / chunk(p.format)).max(1)).clamp(1, p.pixels.max(1));
    let scratch = (groups * p.channels).max(p.hidden.div_ceil(PANEL as u32) * THREADS);
    let shared_bytes = 4 * (p.channels + p.hidden + scratch);
    let args = Args {
        x: to.at(call.x),
        reduce: to.at(call.reduce),
        reduce_bias: to.at(call.reduce_bias),
        expand: to.at(call.expand),
        expand_bias: to.at(call.expand_bias),
        gate: to.at(call.gate),
        p,
        groups,
    };
    let geometry = Geometry { shared_bytes, ..to.blocks(u64::from(p.images), THREADS)? };
    to.launch(kernel!("squeeze_excite", p.format), geometry, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!(
            "SqueezeExciteParams",
            Params { images, pixels, channels, hidden, weight_channels, weight_hidden, format }
        ),
        layout!("SqueezeExciteArgs", Args { x, reduce, reduce_bias, expand, expand_bias, gate, p, groups }),
    ]
}
