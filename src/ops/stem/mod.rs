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

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a stem call, shared with the kernel.
    #[derive(Eq)]
    Params = "StemParams" {
        /// Images.
        images: u32,
        /// Side of the input image, in pixels.
        side_in: u32,
        /// Side of the output map: `ceil(side_in / 2)`.
        side_out: u32,
        /// Output channels.
        cout: u32,
        /// An [`Activation`](super::Activation).
        activation: u32,
        /// What the output is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// A stem call.
    Stem(Params) as run => host Args, gpu Addresses = "StemArgs" {
        /// Images `[images, side_in, side_in, 3]`.
        read x,
        /// Filters `[3, 3, 3, cout]`.
        read w,
        /// `[cout]`
        optional scale,
        /// `[cout]`
        optional shift,
        /// Output map `[images, side_out, side_out, cout]`.
        write y: map,
    }
}

impl Cost for Stem {
    fn work(&self) -> Work {
        let p = &self.params;
        let outputs = u64::from(p.images * p.side_out * p.side_out) * u64::from(p.cout);
        let inputs = u64::from(p.images * p.side_in * p.side_in) * 3;
        let small = inputs + 27 * u64::from(p.cout);
        Work { bytes: 4 * small + bytes(p.format) * outputs, flops: 2 * 27 * outputs }
    }
}
