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

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a depthwise call, shared with the kernel.
    #[derive(Eq)]
    Params = "DepthwiseParams" {
        /// Images.
        images: u32,
        /// Side of the input map, in pixels.
        side_in: u32,
        /// Side of the output map: `ceil(side_in / stride)`.
        side_out: u32,
        /// Channels in use.
        channels: u32,
        /// Channels of the stored filter; at least `channels`.
        weight_channels: u32,
        /// Kernel size: 3, 5 or 7.
        kernel: u32,
        /// Pixel stride: 1 or 2.
        stride: u32,
        /// An [`Activation`](super::Activation).
        activation: u32,
        /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// A depthwise call.
    Depthwise(Params) as run => host Args, gpu Addresses = "DepthwiseArgs" {
        /// Input map `[images, side_in, side_in, channels]`.
        read x: map,
        /// Filter `[kernel, kernel, weight_channels]`.
        read w,
        /// `[channels]`
        optional scale,
        /// `[channels]`
        optional shift,
        /// Output map `[images, side_out, side_out, channels]`.
        write y: map,
        /// Means `[images, channels]`, where they are wanted.
        optional_write pool,
    } with {
        groups: u32,
        workers: u32,
    }
}

impl Cost for Depthwise {
    fn work(&self) -> Work {
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
