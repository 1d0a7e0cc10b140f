//! The definitions, written out.

use super::{LossArgs, Params, TargetsArgs, TargetsParams};
use crate::ops::Real;
use crate::ops::real::largest;

/// The logarithm of the softmax of some logits.
fn log_softmax<T: Real>(logits: &[T]) -> Vec<T> {
    let largest = logits.iter().fold(T::neg_infinity(), |m, &v| largest(m, v));
    let log_sum = logits.iter().map(|&v| (v - largest).exp()).sum::<T>().ln();
    logits.iter().map(|&v| v - largest - log_sum).collect()
}

/// Probabilities of the weighted exits.
pub fn targets<T: Real>(p: &TargetsParams, a: TargetsArgs<'_, T>) {
    let (classes, stride) = (p.classes as usize, p.stride as usize);
    let exits = [Some(a.a), a.b, a.c, a.d, a.e];
    for image in 0..p.images as usize {
        let sum = |j: usize| -> T {
            let terms = exits.iter().zip(p.weights).filter_map(|(logits, w)| Some((logits.as_ref()?, w)));
            terms.map(|(logits, weight)| T::of(f64::from(weight)) * logits[image * stride + j]).sum()
        };
        let logs = log_softmax(&(0..classes).map(sum).collect::<Vec<T>>());
        let out = &mut a.probabilities[image * stride..][..stride];
        out.fill(T::zero());
        out.iter_mut().zip(&logs).for_each(|(out, log)| *out = log.exp());
    }
}

/// Loss, correctness, gradient.
pub fn loss<T: Real>(p: &Params, a: LossArgs<'_, T>) {
    let stride = p.stride as usize;
    for image in 0..p.images as usize {
        let row = image * stride..(image + 1) * stride;
        let teacher = a.teacher.map(|teacher| &teacher[row.clone()]);
        let scores = &mut a.scores[2 * image..][..2];
        of_image(p, (&a.logits[row.clone()], a.labels[image], teacher), scores, &mut a.dlogits[row]);
    }
}

/// The loss of one image; its rows are `stride` elements long.
pub(super) fn of_image<T: Real>(
    p: &Params,
    (logits, label, teacher): (&[T], T, Option<&[T]>),
    scores: &mut [T],
    dlogits: &mut [T],
) {
    let (classes, label) = (p.classes as usize, label.wide() as usize);
    let [smoothing, labels, kd, weight] =
        [p.smoothing, p.label_ratio, p.kd_ratio, p.weight].map(|v| T::of(f64::from(v)));
    let logits = &logits[..classes];
    let logs = log_softmax(logits);
    let target = |j: usize| {
        let hard = if j == label { T::one() - smoothing } else { T::zero() };
        let soft = teacher.map_or(T::zero(), |teacher| teacher[j]);
        labels * (hard + smoothing / T::of(classes as f64)) + kd * soft
    };
    dlogits.fill(T::zero());
    let total: T = (0..classes).map(target).sum();
    for j in 0..classes {
        dlogits[j] = weight / T::of(f64::from(p.images)) * (total * logs[j].exp() - target(j));
    }
    let largest = logits.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
    let answer = logits.iter().position(|&v| v == largest);
    scores[0] = -weight * (0..classes).map(|j| target(j) * logs[j]).sum::<T>();
    scores[1] = if answer == Some(label) { T::one() } else { T::zero() };
}
