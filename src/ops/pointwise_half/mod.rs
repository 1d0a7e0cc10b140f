//! 1x1 convolution, or a linear layer, in f16 or bf16 with sums in f32.
//!
//! ```text
//! y[m, n] = half(activation(scale[n] * sum_k half(x[row(m), k] * gate[image(m), k]) * w[n, k] + shift[n])
//!                + residual[m, n])
//! ```
//!
//! As [`pointwise`], but `x`, `w`, `residual` and `y` are [16-bit
//! numbers](super::halves), `half()` rounds to their format, and the weights lie as rows of input
//! channels. `scale`, `shift` and `gate` are f32: they are small, and made in f32. Sums and all that
//! follows them are f32 until `y` is rounded, once. On a GPU the products are those of tensor cores.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::{Format, PER_ELEMENT};
use super::operator::operator;
use super::{Work, pointwise};

/// Shape of a call, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// As of [`Pointwise`](pointwise::Pointwise); `weight_cin` is the length of a stored row.
    pub shape: pointwise::Params,
    /// A [`Format`].
    pub format: u32,
}

impl Params {
    /// What the 16-bit numbers are.
    pub fn format(&self) -> Format {
        Format::of(self.format)
    }
}

/// Elements of stored weights `[cout, cin]`.
pub fn weights_len(cout: usize, cin: usize) -> usize {
    cout * cin / PER_ELEMENT
}

operator! {
    /// A pointwise call in 16-bit numbers. Every slot starts at a multiple of 4 elements; `cin`, `cout`
    /// and `weight_cin` are multiples of 8.
    PointwiseHalf(Params) => host Args, gpu Addresses = "PointwiseHalfArgs" {
        /// Input map `[images, side_in, side_in, cin]`, two numbers an element.
        read x,
        /// Rows `[cout, weight_cin]`, two numbers an element.
        read w,
        /// `[cout]`
        optional scale,
        /// `[cout]`
        optional shift,
        /// `[images, cin]`
        optional gate,
        /// As `y`.
        optional residual,
        /// Output map `[images, side_out, side_out, cout]`, two numbers an element.
        write y,
    }
}

impl PointwiseHalf {
    pub(super) fn work(&self) -> Work {
        let p = &self.params.shape;
        let (rows, cin, cout) = (p.rows() as u64, u64::from(p.cin), u64::from(p.cout));
        let maps = rows * (cin + cout * (1 + u64::from(self.residual.is_some())));
        let small = [self.scale, self.shift, self.gate].into_iter().flatten();
        let small: u64 = small.map(|slot| slot.len as u64).sum();
        Work { bytes: 2 * (maps + cin * cout) + 4 * small, flops: 2 * rows * cin * cout }
    }
}

impl<T> Args<'_, T> {
    /// Panics where the shape is none that kernels take, or an operand is too short.
    fn check(&self, p: &Params) {
        let s = &p.shape;
        let (rows, cout) = (s.rows(), s.cout as usize);
        assert!([s.cin, s.cout, s.weight_cin].iter().all(|channels| channels.is_multiple_of(8)));
        assert!(s.cin <= s.weight_cin && self.w.len() >= weights_len(cout, s.weight_cin as usize));
        let inputs = s.images as usize * (s.side_in * s.side_in) as usize * s.cin as usize;
        assert!(self.x.len() >= inputs / PER_ELEMENT, "input too short");
        assert!(self.y.len() >= rows * cout / PER_ELEMENT, "output too short");
    }
}
