//! The fast paths.
//!
//! Statistics: each block of rows is read once. Deviations are taken from the block's first row,
//! so that their squares do not cancel where a channel's mean is large against its spread. Blocks
//! are merged in order, in f64.

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::reference::{self, fold_batch};
use super::{
    ApplyArgs, ApplyParams, AverageArgs, AverageParams, BLOCK_ROWS, FoldArgs, FoldParams, MergeArgs,
    MergeParams, StatisticsArgs, StatisticsParams,
};

/// Mean and biased variance of every channel of every batch.
pub fn statistics(p: &StatisticsParams, mut a: StatisticsArgs<'_, f32>, threads: Threads) {
    let (rows, channels) = (p.rows as usize, p.channels as usize);
    for index in 0..p.batches as usize {
        let x = &a.x[index * rows * channels..][..rows * channels];
        let batch = &mut a.batch[index * 2 * channels..][..2 * channels];
        // One batch's scratch serves all.
        let partials = &mut a.partials[..super::BnStatistics::partials_len(1, rows, channels)];
        pieces(threads, partials, 2 * channels, |index, out| {
            let block = &x[index * BLOCK_ROWS * channels..];
            let len = block.len().min(BLOCK_ROWS * channels);
            dispatch(Block { x: &block[..len], channels, out });
        });
        let merge = p.merge();
        merge_batch(&merge, partials, batch);
        fold_batch(&merge, &mut a.fold, index, batch);
    }
}

/// Mean and biased variance of every channel of every batch, of those of units.
pub fn merge(p: &MergeParams, mut a: MergeArgs<'_, f32>, _: Threads) {
    let (both, units) = (2 * p.channels as usize, p.unit_count());
    for index in 0..p.batches as usize {
        let batch = &mut a.batch[index * both..][..both];
        merge_batch(p, &a.partials[index * units * both..][..units * both], batch);
        fold_batch(p, &mut a.fold, index, batch);
    }
}

/// A few thousand numbers; the reference is fast enough.
pub fn average(p: &AverageParams, a: AverageArgs<'_, f32>, _: Threads) {
    reference::average(p, a);
}

/// The same.
pub fn fold(p: &FoldParams, a: FoldArgs<'_, f32>, _: Threads) {
    reference::fold(p, a);
}

/// Merges the units of one batch.
fn merge_batch(p: &MergeParams, partials: &[f32], batch: &mut [f32]) {
    let channels = p.channels as usize;
    for c in 0..channels {
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for (rows, unit) in p.units().zip(partials.chunks_exact(2 * channels)) {
            let rows = rows as f64;
            let delta = f64::from(unit[c]) - mean;
            let total = count + rows;
            mean += delta * rows / total;
            squares += f64::from(unit[channels + c]) + delta * delta * count * rows / total;
            count = total;
        }
        batch[c] = mean as f32;
        batch[channels + c] = (squares / f64::from(p.rows)) as f32;
    }
}

struct Block<'a> {
    x: &'a [f32],
    channels: usize,
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, c in 0..self.channels => self.column::<V>(c));
    }
}

impl Block<'_> {
    /// The vector of channels from `c` on.
    #[inline(always)]
    fn column<V: Vector>(&mut self, c: usize) {
        let channels = self.channels;
        let rows = self.x.len() / channels;
        let first = V::load(&self.x[c..]);
        // Two accumulators hide the latency of the adds.
        let (mut sums, mut squares) = ([V::splat(0.0); 2], [V::splat(0.0); 2]);
        for row in 1..rows {
            let deviation = V::load(&self.x[row * channels + c..]).sub(first);
            sums[row % 2] = sums[row % 2].add(deviation);
            squares[row % 2] = deviation.mul_add(deviation, squares[row % 2]);
        }
        let sum = sums[0].add(sums[1]);
        let mean = sum.mul(V::splat(1.0 / rows as f32));
        let squares = squares[0].add(squares[1]).sub(sum.mul(mean)).relu();
        mean.add(first).store(&mut self.out[c..]);
        squares.store(&mut self.out[channels + c..]);
    }
}

/// Applies scale, shift and activation, and adds the residual.
pub fn apply(p: &ApplyParams, a: ApplyArgs<'_, f32>, threads: Threads) {
    let channels = p.channels as usize;
    let (piece, batch) = (BLOCK_ROWS * channels, p.batch_rows as usize * channels);
    for (index, y) in a.y[..p.rows as usize * channels].chunks_mut(batch).enumerate() {
        let at = index * batch;
        let x = a.x.map(|x| &x[at..][..y.len()]);
        let residual = a.residual.map(|r| &r[at..][..y.len()]);
        let vectors = index * channels..(index + 1) * channels;
        let (scale, shift) = (&a.scale[vectors.clone()], &a.shift[vectors]);
        pieces(threads, y, piece, |index, y| {
            let x = x.map(|x| &x[index * piece..][..y.len()]);
            let residual = residual.map(|r| &r[index * piece..][..y.len()]);
            dispatch(Rows { activation: p.activation, x, scale, shift, residual, accumulate: false, y });
        });
    }
}

/// [`apply`] on the calling thread; with `accumulate` it adds to what is in `y`.
pub(in crate::ops) fn apply_rows(p: &ApplyParams, a: ApplyArgs<'_, f32>, accumulate: bool) {
    let ApplyArgs { x, scale, shift, residual, y } = a;
    dispatch(Rows { activation: p.activation, x, scale, shift, residual, accumulate, y });
}

struct Rows<'a> {
    activation: u32,
    x: Option<&'a [f32]>,
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [f32]>,
    accumulate: bool,
    y: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let channels = self.scale.len();
        for row in (0..self.y.len()).step_by(channels) {
            each_vector!(V, c in 0..channels => self.vector::<V>(row, c));
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn vector<V: Vector>(&mut self, row: usize, c: usize) {
        let x = V::load(&self.x.unwrap_or(self.y)[row + c..]);
        let scaled = x.mul_add(V::load(&self.scale[c..]), V::load(&self.shift[c..]));
        let mut value = scaled.activate(self.activation);
        if let Some(residual) = self.residual {
            value = value.add(V::load(&residual[row + c..]));
        }
        if self.accumulate {
            value = value.add(V::load(&self.y[row + c..]));
        }
        value.store(&mut self.y[row + c..]);
    }
}
