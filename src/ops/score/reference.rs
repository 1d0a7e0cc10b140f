//! The definition, written out.

use super::super::real::Real;
use super::{Args, Params};

/// Cross entropy by the log of the sum of exponentials about the largest logit, and the first
/// largest logit as the answer.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let classes = p.classes as usize;
    for image in 0..p.images as usize {
        let logits = &a.logits[image * p.stride as usize..][..classes];
        let label = a.labels[image % p.labelled as usize].wide() as usize;
        let largest = logits.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
        // A logit that is no finite number makes the loss NaN, whatever the label is.
        let term = |&v: &T| if v.is_finite() { (v - largest).exp() } else { T::nan() };
        let sum: T = logits.iter().map(term).sum();
        let answer = logits.iter().position(|&v| v == largest).unwrap_or(classes);
        a.out[2 * image] = largest + sum.ln() - logits[label];
        a.out[2 * image + 1] = if answer == label { T::one() } else { T::zero() };
    }
}
