//! Gradients of batch norm with a batch's own statistics, and of the activation behind it.
//!
//! With `u = scale * z + shift`, `x̂ = (z - mean) / sqrt(variance + epsilon)`, `y = activation(u)`:
//!
//! ```text
//! du = dy * activation'(u)        dbeta += sum du        dgamma += sum du x̂
//! dz = scale * (du - (sum du) / rows - x̂ (sum du x̂) / rows)
//! ```
//!
//! (Ioffe and Szegedy, 2015, section 3.) The derivative at a corner of an activation is that of
//! PyTorch: 0 for ReLU at 0, and for h-swish and h-sigmoid the outer branch at -3 and at 3.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, Group, operator, params};
use crate::ops::{Work, batch_norm};

params! {
    /// Shape of a batch norm's gradients, shared with the kernels.
    Params = "BnGradParams" {
        /// Rows: images times pixels.
        rows: u32,
        /// Channels.
        channels: u32,
        /// An [`Activation`](crate::ops::Activation).
        activation: u32,
        /// Added to the variance.
        epsilon: f32,
        /// What maps are stored as: a [`Format`](crate::ops::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// The two sums, and the gradients of the affine parameters.
    BnGradSums(Params) as sums => host SumsArgs, gpu SumsAddresses = "BnGradSumsArgs" {
        /// Input of the batch norm `[rows, channels]`.
        read z: map,
        /// `[rows, channels]`
        read dy: map,
        /// Mean `[channels]`, biased variance `[channels]`.
        read batch,
        /// `[channels]`
        read scale,
        /// `[channels]`
        read shift,
        /// Scratch of [`BnGradSums::partials_len`] elements.
        write partials: scratch,
        /// `sum du` `[channels]`, `sum du x̂` `[channels]`.
        write sums,
        /// `[channels]`; added to.
        update dgamma,
        /// `[channels]`; added to.
        update dbeta,
    }
}

impl BnGradSums {
    /// Elements of the scratch slot: both sums a block of [`batch_norm::BLOCK_ROWS`] rows.
    pub fn partials_len(rows: usize, channels: usize) -> usize {
        rows.div_ceil(batch_norm::BLOCK_ROWS) * 2 * channels
    }
}

impl Cost for BnGradSums {
    fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.channels);
        Work { bytes: 2 * bytes(self.params.format) * len, flops: 8 * len }
    }
}

operator! {
    /// The gradient of the input.
    BnGradInput(Params) as input => host InputArgs, gpu InputAddresses = "BnGradInputArgs" {
        /// Input of the batch norm `[rows, channels]`.
        read z: map,
        /// `[rows, channels]`
        read dy: map,
        /// Mean `[channels]`, biased variance `[channels]`.
        read batch,
        /// `[channels]`
        read scale,
        /// `[channels]`
        read shift,
        /// The sums that [`BnGradSums`] leaves.
        read sums,
        /// What is added: as `dz`.
        optional residual: map,
        /// `[rows, channels]`
        write dz: map,
    }
}

impl Cost for BnGradInput {
    fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.channels);
        let maps = 3 + u64::from(self.residual.is_some());
        Work { bytes: bytes(self.params.format) * len * maps, flops: 10 * len }
    }
}

params! {
    /// Shape of an update of running statistics, shared with the kernel.
    RunningParams = "BnRunningParams" {
        /// Channels in use.
        channels: u32,
        /// Weight of the new batch: 0.1.
        momentum: f32,
        /// From biased to unbiased variance: `rows / (rows - 1)`, 1 for a single row.
        unbias: f32,
    }
}

operator! {
    /// `running += momentum * (batch - running)`, the variance unbiased.
    BnRunning(RunningParams) as running, together => host RunningArgs, gpu RunningAddresses = "BnRunningArgs",
        group gpu::RUNNINGS = "BnRunningGroup"
    {
        /// Mean `[channels]`, biased variance `[channels]`.
        read batch,
        /// `[channels]`
        update mean,
        /// `[channels]`
        update variance,
    }
}

impl Cost for BnRunning {
    fn work(&self) -> Work {
        let channels = u64::from(self.params.channels);
        Work { bytes: 24 * channels, flops: 6 * channels }
    }
}

/// Many running statistics at once, as those of all batch norms of a network.
pub type BnRunningGroup = Group<BnRunning>;
