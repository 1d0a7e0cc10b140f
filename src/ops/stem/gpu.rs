//! Launch geometry of `kernels/stem.cu`.

use super::{Params, Stem};
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::halves::kernel;

const THREADS: u32 = 128;
/// Outputs of a block, across and down.
const TILE: (u32, u32) = (16, 8);

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    w: u64,
    scale: u64,
    shift: u64,
    y: u64,
    p: Params,
}

/// A block a tile of an image; the filters are in dynamic shared memory.
pub(crate) fn launch(call: &Stem, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let tiles = u64::from(p.side_out.div_ceil(TILE.0)) * u64::from(p.side_out.div_ceil(TILE.1));
    let geometry =
        Geometry { shared_bytes: 4 * 27 * p.cout, ..to.blocks(tiles * u64::from(p.images), THREADS)? };
    let args = Args {
        x: to.at(call.x),
        w: to.at(call.w),
        scale: to.at_or_null(call.scale),
        shift: to.at_or_null(call.shift),
        y: to.at(call.y),
        p,
    };
    to.launch(kernel!("stem", p.format), geometry, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!("StemParams", Params { images, side_in, side_out, cout, activation, format }),
        layout!("StemArgs", Args { x, w, scale, shift, y, p }),
    ]
}
