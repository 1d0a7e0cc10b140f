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
//!
//! Two things may be otherwise, as the layers of a head need it. *Pooled*, `y[i, n]` is the mean of all that over
//! the pixels of image `i`, rounded again: the map itself is never written. And `y` may be f32: what would be
//! rounded last is not, since the nearest numbers of a format are too far apart to rank classes by.
//!
//! ```text
//! bytes = 2 (rows cin + cin cout + rows cout)   2 rows cout with a residual, and the small f32 arrays;
//!         pooled images cout in place of rows cout; an f32 y twice its numbers
//! FLOPs = 2 rows cin cout                       rows cout more if pooled
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::{Format, PER_ELEMENT, bytes, elements, stored};
use super::operator::{Cost, operator, params};
use super::{Work, pointwise};

params! {
    /// Shape of a call, shared with the kernel.
    #[derive(Eq)]
    Params = "PointwiseHalfParams" {
        /// As of [`Pointwise`](pointwise::Pointwise); `weight_cin` is the length of a stored row.
        shape: pointwise::Params,
        /// What the numbers of `y` are: 0 for f32, else as [`Params::format`].
        output: u32,
        /// 1: `y` is means over the pixels of each image.
        pooled: u32,
        /// A [`Format`].
        format: u32,
    }
}

impl Params {
    /// Rows of `y`, of `cout` numbers each: pixels, or images.
    pub fn outputs(&self) -> usize {
        if self.pooled > 0 { self.shape.images as usize } else { self.shape.rows() }
    }

    /// Elements of `y`.
    pub fn output_len(&self) -> usize {
        elements(stored(self.output), self.outputs() * self.shape.cout as usize)
    }

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
    PointwiseHalf(Params) as run => host Args, gpu Addresses = "PointwiseHalfArgs" {
        /// Input map `[images, side_in, side_in, cin]`, two numbers an element.
        read x: halves,
        /// Rows `[cout, weight_cin]`, two numbers an element.
        read w: halves,
        /// `[cout]`
        optional scale,
        /// `[cout]`
        optional shift,
        /// `[images, cin]`
        optional gate,
        /// As the output map, two numbers an element.
        optional residual: halves,
        /// Output map `[images, side_out, side_out, cout]`, or means `[images, cout]`; two numbers an element
        /// unless it is f32.
        write y: output,
    }
}

impl Cost for PointwiseHalf {
    fn work(&self) -> Work {
        let p = &self.params.shape;
        let (rows, cin, cout) = (p.rows() as u64, u64::from(p.cin), u64::from(p.cout));
        let maps = rows * (cin + cout * u64::from(self.residual.is_some()));
        let output = bytes(self.params.output) * self.params.outputs() as u64 * cout;
        let sums = u64::from(self.params.pooled) * rows * cout;
        let small = [self.scale, self.shift, self.gate].into_iter().flatten();
        let small: u64 = small.map(|slot| slot.len as u64).sum();
        Work { bytes: 2 * (maps + cin * cout) + output + 4 * small, flops: p.flops() + sums }
    }

    fn tensor_flops(&self) -> u64 {
        self.params.shape.flops()
    }
}

impl<T> Args<'_, T> {
    /// Panics where the shape is none that kernels take, or an operand is too short.
    fn check(&self, p: &Params) {
        let s = &p.shape;
        let cout = s.cout as usize;
        assert!([s.cin, s.cout, s.weight_cin].iter().all(|channels| channels.is_multiple_of(8)));
        assert!(s.cin <= s.weight_cin && self.w.len() >= weights_len(cout, s.weight_cin as usize));
        let inputs = s.images as usize * (s.side_in * s.side_in) as usize * s.cin as usize;
        assert!(self.x.len() >= inputs / PER_ELEMENT, "input too short");
        assert!(p.output == 0 || p.output == p.format, "outputs of another format");
        assert!(self.y.len() >= p.output_len(), "output too short");
    }
}
