//! Batch norm in three steps: statistics of a batch, folding, application.
//!
//! In inference a batch norm is folded into the convolution before it and costs nothing. Where a
//! batch's own statistics are needed (recalibration, training) the convolution writes its raw
//! output, [`BnStatistics`] reduces it and makes a scale and a shift of the result, and [`BnApply`]
//! applies them, for one batch or for several that lie behind one another, each with its own.
//! Where the convolution itself leaves partial statistics of its output, [`BnMerge`] makes of them what
//! [`BnStatistics`] makes of the map, and [`BnApplyGroup`] applies, both of many layers at once.
//! [`BnAverage`] adds up what the batches of whole networks have left, and [`BnFold`] folds stored or
//! averaged statistics of whole networks.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::operator::group;
use super::{Slot, Work};
use std::iter;

/// Rows that one partial sum covers. The reduction has this fixed shape on every device, so its
/// result does not depend on the number of threads.
pub const BLOCK_ROWS: usize = 256;

/// Shape of the statistics of a map, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StatisticsParams {
    /// Rows of a batch: images times pixels.
    pub rows: u32,
    /// Channels.
    pub channels: u32,
    /// Batches.
    pub batches: u32,
    /// Added to the variance where the statistics are folded.
    pub epsilon: f32,
    /// What the map is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

impl StatisticsParams {
    /// How the blocks of a batch's rows are merged.
    fn merge(&self) -> MergeParams {
        MergeParams {
            rows: self.rows,
            unit_rows: BLOCK_ROWS as u32,
            span_rows: self.rows,
            channels: self.channels,
            batches: self.batches,
            epsilon: self.epsilon,
        }
    }
}

/// Mean and biased variance of every channel over each of some batches.
///
/// A batch is cut into blocks of [`BLOCK_ROWS`] rows. Each block leaves its mean and its sum of
/// squared deviations, and these are merged in order by Chan's formula. With [`BnStatistics::fold`]
/// each batch's statistics are folded at once, as [`Fold`] has it.
#[derive(Debug, Clone, PartialEq)]
pub struct BnStatistics {
    /// Shape.
    pub params: StatisticsParams,
    /// Map `[batches, rows, channels]`.
    pub x: Slot,
    /// Scratch `[batches][ceil(rows / BLOCK_ROWS)][2][channels]`.
    pub partials: Slot,
    /// Result `[batches][2][channels]`: mean and biased variance.
    pub batch: Slot,
    /// What the batches' statistics are folded into, if they are.
    pub fold: Option<BatchFold>,
}

/// The affine parameters that a batch's own statistics are folded with, and the places of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFold {
    /// `[channels]`
    pub gamma: Slot,
    /// `[channels]`
    pub beta: Slot,
    /// Result `[batches][channels]`.
    pub scale: Slot,
    /// Result `[batches][channels]`.
    pub shift: Slot,
}

impl BatchFold {
    fn reads(fold: Option<BatchFold>) -> impl Iterator<Item = Slot> {
        fold.into_iter().flat_map(|fold| [fold.gamma, fold.beta])
    }

    fn writes(fold: Option<BatchFold>) -> impl Iterator<Item = Slot> {
        fold.into_iter().flat_map(|fold| [fold.scale, fold.shift])
    }
}

impl BnStatistics {
    /// Elements of the scratch slot for `batches` batches of `rows` rows.
    pub fn partials_len(batches: usize, rows: usize, channels: usize) -> usize {
        batches * rows.div_ceil(BLOCK_ROWS) * 2 * channels
    }

    pub(super) fn reads(&self) -> Vec<Slot> {
        iter::once(self.x).chain(BatchFold::reads(self.fold)).collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        [self.partials, self.batch].into_iter().chain(BatchFold::writes(self.fold)).collect()
    }

    pub(super) fn work(&self) -> Work {
        let columns = u64::from(self.params.batches) * u64::from(self.params.channels);
        let len = u64::from(self.params.rows) * columns;
        let folded = if self.fold.is_some() { columns } else { 0 };
        Work { bytes: bytes(self.params.format) * len + 16 * folded, flops: 4 * len + 5 * folded }
    }
}

/// The operands of [`BnStatistics`] on the host.
#[allow(missing_docs)]
pub struct StatisticsArgs<'a, T> {
    pub x: &'a [T],
    pub partials: &'a mut [T],
    pub batch: &'a mut [T],
    pub fold: Option<BatchFoldArgs<'a, T>>,
}

