//! The definitions, written out.

use super::{
    AdamWArgs, AdamWParams, ClipArgs, ClipParams, FillArgs, FillParams, SgdArgs, SgdParams, SquaresArgs,
    SquaresParams, factor,
};
use crate::ops::Real;

fn of<T: Real>(value: f32) -> T {
    T::of(f64::from(value))
}

/// The same value everywhere.
pub fn fill<T: Real>(p: &FillParams, a: FillArgs<'_, T>) {
    a.y[..p.len as usize].fill(of(p.value));
}

/// The sums of squares. The scratch slot is not needed here and filled with zeros.
pub fn squares<T: Real>(p: &SquaresParams, a: SquaresArgs<'_, T>) {
    a.partials.fill(T::zero());
    for (y, segment) in a.y.iter_mut().zip(&p.segments) {
        *y = T::of(a.x[segment.range()].iter().map(|v| v.wide() * v.wide()).sum());
    }
}

/// Norm, factor and flag.
pub fn clip<T: Real>(p: &ClipParams, a: ClipArgs<'_, T>) {
    let unscale: T = of(p.unscale);
    let norm = unscale * a.squares[..p.count as usize].iter().copied().sum::<T>().sqrt();
    a.out[0] = norm;
    a.out[1] = unscale * T::one().min(of::<T>(p.limit) / (norm + T::of(1e-6)));
    a.out[2] = if norm.is_finite() { T::zero() } else { T::one() };
}

/// A step of SGD.
pub fn sgd<T: Real>(p: &SgdParams, a: SgdArgs<'_, T>) {
    let Some(factor) = factor(a.clip) else { return };
    for segment in &p.segments {
        for i in segment.at.range() {
            let d = factor * a.g[i] + of::<T>(segment.decay) * a.w[i];
            a.velocity[i] = of::<T>(p.momentum) * a.velocity[i] + d;
            let step = if p.nesterov { d + of::<T>(p.momentum) * a.velocity[i] } else { a.velocity[i] };
            a.w[i] = a.w[i] - of::<T>(p.rate) * step;
        }
    }
}

/// A step of AdamW.
pub fn adamw<T: Real>(p: &AdamWParams, a: AdamWArgs<'_, T>) {
    let Some(factor) = factor(a.clip) else { return };
    for segment in &p.segments {
        for i in segment.at.range() {
            let g = factor * a.g[i];
            a.m[i] = a.m[i] + (T::one() - of(p.beta1)) * (g - a.m[i]);
            a.v[i] = a.v[i] + (T::one() - of(p.beta2)) * (g * g - a.v[i]);
            let kept = a.w[i] * (T::one() - of::<T>(p.rate) * of(segment.decay));
            let root = (a.v[i] / of(segment.correction2)).sqrt() + of(p.epsilon);
            a.w[i] = kept - of::<T>(p.rate) * (a.m[i] / of(segment.correction1)) / root;
        }
    }
}
