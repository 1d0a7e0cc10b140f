//! The definitions, written out.

use super::super::real::{Real, activate};
use super::{
    ApplyArgs, ApplyParams, AverageArgs, AverageParams, BatchFoldArgs, FoldArgs, FoldParams, MergeArgs,
    MergeParams, StatisticsArgs, StatisticsParams,
};

/// Mean and biased variance in two passes over each channel of each batch. The scratch slot is not
/// needed here and filled with zeros, so that no device leaves it undefined.
pub fn statistics<T: Real>(p: &StatisticsParams, mut a: StatisticsArgs<'_, T>) {
    let (rows, channels) = (p.rows as usize, p.channels as usize);
    a.partials.fill(T::zero());
    for index in 0..p.batches as usize {
        let x = &a.x[index * rows * channels..][..rows * channels];
        let batch = &mut a.batch[index * 2 * channels..][..2 * channels];
        for c in 0..channels {
            let column = || x.iter().skip(c).step_by(channels).map(|v| v.wide());
            let mean = column().sum::<f64>() / rows as f64;
            let variance = column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows as f64;
            (batch[c], batch[channels + c]) = (T::of(mean), T::of(variance));
        }
        fold_batch(&p.merge(), &mut a.fold, index, batch);
    }
}

/// Mean and biased variance in two passes over the units of each channel of each batch.
pub fn merge<T: Real>(p: &MergeParams, mut a: MergeArgs<'_, T>) {
    let (rows, channels) = (f64::from(p.rows), p.channels as usize);
    let len = p.unit_count() * 2 * channels;
    for index in 0..p.batches as usize {
        let partials = &a.partials[index * len..][..len];
        let batch = &mut a.batch[index * 2 * channels..][..2 * channels];
        for c in 0..channels {
            // Rows, mean and M2.
            let units = || {
                let partials = partials.chunks_exact(2 * channels);
                p.units().zip(partials).map(|(m, unit)| (m as f64, unit[c].wide(), unit[channels + c].wide()))
            };
            let mean = units().map(|(m, mean, _)| m * mean).sum::<f64>() / rows;
            let squares =
                units().map(|(m, of_unit, squares)| squares + m * (of_unit - mean) * (of_unit - mean));
            (batch[c], batch[channels + c]) = (T::of(mean), T::of(squares.sum::<f64>() / rows));
        }
        fold_batch(p, &mut a.fold, index, batch);
    }
}

/// Folds the statistics of a batch, where that is asked for.
pub(super) fn fold_batch<T: Real>(
    p: &MergeParams,
    fold_into: &mut Option<BatchFoldArgs<'_, T>>,
    index: usize,
    batch: &[T],
) {
    let Some(BatchFoldArgs { gamma, beta, scale, shift }) = fold_into else { return };
    let channels = p.channels as usize;
    let (mean, variance) = batch.split_at(channels);
    let params = FoldParams { channels: p.channels, epsilon: p.epsilon };
    let scale = &mut scale[index * channels..][..channels];
    let shift = &mut shift[index * channels..][..channels];
    fold(&params, FoldArgs { gamma, beta, mean, variance, bias: None, scale, shift });
}

/// Adds every batch's statistics to the average.
pub fn average<T: Real>(p: &AverageParams, a: AverageArgs<'_, T>) {
    for batch in a.batch.chunks_exact(p.length as usize).take(p.batches as usize) {
        for (average, &batch) in a.average.iter_mut().zip(batch) {
            *average = *average + T::of(f64::from(p.weight)) * batch;
        }
    }
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
    let channels = p.channels as usize;
    for i in 0..p.rows as usize * channels {
        let batch = i / channels / p.batch_rows as usize;
        let (x, c) = (a.x.map_or(a.y[i], |x| x[i]), batch * channels + i % channels);
        let value = activate(p.activation, x * a.scale[c] + a.shift[c]);
        a.y[i] = value + a.residual.map_or(T::zero(), |r| r[i]);
    }
}
