//! Pooling: the mean over an image, and the 2x2 maximum in ceil mode.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a pooling call, shared with the kernels.
    #[derive(Eq)]
    Params = "PoolParams", "PoolGradParams" {
        /// Images.
        images: u32,
        /// Side of the input map, in pixels.
        side_in: u32,
        /// Side of the output map: 1, or `ceil(side_in / 2)`.
        side_out: u32,
        /// Channels.
        channels: u32,
        /// What maps are stored as, means apart: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// `y[i, c] = mean over pixels of x[i, :, :, c]`
    GlobalPool(Params) as global => host GlobalArgs, gpu GlobalAddresses = "GlobalPoolArgs" {
        /// Input map `[images, side_in, side_in, channels]`.
        read x: map,
        /// Means `[images, channels]`.
        write y,
    }
}

operator! {
    /// `y[i, oy, ox, c]` = the maximum of the up to four pixels of `x` at `2 oy..`, `2 ox..`
    MaxPool(Params) as max => host MaxArgs, gpu MaxAddresses = "MaxPoolArgs" {
        /// Input map `[images, side_in, side_in, channels]`.
        read x: map,
        /// Output map `[images, side_out, side_out, channels]`.
        write y: map,
    }
}

impl Params {
    /// Bytes and FLOPs, where a number of the output has so many bytes.
    fn work(&self, output: u64) -> Work {
        let map = |side: u32| u64::from(self.images * side * side) * u64::from(self.channels);
        let (read, written) = (map(self.side_in), map(self.side_out));
        Work { bytes: bytes(self.format) * read + output * written, flops: read }
    }
}

impl Cost for GlobalPool {
    fn work(&self) -> Work {
        self.params.work(4)
    }
}

impl Cost for MaxPool {
    fn work(&self) -> Work {
        self.params.work(bytes(self.params.format))
    }
}
