//! The gradient of the stem's filters; its input is the image and needs none.
//!
//! ```text
//! dw[ky, kx, c, n] += sum_{i, oy, ox} dz[i, oy, ox, n] * x[i, 2 oy + ky - 1, 2 ox + kx - 1, c]
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, operator};
use crate::ops::stem::Params;

operator! {
    /// The gradient of a stem call's filters. The activation of its parameters is not used;
    /// their format is that of `dz`.
    StemWeights(Params) as weights => host WeightsArgs, gpu WeightsAddresses = "StemWeightsArgs" {
        /// Images `[images, side_in, side_in, 3]`.
        read x,
        /// Gradient of the convolution `[images, side_out, side_out, cout]`.
        read dz: map,
        /// Scratch of [`StemWeights::partials_len`] elements.
        write partials: scratch,
        /// `[3, 3, 3, cout]`; added to.
        update dw,
    }
}

/// Rows of an image's outputs that one partial sum covers, on every device.
const STRIP: u32 = 4;

impl StemWeights {
    /// Elements of the scratch slot: the filters, for every strip of four rows of every image.
    pub fn partials_len(p: &Params) -> usize {
        27 * (p.images * p.side_out.div_ceil(STRIP)) as usize * p.cout as usize
    }
}

impl Cost for StemWeights {
    fn work(&self) -> Work {
        let p = &self.params;
        let outputs = u64::from(p.images * p.side_out * p.side_out) * u64::from(p.cout);
        let inputs = u64::from(p.images * p.side_in * p.side_in) * 3;
        let small = 4 * (inputs + 54 * u64::from(p.cout));
        Work { bytes: small + bytes(p.format) * outputs, flops: 2 * 27 * outputs }
    }
}
