//! Launch geometry of `kernels/forward/pointwise.cu`: which tile suits the shape.

use super::Pointwise;
use crate::launch::{Error, Launcher};
use crate::ops::tile::{Tile, Tiles};

/// The kernels differ in their tile alone. Costs: a smaller tile reads its operands from shared memory
/// more often.
type Kernel = &'static str;

const WIDE: Tile<Kernel> = Tile { kernel: "pointwise_wide", rows: 128, columns: 64, threads: 128, cost: 100 };
const MID: Tile<Kernel> = Tile { kernel: "pointwise_mid", rows: 128, columns: 32, threads: 128, cost: 115 };
const THIN: Tile<Kernel> = Tile { kernel: "pointwise_thin", rows: 128, columns: 16, threads: 128, cost: 140 };
const SMALL: Tile<Kernel> = Tile { kernel: "pointwise_small", rows: 32, columns: 32, threads: 64, cost: 140 };

const TILES: Tiles<Kernel> = Tiles { large: [WIDE, MID, THIN], small: SMALL };

/// A block a tile of the product; tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn run(call: &Pointwise, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (rows, columns) = (to.count(p.rows() as u64)?, u64::from(p.cout));
    let tile = TILES.suiting(rows, columns, to.multiprocessors().count);
    to.launch(tile.kernel, to.blocks(tile.blocks(rows, columns), tile.threads)?, &call.addresses(to))
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
