//! Gradient of the weights of a 1x1 convolution in f16 or bf16, with sums in f32.
//!
//! ```text
//! dw[n, k] += sum_m dz[m, n] * half(x[row(m), k] * gate[image(m), k])
//! ```
//!
//! As [`PointwiseWeights`], but `x` and `dz` are [16-bit numbers](crate::ops::halves) and `half()` rounds to
//! their format, as the [forward operator](crate::ops::pointwise_half) does. `gate`, sums and `dw` are f32.
//! The gradient of the input is a forward call on transposed rows ([`crate::ops::half_rows`]).

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::pointwise::PointwiseWeights;
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::operator::{Cost, operator, params};
use crate::ops::{Real, Work, pointwise};

params! {
    /// Shape of a call, shared with the kernel.
    #[derive(Eq)]
    Params = "PointwiseHalfWeightsParams" {
        /// As of [`PointwiseWeights`].
        shape: pointwise::Params,
        /// A [`Format`].
        format: u32,
    }
}

impl Params {
    /// What the 16-bit numbers are.
    pub fn format(&self) -> Format {
        Format::of(self.format)
    }

    /// The call's input as numbers, gated where it is, in two steps as the kernel does it: an f32 product,
    /// then the format.
    fn gated<T: Real>(&self, x: &[T], gate: Option<&[T]>) -> Vec<T> {
        let (format, cin) = (self.format(), self.shape.cin as usize);
        let image = (self.shape.side_in * self.shape.side_in) as usize * cin;
        let mut x = format.widen(&x[..self.shape.images as usize * image / PER_ELEMENT]);
        if let Some(gate) = gate {
            for (x, gate) in x.chunks_exact_mut(image).zip(gate.chunks_exact(cin)) {
                for x in x.chunks_exact_mut(cin) {
                    for (x, gate) in x.iter_mut().zip(gate) {
                        *x = T::of(f64::from(format.round(x.wide() as f32 * gate.wide() as f32)));
                    }
                }
            }
        }
        x
    }
}

operator! {
    /// The gradient of the weights of a pointwise call in 16-bit numbers. Every slot starts at a multiple of 4
    /// elements; `cin`, `cout` and `weight_cin` are multiples of 8.
    PointwiseHalfWeights(Params) as weights => host WeightsArgs, gpu WeightsAddresses = "PointwiseHalfWeightsArgs" {
        /// The call's input `[images, side_in, side_in, cin]`, two numbers an element.
        read x: halves,
        /// Gradient of the product `[images, side_out, side_out, cout]`, two numbers an element.
        read dz: halves,
        /// The call's gate `[images, cin]`.
        optional gate,
        /// Scratch of [`PointwiseWeights::partials_len`] elements.
        write partials: scratch,
        /// Panels `[ceil(cout / 16)][weight_cin][16]`; added to.
        update dw,
    }
}

impl PointwiseHalfWeights {
    /// The same call on maps in f32, under the same slots: what adds its partial sums.
    fn widened(&self) -> PointwiseWeights {
        let Self { params, x, dz, gate, partials, dw } = *self;
        PointwiseWeights { params: params.shape, x, dz, gate, partials, dw }
    }
}

impl Cost for PointwiseHalfWeights {
    fn work(&self) -> Work {
        let p = &self.params.shape;
        let (rows, cin, cout) = (p.rows() as u64, u64::from(p.cin), u64::from(p.cout));
        Work { bytes: 2 * rows * (cin + cout) + 8 * cin * cout, flops: p.flops() }
    }

    fn tensor_flops(&self) -> u64 {
        self.params.shape.flops()
    }
}
