//! Launch geometry of `kernels/pointwise_half.cu`: which tile suits the shape.

use super::PointwiseHalf;
use crate::device::{Error, Launcher};

/// One of the kernels: they differ in their tile and their format alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// By format.
    kernels: [&'static str; 2],
    rows: u64,
    columns: u64,
    threads: u32,
    /// Time for a padded column against that of `WIDE`, in per cent. An estimate: a smaller tile loads
    /// more fragments for each product.
    cost: u64,
}

const WIDE: Tile = Tile {
    kernels: ["pointwise_half_wide_f16", "pointwise_half_wide_bf16"],
    rows: 128,
    columns: 64,
    threads: 128,
    cost: 100,
};
const MID: Tile =
    Tile { kernels: ["pointwise_half_mid_f16", "pointwise_half_mid_bf16"], columns: 32, cost: 115, ..WIDE };
const THIN: Tile =
    Tile { kernels: ["pointwise_half_thin_f16", "pointwise_half_thin_bf16"], columns: 16, cost: 140, ..WIDE };
const SMALL: Tile = Tile {
    kernels: ["pointwise_half_small_f16", "pointwise_half_small_bf16"],
    rows: 32,
    columns: 32,
    threads: 64,
    cost: 140,
};

impl Tile {
    fn blocks(&self, rows: u64, columns: u64) -> u64 {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// The tile that wastes least on columns that are not there; the small one where the large
    /// ones are too few to give every multiprocessor two blocks.
    fn suiting(rows: u64, columns: u64, multiprocessors: u32) -> Tile {
        let cost = |tile: &Tile| columns.next_multiple_of(tile.columns) * tile.cost;
        let best = [WIDE, MID, THIN].into_iter().min_by_key(cost).unwrap_or(WIDE);
        match best.blocks(rows, columns) < 2 * u64::from(multiprocessors) {
            true => SMALL,
            false => best,
        }
    }
}

/// A block a tile of the product; tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn launch(call: &PointwiseHalf, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    // Kernels take 16 bytes at a time.
    debug_assert!(call.reads().iter().chain(&call.writes()).all(|slot| slot.offset.is_multiple_of(4)));
    let (rows, columns) = (to.count(p.shape.rows() as u64)?, u64::from(p.shape.cout));
    let tile = Tile::suiting(rows, columns, to.multiprocessors());
    let kernel = tile.kernels[p.format() as usize];
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
        let many = |columns| Tile::suiting(1 << 20, columns, 132);
        assert_eq!([8, 16, 24, 32].map(many), [THIN, THIN, MID, MID]);
        assert_eq!([40, 64, 96, 128, 960].map(many), [WIDE, WIDE, MID, WIDE, WIDE]);
        assert_eq!(Tile::suiting(100, 1280, 132), SMALL);
        assert_eq!(Tile::suiting(100, 1280, 1), WIDE);
    }
}
