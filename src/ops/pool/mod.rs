//! Pooling: the mean over an image, and the 2x2 maximum in ceil mode.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::{Slot, Work};

/// Shape of a pooling call, shared with the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images.
    pub images: u32,
    /// Side of the input map, in pixels.
    pub side_in: u32,
    /// Side of the output map: 1, or `ceil(side_in / 2)`.
    pub side_out: u32,
    /// Channels.
    pub channels: u32,
    /// What maps are stored as, means apart: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

macro_rules! pool {
    ($(#[$doc:meta])* $name:ident, $output:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// Shape.
            pub params: Params,
            /// Input map `[images, side_in, side_in, channels]`.
            pub x: Slot,
            /// Output map `[images, side_out, side_out, channels]`.
            pub y: Slot,
        }

        impl $name {
            pub(super) fn reads(&self) -> Vec<Slot> {
                vec![self.x]
            }

            pub(super) fn writes(&self) -> Vec<Slot> {
                vec![self.y]
            }

            pub(super) fn work(&self) -> Work {
                let p = &self.params;
                let map = |side: u32| u64::from(p.images * side * side) * u64::from(p.channels);
                let output: u64 = $output(p) * map(p.side_out);
                Work { bytes: bytes(p.format) * map(p.side_in) + output, flops: map(p.side_in) }
            }
        }
    };
}

pool! {
    /// `y[i, c] = mean over pixels of x[i, :, :, c]`
    GlobalPool, |_: &Params| 4
}
pool! {
    /// `y[i, oy, ox, c]` = the maximum of the up to four pixels of `x` at `2 oy..`, `2 ox..`
    MaxPool, |p: &Params| bytes(p.format)
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: &'a [T],
    pub y: &'a mut [T],
}
