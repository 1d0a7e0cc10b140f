//! The definitions, written out.

use super::{InputArgs, Params, RunningArgs, RunningParams, SumsArgs};
use crate::ops::Real;
use crate::ops::real::derivative;

/// `du` and `x̂` of element `i`.
fn element<T: Real>(
    p: &Params,
    (z, dy): (&[T], &[T]),
    batch: &[T],
    affine: (&[T], &[T]),
    i: usize,
) -> (T, T) {
    let channels = p.channels as usize;
    let c = i % channels;
    let deviation = (batch[channels + c] + T::of(f64::from(p.epsilon))).sqrt();
    let du = dy[i] * derivative(p.activation, affine.0[c] * z[i] + affine.1[c]);
    (du, (z[i] - batch[c]) / deviation)
}

/// The sums, and what they add to the affine parameters' gradients. The scratch slot is not needed
/// here and filled with zeros.
pub fn sums<T: Real>(p: &Params, a: SumsArgs<'_, T>) {
    let (rows, channels) = (p.rows as usize, p.channels as usize);
    a.partials.fill(T::zero());
    for c in 0..channels {
        let (mut plain, mut normalised) = (0.0, 0.0);
        for row in 0..rows {
            let (du, x) = element(p, (a.z, a.dy), a.batch, (a.scale, a.shift), row * channels + c);
            plain += du.wide();
            normalised += du.wide() * x.wide();
        }
        (a.sums[c], a.sums[channels + c]) = (T::of(plain), T::of(normalised));
        a.dbeta[c] = a.dbeta[c] + T::of(plain);
        a.dgamma[c] = a.dgamma[c] + T::of(normalised);
    }
}

/// Gradient of the input.
pub fn input<T: Real>(p: &Params, a: InputArgs<'_, T>) {
    let channels = p.channels as usize;
    let rows = T::of(f64::from(p.rows));
    for i in 0..p.rows as usize * channels {
        let c = i % channels;
        let (du, x) = element(p, (a.z, a.dy), a.batch, (a.scale, a.shift), i);
        let centred = du - a.sums[c] / rows - x * a.sums[channels + c] / rows;
        a.dz[i] = a.scale[c] * centred + a.residual.map_or(T::zero(), |r| r[i]);
    }
}

/// Running mean and variance.
pub fn running<T: Real>(p: &RunningParams, a: RunningArgs<'_, T>) {
    let channels = p.channels as usize;
    let [momentum, unbias] = [p.momentum, p.unbias].map(|v| T::of(f64::from(v)));
    for c in 0..channels {
        a.mean[c] = a.mean[c] + momentum * (a.batch[c] - a.mean[c]);
        a.variance[c] = a.variance[c] + momentum * (a.batch[channels + c] * unbias - a.variance[c]);
    }
}
