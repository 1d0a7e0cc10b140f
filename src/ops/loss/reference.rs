//! The definitions, written out.

use super::{LossArgs, Params, TargetsArgs, TargetsParams};
use crate::ops::Real;

/// The logarithm of the softmax of some logits.
fn log_softmax<T: Real>(logits: &[T]) -> Vec<T> {
    let largest = logits.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
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
    let (classes, stride) = (p.classes as usize, p.stride as usize);
    let [smoothing, kd, weight] = [p.smoothing, p.kd_ratio, p.weight].map(|v| T::of(f64::from(v)));
    for image in 0..p.images as usize {
        let logits = &a.logits[image * stride..][..classes];
        let label = a.labels[image].wide() as usize;
        let logs = log_softmax(logits);
        let target = |j: usize| {
            let hard = if j == label { T::one() - smoothing } else { T::zero() };
            let soft = a.teacher.map_or(T::zero(), |t| t[image * stride + j]);
            hard + smoothing / T::of(classes as f64) + kd * soft
        };
        let dlogits = &mut a.dlogits[image * stride..][..stride];
        dlogits.fill(T::zero());
        let total: T = (0..classes).map(target).sum();
        for j in 0..classes {
            dlogits[j] = weight / T::of(f64::from(p.images)) * (total * logs[j].exp() - target(j));
        }
        let largest = logits.iter().fold(T::neg_infinity(), |m, &v| m.max(v));
        let answer = logits.iter().position(|&v| v == largest);
        a.scores[2 * image] = -weight * (0..classes).map(|j| target(j) * logs[j]).sum::<T>();
        a.scores[2 * image + 1] = if answer == Some(label) { T::one() } else { T::zero() };
    }
}