/// The operands of [`BatchFold`] on the host.
#[allow(missing_docs)]
pub struct BatchFoldArgs<'a, T> {
    pub gamma: &'a [T],
    pub beta: &'a [T],
    pub scale: &'a mut [T],
    pub shift: &'a mut [T],
}

/// Shape of a merge, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct MergeParams {
    /// Rows of a batch: images times pixels.
    pub rows: u32,
    /// Rows of a unit.
    pub unit_rows: u32,
    /// Rows of a span, which is cut into units by itself.
    pub span_rows: u32,
    /// Channels.
    pub channels: u32,
    /// Batches.
    pub batches: u32,
    /// Added to the variance where the statistics are folded.
    pub epsilon: f32,
}

impl MergeParams {
    /// The rows of each unit of a batch, in order. The last of a span has those that are left, and so has the
    /// last span.
    pub fn units(&self) -> impl Iterator<Item = usize> {
        let [rows, unit, span] = [self.rows, self.unit_rows, self.span_rows].map(|n| n as usize);
        (0..rows).step_by(span).flat_map(move |start| {
            let end = rows.min(start + span);
            (start..end).step_by(unit).map(move |start| unit.min(end - start))
        })
    }

    /// Units of a batch.
    pub fn unit_count(&self) -> usize {
        let [rows, unit, span] = [self.rows, self.unit_rows, self.span_rows].map(|n| n as usize);
        rows / span * span.div_ceil(unit) + (rows % span).div_ceil(unit)
    }

    /// Elements of the partial statistics of all batches.
    pub fn partials_len(&self) -> usize {
        self.batches as usize * self.unit_count() * 2 * self.channels as usize
    }
}

/// Mean and biased variance of every channel over each of some batches, of the means and the sums of squared
/// deviations (M2) of *units* of rows, which are merged in order by Chan's formula:
///
/// ```text
/// mean = mean + delta m / (n + m)                    of a unit of m rows behind n others, delta their difference
/// M2   = M2 + M2 of the unit + delta^2 n m / (n + m)                            variance = M2 / rows
/// ```
///
/// A batch is spans of rows, such as the images that a block of threads has, and each span is cut into units.
/// What is merged side by side depends on the shape of the merge alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// Shape.
    pub params: MergeParams,
    /// Mean and M2 of every unit `[batches][units][2][channels]`.
    pub partials: Slot,
    /// Result `[batches][2][channels]`: mean and biased variance.
    pub batch: Slot,
    /// What the batches' statistics are folded into, if they are.
    pub fold: Option<BatchFold>,
}

/// Many merges at once: those of many networks' layers. None reads what another writes.
///
/// ```text
/// bytes = 8 batches (units + 1) channels     16 batches channels where folded
/// FLOPs = 8 batches units channels            5 batches channels
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BnMerge {
    /// Them.
    pub merges: Vec<Merge>,
}

impl BnMerge {
    pub(super) fn reads(&self) -> Vec<Slot> {
        self.merges
            .iter()
            .flat_map(|one| iter::once(one.partials).chain(BatchFold::reads(one.fold)))
            .collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        self.merges.iter().flat_map(|one| iter::once(one.batch).chain(BatchFold::writes(one.fold))).collect()
    }

    pub(super) fn work(&self) -> Work {
        let work = |one: &Merge| {
            let columns = u64::from(one.params.batches) * u64::from(one.params.channels);
            let folded = if one.fold.is_some() { columns } else { 0 };
            let units = one.params.unit_count() as u64;
            Work { bytes: 8 * (units + 1) * columns + 16 * folded, flops: 8 * units * columns + 5 * folded }
        };
        self.merges.iter().map(work).sum()
    }
}

/// The operands of [`Merge`] on the host.
#[allow(missing_docs)]
pub struct MergeArgs<'a, T> {
    pub partials: &'a [T],
    pub batch: &'a mut [T],
    pub fold: Option<BatchFoldArgs<'a, T>>,
}

/// Shape of an average, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AverageParams {
    /// Elements of a batch's statistics.
    pub length: u32,
    /// Batches.
    pub batches: u32,
    /// What each batch adds: one over the number of all batches.
    pub weight: f32,
}

/// `average += weight * batch`, batch after batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    /// Shape.
    pub params: AverageParams,
    /// `[batches][length]`
    pub batch: Slot,
    /// `[length]`
    pub average: Slot,
}

/// Many averages at once: the batch norms of a network, or of a tree of them. None reads what another
/// writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BnAverage {
    /// Them.
    pub averages: Vec<Average>,
}

