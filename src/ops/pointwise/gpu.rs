//! Launch geometry of `kernels/pointwise.cu`: which tile suits the shape.

use super::{Params, Pointwise};
use crate::launch::{Error, Launcher};
use crate::ops::tile::{Tile, Tiles};

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    w: u64,
    scale: u64,
    shift: u64,
    gate: u64,
    residual: u64,
    y: u64,
    p: Params,
}

/// The kernels differ in their tile alone. Costs: a smaller tile reads its operands from shared memory
/// more often.
type Kernel = &'static str;

const WIDE: Tile<Kernel> = Tile { kernel: "pointwise_wide", rows: 128, columns: 64, threads: 128, cost: 100 };
const MID: Tile<Kernel> = Tile { kernel: "pointwise_mid", rows: 128, columns: 32, threads: 128, cost: 115 };
const THIN: Tile<Kernel> = Tile { kernel: "pointwise_thin", rows: 128, columns: 16, threads: 128, cost: 140 };
const SMALL: Tile<Kernel> = Tile { kernel: "pointwise_small", rows: 32, columns: 32, threads: 64, cost: 140 };

const TILES: Tiles<Kernel> = Tiles { large: [WIDE, MID, THIN], small: SMALL };

/// A block a tile of the product; tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn launch(call: &Pointwise, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (rows, columns) = (to.count(p.rows() as u64)?, u64::from(p.cout));
    let tile = TILES.suiting(rows, columns, to.multiprocessors());
    let args = Args {
        x: to.at(call.x),
        w: to.at(call.w),
        scale: to.at_or_null(call.scale),
        shift: to.at_or_null(call.shift),
        gate: to.at_or_null(call.gate),
        residual: to.at_or_null(call.residual),
        y: to.at(call.y),
        p,
    };
    to.launch(tile.kernel, to.blocks(tile.blocks(rows, columns), tile.threads)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!(
            "PointwiseParams",
            Params { images, side_in, side_out, cin, cout, weight_cin, stride, activation }
        ),
        layout!("PointwiseArgs", Args { x, w, scale, shift, gate, residual, y, p }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_their_shapes() {
        let many = |columns| TILES.suiting(1 << 20, columns, 132).kernel;
        assert_eq!(
            [8, 16, 24, 32].map(many),
            ["pointwise_thin", "pointwise_thin", "pointwise_mid", "pointwise_mid"]
        );
        assert_eq!(
            [40, 64, 96, 128, 960].map(many),
            ["pointwise_wide", "pointwise_wide", "pointwise_mid", "pointwise_wide", "pointwise_wide"]
        );
        assert_eq!(TILES.suiting(100, 1280, 132), SMALL);
        assert_eq!(TILES.suiting(100, 1280, 1), WIDE);
    }
}
