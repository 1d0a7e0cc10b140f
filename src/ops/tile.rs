//! Which tile of a matrix product (GEMM) suits its shape, for kernels that differ in their tile alone.
//!
//! A block of threads makes a tile of the product: so many rows by so many columns.

/// A kernel's tile; `K` names the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile<K> {
    pub kernel: K,
    pub rows: u64,
    pub columns: u64,
    pub threads: u32,
    /// Time that a column of a padded product takes, in per cent of that of the widest tile.
    pub cost: u64,
}

/// The tiles of a product.
pub(super) struct Tiles<K> {
    /// For products that fill the GPU. Where two are equally good, the first is taken.
    pub large: [Tile<K>; 3],
    /// For those that do not.
    pub small: Tile<K>,
}

impl<K: Copy> Tile<K> {
    pub fn blocks(&self, rows: u64, columns: u64) -> u64 {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }
}

impl<K: Copy> Tiles<K> {
    /// The tile that wastes least on columns that are not there; the small one where the large
    /// ones are too few to give every multiprocessor two blocks.
    pub fn suiting(&self, rows: u64, columns: u64, multiprocessors: u32) -> Tile<K> {
        let cost = |tile: &Tile<K>| columns.next_multiple_of(tile.columns) * tile.cost;
        let best = self.large.into_iter().min_by_key(cost).unwrap_or(self.small);
        if best.blocks(rows, columns) < 2 * u64::from(multiprocessors) { self.small } else { best }
    }
}
