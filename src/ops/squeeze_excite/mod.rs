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

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a squeeze-and-excitation call, shared with the kernel.
    #[derive(Eq)]
    Params = "SqueezeExciteParams", "SqueezeExciteGradParams" {
        /// Images.
        images: u32,
        /// Pixels of an image.
        pixels: u32,
        /// Channels in use.
        channels: u32,
        /// Hidden units in use.
        hidden: u32,
        /// Channels of the stored reduce panels.
        weight_channels: u32,
        /// Hidden units of the stored expand panels.
        weight_hidden: u32,
        /// What the map is stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// A squeeze-and-excitation call.
    SqueezeExcite(Params) as run => host Args, gpu Addresses = "SqueezeExciteArgs" {
        /// Map `[images, pixels, channels]`.
        read x: map,
        /// Panels `[ceil(hidden / 16)][weight_channels][16]`.
        read reduce,
        /// `[hidden]`
        read reduce_bias,
        /// Panels `[ceil(channels / 16)][weight_hidden][16]`.
        read expand,
        /// `[channels]`
        read expand_bias,
        /// Gate `[images, channels]`.
        write gate,
    } with {
        groups: u32,
    }
}

impl Cost for SqueezeExcite {
    fn work(&self) -> Work {
        let p = &self.params;
        let [images, pixels, c, h] = [p.images, p.pixels, p.channels, p.hidden].map(u64::from);
        Work {
            bytes: bytes(p.format) * images * c * pixels + 4 * (images * c + 2 * c * h + c + h),
            flops: images * (pixels * c + 4 * c * h),
        }
    }
}
