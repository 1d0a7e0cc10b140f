//! Squeeze-and-excitation (SE): the gate of every channel of every image.
//!
//! ```text
//! z[i, c] = mean over pixels of x[i, :, c]
//! h[i, j] = relu(sum_c z[i, c] * reduce[j, c] + reduce_bias[j])
//! gate[i, c] = hsigmoid(sum_j h[i, j] * expand[c, j] + expand_bias[c])
//! ```
//!
//! The pointwise call that follows multiplies its input by the gate.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::{Slot, Work};

/// Shape of a squeeze-and-excitation call, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images.
    pub images: u32,
    /// Pixels of an image.
    pub pixels: u32,
    /// Channels in use.
    pub channels: u32,
    /// Hidden units in use.
    pub hidden: u32,
    /// Channels of the stored reduce panels.
    pub weight_channels: u32,
    /// Hidden units of the stored expand panels.
    pub weight_hidden: u32,
    /// What the map is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

/// A squeeze-and-excitation call.
#[derive(Debug, Clone, PartialEq)]
pub struct SqueezeExcite {
    /// Shape.
    pub params: Params,
    /// Map `[images, pixels, channels]`.
    pub x: Slot,
    /// Panels `[ceil(hidden / 16)][weight_channels][16]`.
    pub reduce: Slot,
    /// `[hidden]`
    pub reduce_bias: Slot,
    /// Panels `[ceil(channels / 16)][weight_hidden][16]`.
    pub expand: Slot,
    /// `[channels]`
    pub expand_bias: Slot,
    /// Gate `[images, channels]`.
    pub gate: Slot,
}

impl SqueezeExcite {
    pub(super) fn reads(&self) -> Vec<Slot> {
        vec![self.x, self.reduce, self.reduce_bias, self.expand, self.expand_bias]
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.gate]
    }

    pub(super) fn work(&self) -> Work {
        let p = &self.params;
        let [images, pixels, c, h] = [p.images, p.pixels, p.channels, p.hidden].map(u64::from);
        Work {
            bytes: bytes(p.format) * images * c * pixels + 4 * (images * c + 2 * c * h + c + h),
            flops: images * (pixels * c + 4 * c * h),
        }
    }
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: &'a [T],
    pub reduce: &'a [T],
    pub reduce_bias: &'a [T],
    pub expand: &'a [T],
    pub expand_bias: &'a [T],
    pub gate: &'a mut [T],
}
