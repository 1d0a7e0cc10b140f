//! Launch geometry of `kernels/pointwise_half.cu`: which tile suits the shape.

use super::PointwiseHalf;
use crate::device::{Error, Launcher};
use crate::ops::tile::{Tile, Tiles};

/// The kernels, by format: they differ in their tile and their format alone. Costs are estimates: a
/// smaller tile loads more fragments for each product.
type Kernel = [&'static str; 2];

const WIDE: Tile<Kernel> = Tile {
    kernel: ["pointwise_half_wide_f16", "pointwise_half_wide_bf16"],
    rows: 128,
    columns: 64,
    threads: 128,
    cost: 100,
};
const MID: Tile<Kernel> =
    Tile { kernel: ["pointwise_half_mid_f16", "pointwise_half_mid_bf16"], columns: 32, cost: 115, ..WIDE };
const THIN: Tile<Kernel> =
    Tile { kernel: ["pointwise_half_thin_f16", "pointwise_half_thin_bf16"], columns: 16, cost: 140, ..WIDE };
const SMALL: Tile<Kernel> = Tile {
    kernel: ["pointwise_half_small_f16", "pointwise_half_small_bf16"],
    rows: 32,
    columns: 32,
    threads: 64,
    cost: 140,
};

const TILES: Tiles<Kernel> = Tiles { large: [WIDE, MID, THIN], small: SMALL };

/// A block a tile of the product; tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn launch(call: &PointwiseHalf, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    // Kernels take 16 bytes at a time.
    debug_assert!(call.reads().iter().chain(&call.writes()).all(|slot| slot.offset.is_multiple_of(4)));
    let (rows, columns) = (to.count(p.shape.rows() as u64)?, u64::from(p.shape.cout));
    let tile = TILES.suiting(rows, columns, to.multiprocessors());
    let kernel = tile.kernel[p.format().index()];
    to.launch(kernel, to.blocks(tile.blocks(rows, columns), tile.threads)?, &call.addresses(to))
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use super::{Addresses, Params};
    use crate::device::layout;
    vec![layout!("PointwiseHalfParams", Params { shape, format }), Addresses::layout()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_their_shapes() {
        let many = |columns| TILES.suiting(1 << 20, columns, 132);
        assert_eq!([8, 16, 24, 32].map(many), [THIN, THIN, MID, MID]);
        assert_eq!([40, 64, 96, 128, 960].map(many), [WIDE, WIDE, MID, WIDE, WIDE]);
        assert_eq!(TILES.suiting(100, 1280, 132), SMALL);
        assert_eq!(TILES.suiting(100, 1280, 1), WIDE);
    }
}
