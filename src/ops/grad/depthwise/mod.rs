//! Gradients of the depthwise convolution.
//!
//! ```text
//! dx[i, iy, ix, c] = sum over taps and outputs that read it of dz[i, oy, ox, c] * w[ky, kx, c] + residual
//! dw[ky, kx, c] += sum_{i, oy, ox} dz[i, oy, ox, c] * x[i, oy s + ky - k/2, ox s + kx - k/2, c]
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::depthwise::Params;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, operator};

operator! {
    /// The gradient of a depthwise call's input. The activation of its parameters is not used.
    DepthwiseInput(Params) as input => host InputArgs, gpu InputAddresses = "DepthwiseInputArgs" {
        /// Gradient of the convolution `[images, side_out, side_out, channels]`.
        read dz: map,
        /// Filter `[kernel, kernel, weight_channels]`.
        read w,
        /// What is added: as `dx`.
        optional residual: map,
        /// `[images, side_in, side_in, channels]`
        write dx: map,
    }
}

impl Cost for DepthwiseInput {
    fn work(&self) -> Work {
        let work = work(&self.params);
        let again = u64::from(self.residual.is_some()) * map(&self.params, self.params.side_in);
        Work { bytes: work.bytes + bytes(self.params.format) * again, ..work }
    }
}

operator! {
    /// The gradient of a depthwise call's filter. The activation of its parameters is not used.
    DepthwiseWeights(Params) as weights => host WeightsArgs, gpu WeightsAddresses = "DepthwiseWeightsArgs" {
        /// The call's input `[images, side_in, side_in, channels]`.
        read x: map,
        /// Gradient of the convolution `[images, side_out, side_out, channels]`.
        read dz: map,
        /// Scratch of [`DepthwiseWeights::partials_len`] elements.
        write partials: scratch,
        /// `[kernel, kernel, weight_channels]`; added to.
        update dw,
    }
}

/// Output pixels that a block of images has at least, where there are that many.
const BLOCK_PIXELS: u32 = 128;

/// Channels of a partial sum.
const CHUNK: usize = 32;

/// Images that one partial sum covers, on every device.
fn block_images(p: &Params) -> usize {
    (BLOCK_PIXELS / (p.side_out * p.side_out)).clamp(1, p.images.max(1)) as usize
}

impl DepthwiseWeights {
    /// Elements of the scratch slot: filters of 32 channels, `[kernel, kernel, 32]`, for every
    /// block of images and every 32 channels.
    pub fn partials_len(p: &Params) -> usize {
        let blocks = (p.images as usize).div_ceil(block_images(p));
        blocks * (p.channels as usize).div_ceil(CHUNK) * (p.kernel * p.kernel) as usize * CHUNK
    }
}

impl Cost for DepthwiseWeights {
    fn work(&self) -> Work {
        work(&self.params)
    }
}

fn map(p: &Params, side: u32) -> u64 {
    u64::from(p.images * side * side) * u64::from(p.channels)
}

fn work(p: &Params) -> Work {
    let taps = u64::from(p.kernel * p.kernel);
    Work {
        bytes: bytes(p.format) * (map(p, p.side_in) + map(p, p.side_out)) + 4 * taps * u64::from(p.channels),
        flops: 2 * taps * map(p, p.side_out),
    }
}
