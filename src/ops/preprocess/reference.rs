//! The definition, written out.

use super::super::real::Real;
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let side_out = p.side_out as usize;
    let wide = |value: f32| T::of(f64::from(value));
    for image in 0..p.images as usize {
        let view = a.view(p, image);
        let (rows, columns) = view.taps(side_out);
        for (oy, v) in rows.iter().enumerate() {
            for (ox, h) in columns.iter().enumerate() {
                for c in 0..3 {
                    let pixel = |y: usize, x: usize| {
                        let value = (view.pixel(y, x) >> (8 * c)) & 255;
                        (T::of(f64::from(value)) / wide(p.scale) - wide(p.mean[c])) / wide(p.std[c])
                    };
                    let row =
                        |y: usize| (T::one() - h.weight) * pixel(y, h.near) + h.weight * pixel(y, h.far);
                    a.y[((image * side_out + oy) * side_out + ox) * 3 + c] =
                        (T::one() - v.weight) * row(v.near) + v.weight * row(v.far);
                }
            }
        }
    }
}
