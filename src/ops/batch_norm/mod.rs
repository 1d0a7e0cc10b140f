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

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, Group, operand_set, operator, params};

/// Rows that one partial sum covers. The reduction has this fixed shape on every device, so its
/// result does not depend on the number of threads.
pub const BLOCK_ROWS: usize = 256;

params! {
    /// Shape of the statistics of a map, shared with the kernel.
    StatisticsParams = "StatisticsParams" {
        /// Rows of a batch: images times pixels.
        rows: u32,
        /// Channels.
        channels: u32,
        /// Batches.
        batches: u32,
        /// Added to the variance where the statistics are folded.
        epsilon: f32,
        /// What the map is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
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

operator! {
    /// Mean and biased variance of every channel over each of some batches.
    ///
    /// A batch is cut into blocks of [`BLOCK_ROWS`] rows. Each block leaves its mean and its sum of
    /// squared deviations, and these are merged in order by Chan's formula. With [`BnStatistics::fold`]
    /// each batch's statistics are folded at once, as [`Fold`] has it.
    BnStatistics(StatisticsParams) as statistics => host StatisticsArgs, gpu StatisticsAddresses = "StatisticsArgs" {
        /// Map `[batches, rows, channels]`.
        read x: map,
        /// Scratch `[batches][ceil(rows / BLOCK_ROWS)][2][channels]`.
        write partials: scratch,
        /// Result `[batches][2][channels]`: mean and biased variance.
        write batch,
        /// What the batches' statistics are folded into, if they are.
        set(BatchFold => BatchFoldArgs, BatchFoldAddresses) fold,
    }
}

operand_set! {
    /// The affine parameters that a batch's own statistics are folded with, and the places of the results.
    BatchFold => host BatchFoldArgs, gpu BatchFoldAddresses = "BatchFold" {
        /// `[channels]`
        read gamma,
        /// `[channels]`
        read beta,
        /// Result `[batches][channels]`.
        write scale,
        /// Result `[batches][channels]`.
        write shift,
    }
}

impl BnStatistics {
    /// Elements of the scratch slot for `batches` batches of `rows` rows.
    pub fn partials_len(batches: usize, rows: usize, channels: usize) -> usize {
        batches * rows.div_ceil(BLOCK_ROWS) * 2 * channels
    }
}

impl Cost for BnStatistics {
    fn work(&self) -> Work {
        let columns = u64::from(self.params.batches) * u64::from(self.params.channels);
        let len = u64::from(self.params.rows) * columns;
        let folded = if self.fold.is_some() { columns } else { 0 };
        Work { bytes: bytes(self.params.format) * len + 16 * folded, flops: 4 * len + 5 * folded }
    }
}

params! {
    /// Shape of a merge, shared with the kernel.
    #[derive(Default)]
    MergeParams = "MergeParams" {
        /// Rows of a batch: images times pixels.
        rows: u32,
        /// Rows of a unit.
        unit_rows: u32,
        /// Rows of a span, which is cut into units by itself.
        span_rows: u32,
        /// Channels.
        channels: u32,
        /// Batches.
        batches: u32,
        /// Added to the variance where the statistics are folded.
        epsilon: f32,
    }
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

operator! {
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
    Merge(MergeParams) as merge, together => host MergeArgs, gpu MergeAddresses = "MergeArgs",
        group gpu::MERGES = "MergesArgs"
    {
        /// Mean and M2 of every unit `[batches][units][2][channels]`.
        read partials,
        /// Result `[batches][2][channels]`: mean and biased variance.
        write batch,
        /// What the batches' statistics are folded into, if they are.
        set(BatchFold => BatchFoldArgs, BatchFoldAddresses) fold,
    }
}

impl Cost for Merge {
    fn work(&self) -> Work {
        let columns = u64::from(self.params.batches) * u64::from(self.params.channels);
        let folded = if self.fold.is_some() { columns } else { 0 };
        let units = self.params.unit_count() as u64;
        Work { bytes: 8 * (units + 1) * columns + 16 * folded, flops: 8 * units * columns + 5 * folded }
    }
}

/// Many merges at once: those of many networks' layers.
///
/// ```text
/// bytes = 8 batches (units + 1) channels     16 batches channels where folded
/// FLOPs = 8 batches units channels            5 batches channels
/// ```
pub type BnMerge = Group<Merge>;

params! {
    /// Shape of an average, shared with the kernel.
    #[derive(Default)]
    AverageParams = "AverageParams" {
        /// Elements of a batch's statistics.
        length: u32,
        /// Batches.
        batches: u32,
        /// What each batch adds: one over the number of all batches.
        weight: f32,
    }
}

operator! {
    /// `average += weight * batch`, batch after batch.
    Average(AverageParams) as average, together => host AverageArgs, gpu AverageAddresses = "AverageArgs",
        group gpu::AVERAGES = "AveragesArgs"
    {
        /// `[batches][length]`
        read batch,
        /// `[length]`
        update average,
    }
}

impl Cost for Average {
    fn work(&self) -> Work {
        let elements = u64::from(self.params.length);
        let batches = elements * u64::from(self.params.batches);
        Work { bytes: 8 * elements + 4 * batches, flops: 2 * batches }
    }
}

/// Many averages at once: the batch norms of a network, or of a tree of them.
pub type BnAverage = Group<Average>;

params! {
    /// Shape of a folding, shared with the kernel.
    #[derive(Default)]
    FoldParams = "FoldParams" {
        /// Channels in use.
        channels: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

operator! {
    /// `scale = gamma / sqrt(variance + epsilon)`, `shift = beta + (bias - mean) * scale`.
    Fold(FoldParams) as fold, together => host FoldArgs, gpu FoldAddresses = "FoldArgs",
        group gpu::FOLDS = "FoldsArgs"
    {
        /// `[channels]`
        read gamma,
        /// `[channels]`
        read beta,
        /// `[channels]`
        read mean,
        /// Biased variance `[channels]`.
        read variance,
        /// Bias of the convolution before, which its inference call then leaves out: `[channels]`.
        optional bias,
        /// `[channels]`
        write scale,
        /// `[channels]`
        write shift,
    }
}

impl Cost for Fold {
    fn work(&self) -> Work {
        let channels = u64::from(self.params.channels);
        Work { bytes: 24 * channels, flops: 5 * channels }
    }
}

/// Many foldings at once: the batch norms of a network, or of a tree of them.
pub type BnFold = Group<Fold>;

params! {
    /// Shape of an application, shared with the kernel.
    #[derive(Default, Eq)]
    ApplyParams = "ApplyParams" {
        /// Rows: images times pixels.
        rows: u32,
        /// Rows of a batch, of which there are as many whole ones as `rows` holds.
        batch_rows: u32,
        /// Channels.
        channels: u32,
        /// An [`Activation`](super::Activation).
        activation: u32,
        /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// `y = activation(x * scale + shift) + residual`, with the scale and shift of a row's batch.
    BnApply(ApplyParams) as apply, together apply_group => host ApplyArgs, gpu ApplyAddresses = "ApplyArgs",
        group gpu::APPLIES = "AppliesArgs"
    {
        /// Map `[rows, channels]`; may be `y`.
        in_place(y) x: map,
        /// `[rows / batch_rows][channels]`
        read scale,
        /// `[rows / batch_rows][channels]`
        read shift,
        /// As `y`.
        optional residual: map,
        /// Result.
        write y: map,
    }
}

impl Cost for BnApply {
    fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.channels);
        let maps = 2 + u64::from(self.residual.is_some());
        Work { bytes: bytes(self.params.format) * len * maps, flops: 4 * len }
    }
}

/// Many applications at once, as those of many networks' layers. Their formats may differ.
pub type BnApplyGroup = Group<BnApply>;
