//! Smaller depthwise filters from larger ones (OFA's kernel transform).
//!
//! The centre of the larger filter, as a vector of `to * to` taps, times a matrix that all channels
//! of the layer share:
//!
//! ```text
//! y[t, c] = sum_u matrix[t, u] * centre(x)[u, c]
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::operator::group;
use super::{Slot, Work};

/// Shape of a kernel transform, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Channels.
    pub channels: u32,
    /// Size of the given filter.
    pub from: u32,
    /// Size of the filter to make; two less.
    pub to: u32,
}

impl Params {
    /// Row of the given filter that tap `t` of the centre is.
    pub fn centre(&self, t: usize) -> usize {
        let (from, to) = (self.from as usize, self.to as usize);
        let border = (from - to) / 2;
        (t / to + border) * from + t % to + border
    }
}

/// A kernel transform.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTransform {
    /// Shape.
    pub params: Params,
    /// Filter `[from, from, channels]`.
    pub x: Slot,
    /// Matrix `[to * to, to * to]`.
    pub matrix: Slot,
    /// Filter `[to, to, channels]`.
    pub y: Slot,
}

impl KernelTransform {
    pub(super) fn reads(&self) -> Vec<Slot> {
        vec![self.x, self.matrix]
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.y]
    }

    pub(super) fn work(&self) -> Work {
        let (taps, channels) = (u64::from(self.params.to * self.params.to), u64::from(self.params.channels));
        Work { bytes: 4 * taps * (2 * channels + taps), flops: 2 * taps * taps * channels }
    }
}

group! {
    /// Those of many layers at once.
    KernelTransformGroup of KernelTransform
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: &'a [T],
    pub matrix: &'a [T],
    pub y: &'a mut [T],
}
