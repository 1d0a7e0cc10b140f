//! 1x1 convolution, or a linear layer: a matrix product with everything around it.
//!
//! ```text
//! y[m, n] = activation(scale[n] * sum_k x[row(m), k] * gate[image(m), k] * w[n, k] + shift[n]) + residual[m, n]
//! ```
//!
//! `scale` and `shift` are a folded batch norm, or a bias alone; `gate` is the squeeze-and-excitation
//! of the input; `residual` a shortcut or another branch. All four are optional.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a pointwise call, shared with the kernel.
    #[derive(Eq)]
    Params = "PointwiseParams" {
        /// Images.
        images: u32,
        /// Side of the input map, in pixels.
        side_in: u32,
        /// Side of the output map: `ceil(side_in / stride)`.
        side_out: u32,
        /// Input channels in use.
        cin: u32,
        /// Output channels in use.
        cout: u32,
        /// Input channels of the stored panels; at least `cin`.
        weight_cin: u32,
        /// Pixel stride.
        stride: u32,
        /// An [`Activation`](super::Activation).
        activation: u32,
    }
}

impl Params {
    /// Output pixels of an image.
    pub fn pixels(&self) -> usize {
        (self.side_out * self.side_out) as usize
    }

    /// Rows of the product.
    pub fn rows(&self) -> usize {
        self.images as usize * self.pixels()
    }

    /// Operations of the product.
    pub fn flops(&self) -> u64 {
        2 * self.rows() as u64 * u64::from(self.cin) * u64::from(self.cout)
    }

    /// Index of the input row that output row `m` reads.
    pub fn input_row(&self, m: usize) -> usize {
        if self.stride == 1 {
            return m;
        }
        let (side_in, side_out, stride) =
            (self.side_in as usize, self.side_out as usize, self.stride as usize);
        let (image, pixel) = (m / self.pixels(), m % self.pixels());
        (image * side_in + pixel / side_out * stride) * side_in + pixel % side_out * stride
    }
}

operator! {
    /// A pointwise call.
    Pointwise(Params) as run => host Args, gpu Addresses = "PointwiseArgs" {
        /// Input map `[images, side_in, side_in, cin]`.
        read x,
        /// Panels `[ceil(cout / 16)][weight_cin][16]`.
        read w,
        /// `[cout]`
        optional scale,
        /// `[cout]`
        optional shift,
        /// `[images, cin]`
        optional gate,
        /// As `y`.
        optional residual,
        /// Output map `[images, side_out, side_out, cout]`.
        write y,
    }
}

impl Cost for Pointwise {
    fn work(&self) -> Work {
        let p = &self.params;
        let (rows, cin, cout) = (p.rows() as u64, u64::from(p.cin), u64::from(p.cout));
        let maps = rows * (cin + cout * (1 + u64::from(self.residual.is_some())));
        Work { bytes: 4 * (maps + cin * cout), flops: p.flops() }
    }
}
