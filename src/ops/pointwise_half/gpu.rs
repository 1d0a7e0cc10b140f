//! Launch geometry of `kernels/forward/pointwise_half.cu`: which tile suits the shape.

use super::PointwiseHalf;
use crate::launch::{Error, Launcher};
use crate::ops::pointwise;
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

/// Whole images a tile, all columns of 64.
const POOL: Tile<Kernel> = Tile { kernel: ["pointwise_half_pool_f16", "pointwise_half_pool_bf16"], ..WIDE };
const POOL_SMALL: Tile<Kernel> = Tile {
    kernel: ["pointwise_half_pool_small_f16", "pointwise_half_pool_small_bf16"],
    rows: 32,
    columns: 64,
    ..SMALL
};

/// The tile for pooled outputs and its blocks: the small one where there are too few of the other to give every
/// multiprocessor two.
fn pooling(p: &pointwise::Params, multiprocessors: u32) -> (Tile<Kernel>, u64) {
    let blocks = |tile: Tile<Kernel>| {
        let images = (tile.rows / p.pixels() as u64).max(1);
        (tile, u64::from(p.images).div_ceil(images) * u64::from(p.cout).div_ceil(tile.columns))
    };
    let large = blocks(POOL);
    if large.1 < 2 * u64::from(multiprocessors) { blocks(POOL_SMALL) } else { large }
}

/// A block a tile of the product; tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn run(call: &PointwiseHalf, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (rows, columns) = (to.count(p.shape.rows() as u64)?, u64::from(p.shape.cout));
    let (tile, blocks) = match p.pooled {
        0 => {
            let tile = TILES.suiting(rows, columns, to.multiprocessors().count);
            (tile, tile.blocks(rows, columns))
        }
        _ => pooling(&p.shape, to.multiprocessors().count),
    };
    let kernel = tile.kernel[p.format().index()];
    to.launch(kernel, to.blocks(blocks, tile.threads)?, &call.addresses(to))
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

    #[test]
    fn pooled_tiles_hold_whole_images() {
        let shape = |images, side| pointwise::Params {
            images,
            side_in: side,
            side_out: side,
            cin: 160,
            cout: 960,
            weight_cin: 160,
            stride: 1,
            activation: 0,
        };
        assert_eq!(pooling(&shape(1000, 2), 132), (POOL, 32 * 15));
        assert_eq!(pooling(&shape(100, 2), 132), (POOL_SMALL, 13 * 15));
        // Eleven images of nine pixels fill most of a block, and one of 256 takes two or eight tiles.
        assert_eq!(pooling(&shape(100, 3), 1), (POOL, 8 * 15));
        assert_eq!(pooling(&shape(100, 16), 1), (POOL, 100 * 15));
        assert_eq!(pooling(&shape(2, 16), 132), (POOL_SMALL, 2 * 15));
    }
}
