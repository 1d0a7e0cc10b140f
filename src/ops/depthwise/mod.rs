//! Depthwise convolution, "same" padding, with folded batch norm and activation.
//!
//! ```text
//! y[i, oy, ox, c] = activation(scale[c] * sum_{ky, kx} x[i, oy s + ky - k/2, ox s + kx - k/2, c] * w[ky, kx, c] + shift[c])
//! pool[i, c] = mean over oy, ox of y[i, oy, ox, c]
//! ```
//!
//! The means are what squeeze-and-excitation reads of the map, at hand while the map is made.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::{Slot, Work};

/// Shape of a depthwise call, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images.
    pub images: u32,
    /// Side of the input map, in pixels.
    pub side_in: u32,
    /// Side of the output map: `ceil(side_in / stride)`.
    pub side_out: u32,
    /// Channels in use.
    pub channels: u32,
    /// Channels of the stored filter; at least `channels`.
    pub weight_channels: u32,
    /// Kernel size: 3, 5 or 7.
    pub kernel: u32,
    /// Pixel stride: 1 or 2.
    pub stride: u32,
    /// An [`Activation`](super::Activation).
    pub activation: u32,
    /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

/// A depthwise call.
#[derive(Debug, Clone, PartialEq)]
pub struct Depthwise {
    /// Shape.
    pub params: Params,
    /// Input map `[images, side_in, side_in, channels]`.
    pub x: Slot,
    /// Filter `[kernel, kernel, weight_channels]`.
    pub w: Slot,
    /// `[channels]`
    pub scale: Option<Slot>,
    /// `[channels]`
    pub shift: Option<Slot>,
    /// Output map `[images, side_out, side_out, channels]`.
    pub y: Slot,
    /// Means `[images, channels]`, where they are wanted.
    pub pool: Option<Slot>,
}

impl Depthwise {
    pub(super) fn reads(&self) -> Vec<Slot> {
        [Some(self.x), Some(self.w), self.scale, self.shift].into_iter().flatten().collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        [Some(self.y), self.pool].into_iter().flatten().collect()
    }

    pub(super) fn work(&self) -> Work {
        let p = &self.params;
        let per_side = |side: u32| u64::from(p.images * side * side) * u64::from(p.channels);
        let (taps, channels) = (u64::from(p.kernel * p.kernel), u64::from(p.channels));
        let (pooled, summed) = match self.pool {
            Some(_) => (u64::from(p.images) * channels, per_side(p.side_out)),
            None => (0, 0),
        };
        Work {
            bytes: bytes(p.format) * (per_side(p.side_in) + per_side(p.side_out))
                + 4 * (taps * channels + pooled),
            flops: 2 * taps * per_side(p.side_out) + summed,
        }
    }
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: &'a [T],
    pub w: &'a [T],
    pub scale: Option<&'a [T]>,
    pub shift: Option<&'a [T]>,
    pub y: &'a mut [T],
    pub pool: Option<&'a mut [T]>,
}
