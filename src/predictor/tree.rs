//! Growing one regression tree, leaf by leaf.
//!
//! The tree lowers a sum of squares: with gradients g of the rows and second derivatives of 1, a leaf
//! of n rows steps by -G/n, G the sum of its gradients, and a cut of it into (L, R) gains
//! GL^2/nL + GR^2/nR - G^2/n. The leaf whose best cut gains most is cut next, until no leaf has a cut
//! or the tree has its number of leaves (LightGBM's growth; cut to the end it is CART's tree too).
//!
//! What makes it quick on some hundred rows:
//!
//! - Gradients are fixed-point integers, packed with a count of one into 64 bits. A row then adds to
//!   a histogram cell with one addition, sums do not depend on their order, and the gain comes from
//!   an exact integer: (GL n - G nL)^2 / (nL nR n), which is never negative and needs no subtraction
//!   of large like numbers. Its divisions are a table of 1/n.
//! - Of two new leaves only the smaller reads its rows; the other's histogram is its parent's less
//!   the smaller's. A leaf too small to be cut gets no histogram at all.
//!
//! Ties: of equal gains in a column the highest threshold wins, of columns the first, of leaves the
//! oldest.

use super::bins::{Binned, Column};

/// Bits of a packed cell that hold the number of rows.
const COUNT_BITS: u32 = 24;
/// Most rows that a cell can count.
pub(super) const MAX_ROWS: usize = (1 << COUNT_BITS) - 1;
/// Bits (without sign) that a sum of gradients may take; times a count it still fits 62 bits.
const SUM_BITS: i32 = 37;

/// Factor from gradients to fixed point, when none of `rows` gradients exceeds `largest` in size.
pub(super) fn fixed_point(rows: usize, largest: f64) -> f64 {
    if largest < 1e-280 {
        return 1.0; // All gradients are as good as zero, and the factor would overflow.
    }
    // A power of two, so that scaling rounds nothing.
    let bits = (rows as f64).log2().ceil() as i32 + largest.log2().ceil() as i32;
    f64::from(SUM_BITS - bits).exp2()
}

/// The integer nearest to a number below 2^51 in size, halves to even: adding 1.5 x 2^52 leaves the
/// integer in the low bits. Unlike `round` it needs no call, so loops over rows vectorise.
pub(super) fn nearest(x: f64) -> i64 {
    const MAGIC: f64 = 1.5 * (1u64 << 52) as f64;
    (x + MAGIC).to_bits() as i64 - MAGIC.to_bits() as i64
}

/// A cut or, below the cuts, where it leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    /// Column of the feature table.
    pub feature: u16,
    /// Rows whose value is at most this go left.
    pub threshold: u8,
    /// Left and right: the node's number, or the one's complement of the leaf's.
    pub child: [i32; 2],
}

/// A grown tree. Node 0 is the root; a tree without nodes is its one leaf.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// Value of each leaf.
    pub values: Vec<f64>,
}

impl Tree {
    /// Where a row starts: as [`Node::child`].
    pub(super) fn root(&self) -> i32 {
        if self.nodes.is_empty() { !0 } else { 0 }
    }
}

/// When growth ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most leaves.
    pub leaves: usize,
    /// Fewest rows of a leaf, at least 1.
    pub rows: usize,
}

/// The best cut of a leaf.
#[derive(Debug, Clone, Copy)]
struct Cut {
    gain: f64,
    /// Place in `Binned::columns`.
    column: usize,
    /// Bins up to this one, counted in the column, go left.
    bin: usize,
}

#[derive(Debug)]
struct Leaf {
    /// Its rows, a range of `Grower::rows`.
    start: usize,
    end: usize,
    /// Sum of its rows' gradients.
    sum: i64,
    /// Its best cut, and the place of its histogram.
    cut: Option<(Cut, usize)>,
    /// Node and side that point to it.
    parent: Option<(usize, usize)>,
}

