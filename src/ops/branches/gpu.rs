//! Launch geometry of `kernels/forward/branches.cu`: a block a tile of 32 input pixels.

use super::{Branches, MAX_CIN};
use crate::launch::{Error, Geometry, Launcher};

const THREADS: u32 = 128;

/// Input pixels of a tile; with a stride, the windows of eight outputs.
const ROWS: u32 = 32;

/// Where tiles are too few to give every multiprocessor two blocks, several share a tile's outputs.
pub(crate) fn run(call: &Branches, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    assert!(p.cin as usize <= MAX_CIN, "{p:?}: a tile holds {MAX_CIN} input channels");
    let (kernel, outputs, pitch) = match p.stride {
        1 => ("branches_1", ROWS, ROWS + 4),
        _ => ("branches_2", ROWS / 4, ROWS + ROWS / 4 + 4),
    };
    to.count(p.rows_in() as u64)?;
    let tiles = (p.rows_out() as u64).div_ceil(u64::from(outputs));
    // A thread makes four columns of eight rows at a time.
    let items = p.mid + p.cout / 4 * (outputs / 8);
    let wanted = (2 * u64::from(to.multiprocessors().count)).div_ceil(tiles.max(1));
    let parts = (wanted as u32).clamp(1, items.div_ceil(THREADS).max(1));
    let geometry = to.blocks(tiles * u64::from(parts), THREADS)?;
    to.launch(kernel, Geometry { shared_bytes: 4 * p.cin * pitch, ..geometry }, &call.addresses(to, parts))
}
