//! What changes weights: gradient norms and clipping, SGD, AdamW; and filling.
//!
//! A call works on all tensors of a step, which are ranges of buffers that are laid out alike: the
//! gradient, which is read, and the weights and the optimiser's state (momentum, moments), which are
//! written. What lies between them is not touched.
//!
//! A gradient may come multiplied by a factor that keeps small numbers from vanishing in 16 bits.
//! [`ClipFactor`] takes the factor back, and says whether the gradient has a number that is not finite;
//! steps that are given what it leaves change nothing then.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::operator::{Cost, operator, params};
use super::{Real, Work};

/// Elements that one partial sum of squares covers, on every device.
pub const BLOCK: usize = 4096;

params! {
    /// Shape of a filling, shared with the kernel.
    FillParams = "UpdateFillParams" {
        /// Elements; any number.
        len: u32,
        /// What they become.
        value: f32,
    }
}

operator! {
    /// `y = value`
    Fill(FillParams) as fill => host FillArgs, gpu FillAddresses = "UpdateFillArgs" {
        /// `[len]`
        write y,
    }
}

impl Cost for Fill {
    fn work(&self) -> Work {
        Work { bytes: 4 * u64::from(self.params.len), flops: 0 }
    }
}

/// A tensor: elements of a buffer; any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The first.
    pub offset: u32,
    /// How many.
    pub len: u32,
}

impl Segment {
    fn range(self) -> std::ops::Range<usize> {
        self.offset as usize..self.offset as usize + self.len as usize
    }
}

/// The tensors of [`SumOfSquares`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SquaresParams {
    /// Them.
    pub segments: Vec<Segment>,
}

operator! {
    /// The sum of squares of each tensor.
    SumOfSquares(SquaresParams) as squares => host SquaresArgs, launch gpu::SquaresArgs {
        /// The tensors' buffer.
        read x,
        /// Scratch of [`SumOfSquares::partials_len`] elements.
        write partials: scratch,
        /// `[segments]`
        write y,
    }
}

impl SumOfSquares {
    /// Elements of the scratch slot for tensors of these lengths.
    pub fn partials_len(lens: impl IntoIterator<Item = usize>) -> usize {
        lens.into_iter().map(|len| len.div_ceil(BLOCK)).sum()
    }
}

impl Cost for SumOfSquares {
    fn work(&self) -> Work {
        let len = elements(self.params.segments.iter().map(|segment| segment.len));
        Work { bytes: 4 * len, flops: 2 * len }
    }
}

fn elements(lens: impl Iterator<Item = u32>) -> u64 {
    lens.map(u64::from).sum()
}

params! {
    /// Shape of a clipping factor, shared with the kernel.
    ClipParams = "ClipFactorParams" {
        /// Sums of squares.
        count: u32,
        /// Largest norm allowed; infinite for no clipping.
        limit: f32,
        /// One over the factor that the gradient comes multiplied by: 1, or with loss scaling less.
        unscale: f32,
    }
}

operator! {
    /// The norm of all tensors together, the factor that brings it to the limit, and 1 where the norm is
    /// no finite number, else 0: `norm = unscale * sqrt(sum squares)`,
    /// `factor = unscale * min(1, limit / (norm + 1e-6))`, as PyTorch has it.
    ClipFactor(ClipParams) as clip => host ClipArgs, gpu ClipAddresses = "ClipFactorArgs" {
        /// `[count]`
        read squares,
        /// Norm, factor and flag: `[3]`.
        write out,
    }
}

impl Cost for ClipFactor {
    fn work(&self) -> Work {
        Work { bytes: 4 * u64::from(self.params.count), flops: u64::from(self.params.count) }
    }
}

/// A tensor that SGD changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSegment {
    /// Where it is.
    pub at: Segment,
    /// Weight decay, added to the gradient.
    pub decay: f32,
}

/// A step of SGD.
#[derive(Debug, Clone, PartialEq)]
pub struct SgdParams {
    /// Learning rate.
    pub rate: f32,
    /// Momentum.
    pub momentum: f32,
    /// Whether it is Nesterov's.
    pub nesterov: bool,
    /// The tensors; none overlaps another.
    pub segments: Vec<SgdSegment>,
}

operator! {
    /// ```text
    /// d = factor * g + decay * w;  velocity = momentum * velocity + d
    /// w -= rate * (d + momentum * velocity  if Nesterov, else velocity)
    /// ```
    Sgd(SgdParams) as sgd => host SgdArgs, launch gpu::SgdArgs {
        /// The gradients' buffer.
        read g,
        /// Norm, factor and flag, as [`ClipFactor`] leaves them; a factor of 1 if absent.
        optional clip,
        /// As `g`.
        update velocity,
        /// As `g`.
        update w,
    }
}

impl Cost for Sgd {
    fn work(&self) -> Work {
        let len = elements(self.params.segments.iter().map(|segment| segment.at.len));
        Work { bytes: 20 * len, flops: 8 * len }
    }
}

/// A tensor that AdamW changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSegment {
    /// Where it is.
    pub at: Segment,
    /// Weight decay, decoupled.
    pub decay: f32,
    /// `1 - beta1^t` for the tensor's step number `t`, from 1.
    pub correction1: f32,
    /// `1 - beta2^t`.
    pub correction2: f32,
}

/// A step of AdamW.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWParams {
    /// Learning rate.
    pub rate: f32,
    /// Decay of the first moment: 0.9.
    pub beta1: f32,
    /// Decay of the second moment: 0.999.
    pub beta2: f32,
    /// Added to the root of the second moment: 1e-8.
    pub epsilon: f32,
    /// The tensors; none overlaps another.
    pub segments: Vec<AdamWSegment>,
}

operator! {
    /// ```text
    /// w *= 1 - rate * decay;  m += (1 - beta1) (g - m);  v += (1 - beta2) (g² - v)
    /// w -= rate * (m / correction1) / (sqrt(v / correction2) + epsilon)
    /// ```
    /// with `g` times the clipping factor (Loshchilov and Hutter, 2019).
    AdamW(AdamWParams) as adamw => host AdamWArgs, launch gpu::AdamWArgs {
        /// The gradients' buffer.
        read g,
        /// Norm, factor and flag, as [`ClipFactor`] leaves them; a factor of 1 if absent.
        optional clip,
        /// As `g`.
        update m,
        /// As `g`.
        update v,
        /// As `g`.
        update w,
    }
}

impl Cost for AdamW {
    fn work(&self) -> Work {
        let len = elements(self.params.segments.iter().map(|segment| segment.at.len));
        Work { bytes: 28 * len, flops: 15 * len }
    }
}

/// The clipping factor that a step takes, or none where it is to be left out.
fn factor<T: Real>(clip: Option<&[T]>) -> Option<T> {
    match clip {
        Some(clip) if clip[2] != T::zero() => None,
        Some(clip) => Some(clip[1]),
        None => Some(T::one()),
    }
}
