//! Launch geometry of `kernels/branches.cu`: a block a tile of 32 input pixels.

use super::{Branch, Branches, MAX_CIN, Params};
use crate::launch::{Error, Geometry, Launcher};

const THREADS: u32 = 128;

/// Input pixels of a tile; with a stride, the windows of eight outputs.
const ROWS: u32 = 32;

#[repr(C)]
#[derive(Clone, Copy)]
struct BranchArgs {
    w: u64,
    scale: u64,
    shift: u64,
    y: u64,
}

impl BranchArgs {
    fn of(branch: &Option<Branch>, to: &Launcher<'_>) -> BranchArgs {
        let at =
            |slot: fn(&Branch) -> Option<crate::ops::Slot>| to.at_or_null(branch.as_ref().and_then(slot));
        BranchArgs { w: at(|b| b.w), scale: at(|b| b.scale), shift: at(|b| b.shift), y: at(|b| b.y) }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    expand: BranchArgs,
    pointwise: BranchArgs,
    transform: BranchArgs,
    sum: u64,
    p: Params,
    parts: u32,
}

/// Where tiles are too few to give every multiprocessor two blocks, several share a tile's outputs.
pub(crate) fn launch(call: &Branches, to: &Launcher<'_>) -> Result<(), Error> {
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
    let wanted = (2 * u64::from(to.multiprocessors())).div_ceil(tiles.max(1));
    let parts = (wanted as u32).clamp(1, items.div_ceil(THREADS).max(1));
    let args = Args {
        x: to.at(call.x),
        expand: BranchArgs::of(&call.expand, to),
        pointwise: BranchArgs::of(&call.pointwise, to),
        transform: BranchArgs::of(&call.transform, to),
        sum: to.at_or_null(call.sum),
        p,
        parts,
    };
    let geometry = to.blocks(tiles * u64::from(parts), THREADS)?;
    to.launch(kernel, Geometry { shared_bytes: 4 * p.cin * pitch, ..geometry }, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!(
            "BranchesParams",
            Params { images, side_in, side_out, cin, mid, cout, stride, activation, shortcut }
        ),
        layout!("BranchArgs", BranchArgs { w, scale, shift, y }),
        layout!("BranchesArgs", Args { x, expand, pointwise, transform, sum, p, parts }),
    ]
}
