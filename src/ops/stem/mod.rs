//! The first convolution: 3x3, stride 2, padding 1, three input channels.
//!
//! ```text
//! y[i, oy, ox, n] = activation(scale[n] * sum_{ky, kx, c} x[i, 2 oy + ky - 1, 2 ox + kx - 1, c] * w[ky, kx, c, n] + shift[n])
//! ```
//!
//! The output may be stored in [16 bits](super::halves); everything else is f32.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::{Slot, Work};

/// Shape of a stem call, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images.
    pub images: u32,
    /// Side of the input image, in pixels.
    pub side_in: u32,
    /// Side of the output map: `ceil(side_in / 2)`.
    pub side_out: u32,
    /// Output channels.
    pub cout: u32,
    /// An [`Activation`](super::Activation).
    pub activation: u32,
    /// What the output is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

/// A stem call.
#[derive(Debug, Clone, PartialEq)]
pub struct Stem {
    /// Shape.
    pub params: Params,
    /// Images `[images, side_in, side_in, 3]`.
    pub x: Slot,
    /// Filters `[3, 3, 3, cout]`.
    pub w: Slot,
    /// `[cout]`
    pub scale: Option<Slot>,
    /// `[cout]`
    pub shift: Option<Slot>,
    /// Output map `[images, side_out, side_out, cout]`.
    pub y: Slot,
}

impl Stem {
    pub(super) fn reads(&self) -> Vec<Slot> {
        [Some(self.x), Some(self.w), self.scale, self.shift].into_iter().flatten().collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.y]
    }

    pub(super) fn work(&self) -> Work {
        let p = &self.params;
        let outputs = u64::from(p.images * p.side_out * p.side_out) * u64::from(p.cout);
        let inputs = u64::from(p.images * p.side_in * p.side_in) * 3;
        let small = inputs + 27 * u64::from(p.cout);
        Work { bytes: 4 * small + bytes(p.format) * outputs, flops: 2 * 27 * outputs }
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
}
