//! The definitions, written out.

use super::super::real::{Real, activate};
use super::{ApplyArgs, ApplyParams, BatchFoldArgs, FoldArgs, FoldParams, StatisticsArgs, StatisticsParams};

/// Mean and biased variance in two passes over each channel. The scratch slot is not needed here
/// and filled with zeros, so that no device leaves it undefined.
pub fn statistics<T: Real>(p: &StatisticsParams, a: StatisticsArgs<'_, T>) {
    let (rows, channels) = (p.rows as usize, p.channels as usize);
    a.partials.fill(T::zero());
    for c in 0..channels {
        let column = || a.x.iter().skip(c).step_by(channels).take(rows).map(|v| v.wide());
        let mean = column().sum::<f64>() / rows as f64;
        let variance = column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows as f64;
        (a.batch[c], a.batch[channels + c]) = (T::of(mean), T::of(variance));
    }
    for (average, &batch) in a.average.iter_mut().zip(a.batch.iter()) {
        *average = *average + T::of(f64::from(p.weight)) * batch;
    }
    fold_batch(p, a.fold, a.batch);
}

/// Folds a batch's own statistics, where that is asked for.
pub(super) fn fold_batch<T: Real>(
    p: &StatisticsParams,
    fold_into: Option<BatchFoldArgs<'_, T>>,
    batch: &[T],
) {
    let Some(BatchFoldArgs { gamma, beta, scale, shift }) = fold_into else { return };
    let (mean, variance) = batch.split_at(p.channels as usize);
    let params = FoldParams { channels: p.channels, epsilon: p.epsilon };
    fold(&params, FoldArgs { gamma, beta, mean, variance, bias: None, scale, shift });
}

/// Scale and shift of a batch norm.
pub fn fold<T: Real>(p: &FoldParams, a: FoldArgs<'_, T>) {
    for c in 0..p.channels as usize {
        a.scale[c] = a.gamma[c] / (a.variance[c] + T::of(f64::from(p.epsilon))).sqrt();
        a.shift[c] = a.beta[c] + (a.bias.map_or(T::zero(), |b| b[c]) - a.mean[c]) * a.scale[c];
    }
}

/// Applies scale, shift and activation, and adds the residual.
pub fn apply<T: Real>(p: &ApplyParams, a: ApplyArgs<'_, T>) {
    for i in 0..p.rows as usize * p.channels as usize {
        let (x, c) = (a.x.map_or(a.y[i], |x| x[i]), i % p.channels as usize);
        let value = activate(p.activation, x * a.scale[c] + a.shift[c]);
        a.y[i] = value + a.residual.map_or(T::zero(), |r| r[i]);
    }
}
