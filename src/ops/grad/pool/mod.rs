//! Gradients of pooling.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, operator};
use crate::ops::pool::Params;

operator! {
    /// The gradient of the mean over an image: `dx = dy / pixels` at every pixel. As means are, `dy` is
    /// f32 whatever the format of the map.
    GlobalPoolGrad(Params) as global => host GlobalArgs, gpu GlobalAddresses = "GlobalPoolGradArgs" {
        /// `[images, channels]`
        read dy,
        /// `[images, side_in, side_in, channels]`
        write dx: map,
    }
}

impl Cost for GlobalPoolGrad {
    fn work(&self) -> Work {
        let p = &self.params;
        let (dx, dy) = (map(p, p.side_in), u64::from(p.images) * u64::from(p.channels));
        Work { bytes: bytes(p.format) * dx + 4 * dy, flops: dx }
    }
}

operator! {
    /// The gradient of the 2x2 maximum: `dy` goes to the first largest pixel of its window, row by
    /// row, and `residual` is added.
    MaxPoolGrad(Params) as max => host MaxArgs, gpu MaxAddresses = "MaxPoolGradArgs" {
        /// The call's input `[images, side_in, side_in, channels]`.
        read x: map,
        /// `[images, side_out, side_out, channels]`
        read dy: map,
        /// As `dx`.
        optional residual: map,
        /// As `x`.
        write dx: map,
    }
}

impl Cost for MaxPoolGrad {
    fn work(&self) -> Work {
        let p = &self.params;
        let (large, small) = (map(p, p.side_in), map(p, p.side_out));
        let maps = 2 + u64::from(self.residual.is_some());
        Work { bytes: bytes(p.format) * (maps * large + small), flops: large }
    }
}

/// Numbers of a map.
fn map(p: &Params, side: u32) -> u64 {
    u64::from(p.images * side * side) * u64::from(p.channels)
}