/// Grows trees on one set of rows; keeps its tables between trees.
pub(super) struct Grower<'a> {
    binned: &'a Binned,
    limits: Limits,
    /// 1/n for n from 0 (where it is 0) to the number of rows.
    inverse: Vec<f64>,
    /// Row numbers, ordered by leaf.
    rows: Vec<u32>,
    right_rows: Vec<u32>,
    leaves: Vec<Leaf>,
    histograms: Vec<Vec<i64>>,
    free: Vec<usize>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(binned: &'a Binned, limits: Limits) -> Self {
        Grower {
            binned,
            limits,
            inverse: (0..=binned.rows).map(|n| if n == 0 { 0.0 } else { 1.0 / n as f64 }).collect(),
            rows: Vec::with_capacity(binned.rows),
            right_rows: vec![0; binned.rows],
            leaves: Vec::new(),
            histograms: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Grows a tree to the rows' fixed-point gradients. A leaf's value is -G/n times `step`.
    /// `each(leaf value, rows of the leaf)` is called for every leaf.
    pub(super) fn grow(&mut self, gradients: &[i64], step: f64, mut each: impl FnMut(f64, &[u32])) -> Tree {
        let packed: &[i64] = &gradients.iter().map(|g| (g << COUNT_BITS) + 1).collect::<Vec<_>>();
        self.rows.clear();
        self.rows.extend(0..self.binned.rows as u32);
        self.leaves.clear();
        let mut nodes: Vec<Node> = Vec::new();

        let root =
            Leaf { start: 0, end: self.binned.rows, sum: gradients.iter().sum(), cut: None, parent: None };
        let cut = if self.divisible(&root) {
            let histogram = self.take();
            self.read_rows(histogram, &root, packed);
            self.best_cut(&root, histogram)
        } else {
            None
        };
        self.leaves.push(Leaf { cut, ..root });

        while self.leaves.len() < self.limits.leaves {
            let mut best: Option<(usize, Cut, usize)> = None;
            for (index, leaf) in self.leaves.iter().enumerate() {
                if let Some((cut, histogram)) = leaf.cut
                    && best.is_none_or(|(_, best, _)| cut.gain > best.gain)
                {
                    best = Some((index, cut, histogram));
                }
            }
            let Some((index, cut, histogram)) = best else { break };
            let node = nodes.len();
            let column = &self.binned.columns[cut.column];
            let right_index = self.leaves.len();
            nodes.push(Node {
                feature: column.feature,
                threshold: column.upper[cut.bin],
                child: [!(index as i32), !(right_index as i32)],
            });
            if let Some((parent, side)) = self.leaves[index].parent {
                nodes[parent].child[side] = node as i32;
            }
            let (left, right) = self.divide(index, cut, histogram, node);
            let [left, right] = self.find_cuts(left, right, histogram, packed);
            self.leaves[index] = left;
            self.leaves.push(right);
        }

        let mut values = Vec::with_capacity(self.leaves.len());
        for leaf in &self.leaves {
            let value = -(leaf.sum as f64) * self.inverse[leaf.end - leaf.start] * step;
            values.push(value);
            each(value, &self.rows[leaf.start..leaf.end]);
            if let Some((_, histogram)) = leaf.cut {
                self.free.push(histogram);
            }
        }
        Tree { nodes, values }
    }

    /// Whether the leaf has rows enough for two.
    fn divisible(&self, leaf: &Leaf) -> bool {
        leaf.end - leaf.start >= 2 * self.limits.rows && !self.binned.columns.is_empty()
    }

    /// A histogram that is not in use, with whatever was in it.
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.histograms.push(vec![0; self.binned.bins]);
            self.histograms.len() - 1
        })
    }

    /// Fills a histogram with the rows of a leaf.
    fn read_rows(&mut self, histogram: usize, leaf: &Leaf, packed: &[i64]) {
        let columns = self.binned.columns.len();
        let cells = self.histograms[histogram].as_mut_slice();
        cells.fill(0);
        for &row in &self.rows[leaf.start..leaf.end] {
            let row = row as usize;
            let value = packed[row];
            for &code in &self.binned.codes[row * columns..][..columns] {
                cells[usize::from(code)] += value;
            }
        }
    }

    /// Orders the leaf's rows by side, in their order on each, and makes the two leaves.
    fn divide(&mut self, index: usize, cut: Cut, histogram: usize, node: usize) -> (Leaf, Leaf) {
        let columns = self.binned.columns.len();
        let offset = self.binned.columns[cut.column].offset;
        let last = (offset + cut.bin) as u16;
        let left_sum =
            self.histograms[histogram][offset..=offset + cut.bin].iter().sum::<i64>() >> COUNT_BITS;
        let leaf = &self.leaves[index];
        let (start, end, sum) = (leaf.start, leaf.end, leaf.sum);
        // Which way a row goes cannot be guessed, so both ways are written and one of them counts.
        let (mut middle, mut right) = (start, 0);
        for place in start..end {
            let row = self.rows[place];
            let left = self.binned.codes[row as usize * columns + cut.column] <= last;
            self.rows[middle] = row;
            self.right_rows[right] = row;
            middle += usize::from(left);
            right += usize::from(!left);
        }
        self.rows[middle..end].copy_from_slice(&self.right_rows[..right]);
        let left = Leaf { start, end: middle, sum: left_sum, cut: None, parent: Some((node, 0)) };
        let right = Leaf { start: middle, end, sum: sum - left_sum, cut: None, parent: Some((node, 1)) };
        (left, right)
    }

    /// Finds the cuts of two new leaves, whose parent's histogram is used up.
    fn find_cuts(&mut self, left: Leaf, right: Leaf, parent: usize, packed: &[i64]) -> [Leaf; 2] {
        let left_is_smaller = left.end - left.start <= right.end - right.start;
        let (mut small, mut large) = if left_is_smaller { (left, right) } else { (right, left) };
        if self.divisible(&large) {
            let other = self.take();
            self.read_rows(other, &small, packed);
            let [of_parent, of_small] = self
                .histograms
                .get_disjoint_mut([parent, other])
                .expect("a free histogram is not the parent's");
            for (cell, small) in of_parent.iter_mut().zip(of_small.iter()) {
                *cell -= small;
            }
            large.cut = self.best_cut(&large, parent);
            if self.divisible(&small) {
                small.cut = self.best_cut(&small, other);
            } else {
                self.free.push(other);
            }
        } else {
            self.free.push(parent);
        }
        if left_is_smaller { [small, large] } else { [large, small] }
    }

    /// The best cut of a leaf from its histogram, which is free again where there is none.
    fn best_cut(&mut self, leaf: &Leaf, histogram: usize) -> Option<(Cut, usize)> {
        let rows = (leaf.end - leaf.start) as i64;
        let least = self.limits.rows as i64;
        let cells = self.histograms[histogram].as_slice();
        let mut best = Cut { gain: 0.0, column: usize::MAX, bin: 0 };
        for (column, Column { offset, upper, .. }) in self.binned.columns.iter().enumerate() {
            let mut best_here = (best.gain, usize::MAX);
            let mut left = 0;
            for (bin, cell) in cells[*offset..][..upper.len() - 1].iter().enumerate() {
                left += cell;
                let left_rows = left & MAX_ROWS as i64;
                if left_rows < least {
                    continue;
                }
                let right_rows = rows - left_rows;
                if right_rows < least {
                    break;
                }
                let gain = gain(left >> COUNT_BITS, left_rows, leaf.sum, rows, &self.inverse);
                if gain > best.gain && gain >= best_here.0 {
                    best_here = (gain, bin);
                }
            }
            if best_here.1 != usize::MAX {
                best = Cut { gain: best_here.0, column, bin: best_here.1 };
            }
        }
        if best.column == usize::MAX {
            self.free.push(histogram);
            return None;
        }
        Some((best, histogram))
    }
}

