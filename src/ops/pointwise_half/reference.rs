//! The definition, written out.

use super::super::halves::{PER_ELEMENT, stored};
use super::super::real::{Real, activate};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let mut values = unrounded(p, &a);
    if p.pooled > 0 {
        values = means(p, &values);
    }
    match stored(p.output) {
        Some(format) => format.narrow(&values, a.y),
        None => a.y[..values.len()].copy_from_slice(&values),
    }
}

/// Means `[images, cout]` of outputs that are rounded to the format.
pub fn means<T: Real>(p: &Params, values: &[T]) -> Vec<T> {
    let (cout, pixels) = (p.shape.cout as usize, p.shape.pixels());
    let round = |value: T| T::of(f64::from(p.format().round(value.wide() as f32)));
    let mean = |image: &[T], n: usize| -> T {
        let sum: T = image[n..].iter().step_by(cout).map(|&value| round(value)).sum();
        sum / T::of(pixels as f64)
    };
    let images = values.chunks_exact(pixels * cout);
    images.flat_map(|image| (0..cout).map(move |n| mean(image, n))).collect()
}

/// The outputs `[rows, cout]` before they are rounded to the format; `y` is not touched.
pub fn unrounded<T: Real>(p: &Params, a: &Args<'_, T>) -> Vec<T> {
    a.check(p);
    let (format, shape) = (p.format(), &p.shape);
    let (cin, cout, stored) = (shape.cin as usize, shape.cout as usize, shape.weight_cin as usize);
    let number = |value: f32| T::of(f64::from(value));
    let (x, w) = (format.widen(a.x), format.widen(a.w));
    let residual = a.residual.map(|residual| format.widen(&residual[..shape.rows() * cout / PER_ELEMENT]));
    let mut y = Vec::with_capacity(shape.rows() * cout);
    for m in 0..shape.rows() {
        let x = &x[shape.input_row(m) * cin..][..cin];
        let gated = |k: usize| match a.gate {
            // The product is rounded as the kernel does it: an f32 first, then the format.
            Some(gate) => {
                let gate = gate[m / shape.pixels() * cin + k].wide() as f32;
                number(format.round(x[k].wide() as f32 * gate))
            }
            None => x[k],
        };
        let x: Vec<T> = (0..cin).map(gated).collect();
        for n in 0..cout {
            let w = &w[n * stored..][..cin];
            let sum: T = x.iter().zip(w).map(|(&x, &w)| x * w).sum();
            let scaled = sum * a.scale.map_or(T::one(), |s| s[n]) + a.shift.map_or(T::zero(), |s| s[n]);
            let residual = residual.as_ref().map_or(T::zero(), |r| r[m * cout + n]);
            y.push(activate(shape.activation, scaled) + residual);
        }
    }
    y
}
