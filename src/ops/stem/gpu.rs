//! Launch geometry of `kernels/forward/stem.cu`.

use super::Stem;
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::halves::kernel;

const THREADS: u32 = 128;
/// Outputs of a block, across and down.
const TILE: (u32, u32) = (16, 8);

/// A block a tile of an image; the filters are in dynamic shared memory.
pub(crate) fn run(call: &Stem, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let tiles = u64::from(p.side_out.div_ceil(TILE.0)) * u64::from(p.side_out.div_ceil(TILE.1));
    let geometry =
        Geometry { shared_bytes: 4 * 27 * p.cout, ..to.blocks(tiles * u64::from(p.images), THREADS)? };
    to.launch(kernel!("stem", p.format), geometry, &call.addresses(to))
}
