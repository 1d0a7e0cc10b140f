//! Launch geometry of `kernels/backward/grad_pointwise.cu`.

use super::{BLOCK_ROWS, PointwiseWeights, Scatter, Transpose};
use crate::launch::{Error, Launcher};
use crate::ops::PANEL;
use crate::ops::halves::{chunk, kernel};

/// Sums that a block of a merging kernel makes, in quads, and its threads.
pub(in crate::ops::grad) const MERGE: (u64, u32) = (16, 128);

/// One of the kernels: they differ in their tile alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    kernel: &'static str,
    side: u64,
    threads: u32,
}

const WIDE: Tile = Tile { kernel: "pointwise_weights_wide", side: 64, threads: 128 };
const SMALL: Tile = Tile { kernel: "pointwise_weights_small", side: 32, threads: 64 };

impl Tile {
    fn tiles(&self, cin: u64, cout: u64) -> u64 {
        cin.div_ceil(self.side) * cout.div_ceil(self.side)
    }

    /// The small tile where it makes less than two thirds of the padded products, or where the wide
    /// ones are too few to give every multiprocessor two blocks.
    fn suiting(blocks: u64, cin: u64, cout: u64, multiprocessors: u32) -> Tile {
        let padded = |tile: &Tile| tile.tiles(cin, cout) * tile.side * tile.side;
        let few = blocks * WIDE.tiles(cin, cout) < 2 * u64::from(multiprocessors);
        if few || 3 * padded(&SMALL) < 2 * padded(&WIDE) { SMALL } else { WIDE }
    }
}

/// A block a tile of the product of [`BLOCK_ROWS`] rows; then, if those are several, a quad of the
/// sum eight threads. Tiles of the same rows are neighbours, to share them in the cache.
pub(crate) fn weights(call: &PointwiseWeights, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (cin, cout) = (u64::from(p.cin), u64::from(p.cout));
    let blocks = to.count(p.rows() as u64)?.div_ceil(BLOCK_ROWS as u64);
    let tile = Tile::suiting(blocks, cin, cout, to.multiprocessors().count);
    to.launch(tile.kernel, to.blocks(blocks * tile.tiles(cin, cout), tile.threads)?, &call.addresses(to))?;
    launch_merge(call, to)
}

/// Adds the partial sums, if there are several.
pub(in crate::ops::grad) fn launch_merge(call: &PointwiseWeights, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    if p.rows() <= BLOCK_ROWS {
        return Ok(());
    }
    let quads = u64::from(p.cout).div_ceil(PANEL as u64) * u64::from(p.cin) * PANEL as u64 / 4;
    let geometry = to.blocks(quads.div_ceil(MERGE.0), MERGE.1)?;
    to.launch("pointwise_weights_merge", geometry, &call.addresses(to))
}

/// Transpositions of a launch: `kTransposes`.
pub(super) const TRANSPOSES: usize = 64;

/// A block a square of a panel on both sides, a row of blocks a call.
pub(crate) fn transpose(calls: &[Transpose], to: &Launcher<'_>) -> Result<(), Error> {
    let panels = |channels: u32| u64::from(channels).div_ceil(PANEL as u64);
    let threads = (PANEL * PANEL) as u32;
    to.launch_together::<_, _, TRANSPOSES>("transpose_f32", calls, |call| {
        let squares = panels(call.params.cout) * panels(call.params.cin);
        Ok((to.blocks(squares, threads)?, call.addresses(to)))
    })
}

/// A thread 16 bytes of channels of a pixel of the large map.
pub(crate) fn scatter(call: &Scatter, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let chunks = u64::from(p.channels / chunk(p.format));
    let items = u64::from(p.images) * u64::from(p.side_in * p.side_in) * chunks;
    to.launch(kernel!("scatter", p.format), to.covering(items, 256)?, &call.addresses(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_their_shapes() {
        let many = |cin, cout| Tile::suiting(1 << 10, cin, cout, 132);
        assert_eq!([many(16, 24), many(24, 96), many(96, 32), many(96, 96)], [SMALL; 4]);
        assert_eq!([many(64, 40), many(240, 40), many(960, 160)], [WIDE; 3]);
        assert_eq!(Tile::suiting(1, 160, 960, 132), SMALL);
        assert_eq!(Tile::suiting(1, 160, 960, 1), WIDE);
    }
}
