//! Gradients of pooling.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::operator::operator;
use crate::ops::pool::Params;

operator! {
    /// The gradient of the mean over an image: `dx = dy / pixels` at every pixel.
    GlobalPoolGrad(Params) => host GlobalArgs, gpu GlobalAddresses = "GlobalPoolGradArgs" {
        /// `[images, channels]`
        read dy,
        /// `[images, side_in, side_in, channels]`
        write dx,
    }
}

impl GlobalPoolGrad {
    pub(in crate::ops) fn work(&self) -> Work {
        work(&self.params, 1)
    }
}

operator! {
    /// The gradient of the 2x2 maximum: `dy` goes to the first largest pixel of its window, row by
    /// row, and `residual` is added.
    MaxPoolGrad(Params) => host MaxArgs, gpu MaxAddresses = "MaxPoolGradArgs" {
        /// The call's input `[images, side_in, side_in, channels]`.
        read x,
        /// `[images, side_out, side_out, channels]`
        read dy,
        /// As `dx`.
        optional residual,
        /// As `x`.
        write dx,
    }
}

impl MaxPoolGrad {
    pub(in crate::ops) fn work(&self) -> Work {
        work(&self.params, 2 + u64::from(self.residual.is_some()))
    }
}

fn work(p: &Params, maps: u64) -> Work {
    let map = |side: u32| u64::from(p.images * side * side) * u64::from(p.channels);
    Work { bytes: 4 * (maps * map(p.side_in) + map(p.side_out)), flops: map(p.side_in) }
}