/// What cutting `left_rows` of `rows` rows off gains, from the exact (GL n - G nL)^2 / (nL nR n).
#[inline(always)]
pub(super) fn gain(left_sum: i64, left_rows: i64, sum: i64, rows: i64, inverse: &[f64]) -> f64 {
    let excess = (left_sum * rows - sum * left_rows) as f64;
    let right_rows = rows - left_rows;
    excess * excess * (inverse[left_rows as usize] * inverse[right_rows as usize]) * inverse[rows as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rounds_both_signs() {
        for (x, n) in
            [(0.0, 0), (0.4, 0), (0.6, 1), (-0.6, -1), (2.5, 2), (-3.5, -4), (1e11 + 0.3, 100_000_000_000)]
        {
            assert_eq!(nearest(x), n, "{x}");
        }
    }

    #[test]
    fn sums_in_fixed_point_stay_within_their_bits() {
        for (rows, largest) in [(1, 1.0), (300, 0.9), (MAX_ROWS, 0.9), (300, 1e6), (300, 1e-6), (2, 0.0)] {
            let one = largest * fixed_point(rows, largest);
            assert!(rows as f64 * one <= f64::from(SUM_BITS).exp2(), "{rows} x {largest}");
            assert!(largest == 0.0 || one >= 1e3, "{rows} x {largest} keeps {one}");
        }
    }
}
