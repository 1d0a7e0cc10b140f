//! The gradient of squeeze-and-excitation, gate and gated map together.
//!
//! The forward pass is `xg = x * gate(x)` (see [`crate::ops::squeeze_excite`]). Given `dxg`:
//!
//! ```text
//! dgate[i, c] = sum over pixels of dxg x         dq = dgate * hsigmoid'(q)    (q: before h-sigmoid)
//! dexpand[c, j] += sum_i dq[i, c] h[i, j]        dexpand_bias[c] += sum_i dq[i, c]
//! dh = (dq . expand) * relu'                     dreduce[j, c] += sum_i dh[i, j] z[i, c], bias alike
//! dx = dxg * gate + (dh . reduce) / pixels
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, operator};
use crate::ops::squeeze_excite::Params;

operator! {
    /// The gradient of squeeze-and-excitation. The format of its parameters is that of `x`, `dxg` and
    /// `dx`; everything else is f32.
    SqueezeExciteGrad(Params) as run => host GradArgs, gpu GradAddresses = "SqueezeExciteGradArgs" {
        /// Map `[images, pixels, channels]`.
        read x: map,
        /// Gate of the forward pass `[images, channels]`.
        read gate,
        /// Gradient of the gated map: as `x`.
        read dxg: map,
        /// Panels `[ceil(hidden / 16)][weight_channels][16]`.
        read reduce,
        /// `[hidden]`
        read reduce_bias,
        /// Panels `[ceil(channels / 16)][weight_hidden][16]`.
        read expand,
        /// `[channels]`
        read expand_bias,
        /// Scratch of [`SqueezeExciteGrad::scratch_len`] elements.
        write scratch: scratch,
        /// As `x`.
        write dx: map,
        /// As `reduce`; added to.
        update dreduce,
        /// As `reduce_bias`; added to.
        update dreduce_bias,
        /// As `expand`; added to.
        update dexpand,
        /// As `expand_bias`; added to.
        update dexpand_bias,
    }
}

impl SqueezeExciteGrad {
    /// Elements of the scratch slot: for every image its mean `z`, hidden units `h`, and the
    /// gradients `dq`, `dh` and `dz / pixels`:
    /// `[z: images x channels][h: images x hidden][dq][dh][dz]`.
    pub fn scratch_len(p: &Params) -> usize {
        let [images, channels, hidden] = [p.images, p.channels, p.hidden].map(|v| v as usize);
        images * (3 * channels + 2 * hidden)
    }
}

impl Cost for SqueezeExciteGrad {
    fn work(&self) -> Work {
        let p = &self.params;
        let [images, pixels, c, h] = [p.images, p.pixels, p.channels, p.hidden].map(u64::from);
        Work {
            bytes: bytes(p.format) * 3 * images * c * pixels + 24 * c * h,
            flops: images * (5 * pixels * c + 12 * c * h),
        }
    }
}
