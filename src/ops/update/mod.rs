//! What changes weights: gradient norms and clipping, SGD, AdamW; and filling.
//!
//! An optimiser's call works on one tensor. Its state (momentum, moments) and the weights lie in the
//! buffer that is written, its gradient in one that is read.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::operator;

/// Elements that one partial sum of squares covers, on every device.
pub const BLOCK: usize = 4096;

/// Shape of a filling, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct FillParams {
    /// Elements; any number.
    pub len: u32,
    /// What they become.
    pub value: f32,
}

operator! {
    /// `y = value`
    Fill(FillParams) => host FillArgs, gpu FillAddresses = "UpdateFillArgs" {
        /// `[len]`
        write y,
    }
}

impl Fill {
    pub(in crate::ops) fn work(&self) -> Work {
        Work { bytes: 4 * u64::from(self.params.len), flops: 0 }
    }
}

/// Shape of a sum of squares, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SquaresParams {
    /// Elements; any number.
    pub len: u32,
}

operator! {
    /// The sum of squares of a tensor.
    SumOfSquares(SquaresParams) => host SquaresArgs, gpu SquaresAddresses = "SumOfSquaresArgs" {
        /// `[len]`
        read x,
        /// Scratch of [`SumOfSquares::partials_len`] elements.
        write partials,
        /// `[1]`
        write y,
    }
}

impl SumOfSquares {
    /// Elements of the scratch slot.
    pub fn partials_len(len: usize) -> usize {
        len.div_ceil(BLOCK)
    }

    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.len);
        Work { bytes: 4 * len, flops: 2 * len }
    }
}

/// Shape of a clipping factor, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ClipParams {
    /// Sums of squares.
    pub count: u32,
    /// Largest norm allowed; infinite for no clipping.
    pub limit: f32,
    /// Undoes the scale of the gradient: one over it, or 1.
    pub unscale: f32,
}

operator! {
    /// The norm of all tensors together and the factor that brings it to the limit:
    /// `norm = unscale * sqrt(sum squares)`, `factor = unscale * min(1, limit / (norm + 1e-6))`, as PyTorch
    /// has it where the gradient is not scaled.
    ClipFactor(ClipParams) => host ClipArgs, gpu ClipAddresses = "ClipFactorArgs" {
        /// `[count]`
        read squares,
        /// Norm and factor: `[2]`.
        write out,
    }
}

impl ClipFactor {
    pub(in crate::ops) fn work(&self) -> Work {
        Work { bytes: 4 * u64::from(self.params.count), flops: u64::from(self.params.count) }
    }
}

/// A step of SGD, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SgdParams {
    /// Elements; any number.
    pub len: u32,
    /// Learning rate.
    pub rate: f32,
    /// Momentum.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
    /// 1 for Nesterov's momentum, else 0.
    pub nesterov: u32,
}

operator! {
    /// ```text
    /// d = factor * g + decay * w;  velocity = momentum * velocity + d
    /// w -= rate * (d + momentum * velocity  if Nesterov, else velocity)
    /// ```
    Sgd(SgdParams) => host SgdArgs, gpu SgdAddresses = "SgdArgs" {
        /// `[len]`
        read g,
        /// Norm and factor, as [`ClipFactor`] leaves them; 1 if absent.
        optional clip,
        /// `[len]`
        update velocity,
        /// `[len]`
        update w,
    }
}

impl Sgd {
    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.len);
        Work { bytes: 20 * len, flops: 8 * len }
    }
}

/// A step of AdamW, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AdamWParams {
    /// Elements; any number.
    pub len: u32,
    /// Learning rate.
    pub rate: f32,
    /// Decay of the first moment: 0.9.
    pub beta1: f32,
    /// Decay of the second moment: 0.999.
    pub beta2: f32,
    /// Added to the root of the second moment: 1e-8.
    pub epsilon: f32,
    /// Weight decay, decoupled.
    pub decay: f32,
    /// `1 - beta1^t` for the tensor's step number `t`, from 1.
    pub correction1: f32,
    /// `1 - beta2^t`.
    pub correction2: f32,
}

operator! {
    /// ```text
    /// w *= 1 - rate * decay;  m += (1 - beta1) (g - m);  v += (1 - beta2) (g² - v)
    /// w -= rate * (m / correction1) / (sqrt(v / correction2) + epsilon)
    /// ```
    /// with `g` times the clipping factor (Loshchilov and Hutter, 2019).
    AdamW(AdamWParams) => host AdamWArgs, gpu AdamWAddresses = "AdamWArgs" {
        /// `[len]`
        read g,
        /// Norm and factor, as [`ClipFactor`] leaves them; 1 if absent.
        optional clip,
        /// `[len]`
        update m,
        /// `[len]`
        update v,
        /// `[len]`
        update w,
    }
}

impl AdamW {
    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.len);
        Work { bytes: 28 * len, flops: 15 * len }
    }
}
