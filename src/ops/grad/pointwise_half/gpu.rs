//! Launch geometry of `kernels/backward/grad_pointwise_half.cu`.

use super::super::pointwise::{BLOCK_ROWS, gpu};
use super::PointwiseHalfWeights;
use crate::launch::{Error, Launcher};

/// One of the kernels, by format: they differ in their tile and their format alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    kernel: [&'static str; 2],
    side: u64,
    threads: u32,
}

const WIDE: Tile = Tile {
    kernel: ["pointwise_half_weights_wide_f16", "pointwise_half_weights_wide_bf16"],
    side: 64,
    threads: 128,
};
const SMALL: Tile = Tile {
    kernel: ["pointwise_half_weights_small_f16", "pointwise_half_weights_small_bf16"],
    side: 32,
    threads: 64,
};

impl Tile {
    fn tiles(&self, cin: u64, cout: u64) -> u64 {
        cin.div_ceil(self.side) * cout.div_ceil(self.side)
    }

    /// The small tile where it reads no more, or where the wide ones are too few to give every
    /// multiprocessor two blocks. What a tile has beyond the channels costs no traffic, and products are
    /// cheap: the wide one reads each operand half as often.
    fn suiting(blocks: u64, cin: u64, cout: u64, multiprocessors: u32) -> Tile {
        let few = blocks * WIDE.tiles(cin, cout) < 2 * u64::from(multiprocessors);
        if few || cin.max(cout) <= SMALL.side { SMALL } else { WIDE }
    }
}

/// A block a tile of the product of [`BLOCK_ROWS`] rows; then, if those are several, their sum. Tiles of
/// the same rows are neighbours, to share them in the cache.
pub(crate) fn weights(call: &PointwiseHalfWeights, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (cin, cout) = (u64::from(p.shape.cin), u64::from(p.shape.cout));
    let blocks = to.count(p.shape.rows() as u64)?.div_ceil(BLOCK_ROWS as u64);
    let tile = Tile::suiting(blocks, cin, cout, to.multiprocessors().count);
    let geometry = to.blocks(blocks * tile.tiles(cin, cout), tile.threads)?;
    to.launch(tile.kernel[p.format().index()], geometry, &call.addresses(to))?;
    gpu::launch_merge(&call.widened(), to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_their_shapes() {
        let many = |cin, cout| Tile::suiting(1 << 10, cin, cout, 132);
        assert_eq!([many(16, 24), many(32, 32)], [SMALL; 2]);
        assert_eq!([many(24, 96), many(96, 32), many(240, 40), many(960, 160)], [WIDE; 4]);
        assert_eq!(Tile::suiting(1, 160, 960, 132), SMALL);
        assert_eq!(Tile::suiting(1, 160, 960, 1), WIDE);
    }
}
