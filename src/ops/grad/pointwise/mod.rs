//! Gradients of the 1x1 convolution and of the linear layer.
//!
//! ```text
//! dw[n, k] += sum_m dz[m, n] * x[row(m), k] * gate[image(m), k]
//! dx = dz times the transposed weights: a forward call on the panels that `Transpose` makes
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::super::pointwise::Params;
use crate::launch::panels::panelled_len;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, Group, operator, params};
use crate::ops::{PANEL, Work};

/// Rows of the product that one partial sum covers, on every device.
pub const BLOCK_ROWS: usize = 512;

operator! {
    /// The gradient of a pointwise call's weights. The activation of its parameters is not used.
    PointwiseWeights(Params) as weights => host WeightsArgs, gpu WeightsAddresses = "PointwiseWeightsArgs" {
        /// The call's input `[images, side_in, side_in, cin]`.
        read x,
        /// Gradient of the product `[images, side_out, side_out, cout]`.
        read dz,
        /// The call's gate `[images, cin]`.
        optional gate,
        /// Scratch of [`PointwiseWeights::partials_len`] elements.
        write partials: scratch,
        /// Panels `[ceil(cout / 16)][weight_cin][16]`; added to.
        update dw,
    }
}

impl PointwiseWeights {
    /// Elements of the scratch slot: a product a block of [`BLOCK_ROWS`] rows. A single block goes
    /// straight to the gradient; the slot is then there because slots are not empty.
    pub fn partials_len(p: &Params) -> usize {
        match p.rows().div_ceil(BLOCK_ROWS) {
            0 | 1 => PANEL,
            blocks => blocks * panelled_len(p.cout as usize, p.cin as usize),
        }
    }
}

impl Cost for PointwiseWeights {
    fn work(&self) -> Work {
        let p = &self.params;
        let (rows, cin, cout) = (p.rows() as u64, u64::from(p.cin), u64::from(p.cout));
        Work { bytes: 4 * (rows * (cin + cout) + 2 * cin * cout), flops: 2 * rows * cin * cout }
    }
}

params! {
    /// Shape of a transposition, shared with the kernel.
    #[derive(Eq)]
    TransposeParams = "TransposeParams" {
        /// Stored output channels, a multiple of 8.
        cout: u32,
        /// Stored input channels, a multiple of 8.
        cin: u32,
    }
}

operator! {
    /// Panels of the transposed matrix; what lies behind its last row is zero.
    Transpose(TransposeParams) as transpose, together => host TransposeArgs, gpu TransposeAddresses = "TransposeArgs",
        group gpu::TRANSPOSES = "TransposeGroup"
    {
        /// Panels `[ceil(cout / 16)][cin][16]`.
        read w,
        /// Panels `[ceil(cin / 16)][cout][16]`.
        write t,
    }
}

impl Cost for Transpose {
    fn work(&self) -> Work {
        Work { bytes: 8 * u64::from(self.params.cout) * u64::from(self.params.cin), flops: 0 }
    }
}

/// Many transpositions at once, as those of all weights of a step.
pub type TransposeGroup = Group<Transpose>;

params! {
    /// Shape of a scattering, shared with the kernel.
    #[derive(Eq)]
    ScatterParams = "ScatterParams" {
        /// Images.
        images: u32,
        /// Side of the large map.
        side_in: u32,
        /// Side of the small map: `ceil(side_in / stride)`.
        side_out: u32,
        /// Channels.
        channels: u32,
        /// Pixel stride.
        stride: u32,
        /// What maps are stored as: a [`Format`](crate::ops::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// The gradient of taking every `stride`-th pixel: `x` put back to its places, zero elsewhere,
    /// plus `residual`.
    Scatter(ScatterParams) as scatter => host ScatterArgs, gpu ScatterAddresses = "ScatterArgs" {
        /// `[images, side_out, side_out, channels]`
        read x: map,
        /// As `y`.
        optional residual: map,
        /// `[images, side_in, side_in, channels]`
        write y: map,
    }
}

impl Cost for Scatter {
    fn work(&self) -> Work {
        let p = &self.params;
        let map = |side: u32| u64::from(p.images * side * side) * u64::from(p.channels);
        let large = map(p.side_in) * (1 + u64::from(self.residual.is_some()));
        Work { bytes: bytes(p.format) * (map(p.side_out) + large), flops: map(p.side_out) }
    }
}