impl BnAverage {
    pub(super) fn reads(&self) -> Vec<Slot> {
        self.averages.iter().flat_map(|average| [average.batch, average.average]).collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        self.averages.iter().map(|average| average.average).collect()
    }

    pub(super) fn work(&self) -> Work {
        let elements = |p: AverageParams| (u64::from(p.length), u64::from(p.length) * u64::from(p.batches));
        let all = self.averages.iter().map(|average| elements(average.params));
        let (averages, batches) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Work { bytes: 8 * averages + 4 * batches, flops: 2 * batches }
    }
}

/// The operands of [`Average`] on the host.
#[allow(missing_docs)]
pub struct AverageArgs<'a, T> {
    pub batch: &'a [T],
    pub average: &'a mut [T],
}

/// Shape of a folding, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct FoldParams {
    /// Channels in use.
    pub channels: u32,
    /// Added to the variance.
    pub epsilon: f32,
}

/// `scale = gamma / sqrt(variance + epsilon)`, `shift = beta + (bias - mean) * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// Shape.
    pub params: FoldParams,
    /// `[channels]`
    pub gamma: Slot,
    /// `[channels]`
    pub beta: Slot,
    /// `[channels]`
    pub mean: Slot,
    /// Biased variance `[channels]`.
    pub variance: Slot,
    /// Bias of the convolution before, which its inference call then leaves out: `[channels]`.
    pub bias: Option<Slot>,
    /// `[channels]`
    pub scale: Slot,
    /// `[channels]`
    pub shift: Slot,
}

/// Many foldings at once: the batch norms of a network, or of a tree of them. None reads what another
/// writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BnFold {
    /// Them.
    pub folds: Vec<Fold>,
}

impl BnFold {
    pub(super) fn reads(&self) -> Vec<Slot> {
        let of = |fold: &Fold| {
            let fixed = [fold.gamma, fold.beta, fold.mean, fold.variance];
            fixed.into_iter().chain(fold.bias).collect::<Vec<_>>()
        };
        self.folds.iter().flat_map(of).collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        self.folds.iter().flat_map(|fold| [fold.scale, fold.shift]).collect()
    }

    pub(super) fn work(&self) -> Work {
        let channels: u64 = self.folds.iter().map(|fold| u64::from(fold.params.channels)).sum();
        Work { bytes: 24 * channels, flops: 5 * channels }
    }
}

/// The operands of [`Fold`] on the host.
#[allow(missing_docs)]
pub struct FoldArgs<'a, T> {
    pub gamma: &'a [T],
    pub beta: &'a [T],
    pub mean: &'a [T],
    pub variance: &'a [T],
    pub bias: Option<&'a [T]>,
    pub scale: &'a mut [T],
    pub shift: &'a mut [T],
}

/// Shape of an application, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ApplyParams {
    /// Rows: images times pixels.
    pub rows: u32,
    /// Rows of a batch, of which there are as many whole ones as `rows` holds.
    pub batch_rows: u32,
    /// Channels.
    pub channels: u32,
    /// An [`Activation`](super::Activation).
    pub activation: u32,
    /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

/// `y = activation(x * scale + shift) + residual`, with the scale and shift of a row's batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BnApply {
    /// Shape.
    pub params: ApplyParams,
    /// Map `[rows, channels]`; may be `y`.
    pub x: Slot,
    /// `[rows / batch_rows][channels]`
    pub scale: Slot,
    /// `[rows / batch_rows][channels]`
    pub shift: Slot,
    /// As `y`.
    pub residual: Option<Slot>,
    /// Result.
    pub y: Slot,
}

impl BnApply {
    pub(super) fn reads(&self) -> Vec<Slot> {
        [Some(self.x), Some(self.scale), Some(self.shift), self.residual].into_iter().flatten().collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.y]
    }

    pub(super) fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.channels);
        let maps = 2 + u64::from(self.residual.is_some());
        Work { bytes: bytes(self.params.format) * len * maps, flops: 4 * len }
    }
}

group! {
    /// Many applications at once, as those of many networks' layers. Their formats may differ.
    BnApplyGroup of BnApply
}

/// The operands of [`BnApply`] on the host; `x` is `None` where the call works in place.
#[allow(missing_docs)]
pub struct ApplyArgs<'a, T> {
    pub x: Option<&'a [T]>,
    pub scale: &'a [T],
    pub shift: &'a [T],
    pub residual: Option<&'a [T]>,
    pub y: &'a mut [T],
}
