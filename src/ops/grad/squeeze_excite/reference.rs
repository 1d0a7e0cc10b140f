//! The definition, written out.

use super::GradArgs;
use crate::launch::panels::panelled_index;
use crate::ops::real::{activate, derivative};
use crate::ops::squeeze_excite::Params;
use crate::ops::{Activation, Real};

/// Computes the call; see the module for the formulas. The scratch slot is not needed here and
/// filled with zeros.
pub fn run<T: Real>(p: &Params, a: GradArgs<'_, T>) {
    let [pixels, channels, hidden] = [p.pixels, p.channels, p.hidden].map(|v| v as usize);
    let reduce_at = |j: usize, c: usize| panelled_index(p.weight_channels as usize, j, c);
    let expand_at = |c: usize, j: usize| panelled_index(p.weight_hidden as usize, c, j);
    let area = T::of(pixels as f64);
    a.scratch.fill(T::zero());
    for image in 0..p.images as usize {
        let map = image * pixels * channels;
        let over_pixels = |c: usize| (0..pixels).map(move |pixel| map + pixel * channels + c);
        let mean: Vec<T> = (0..channels).map(|c| over_pixels(c).map(|i| a.x[i]).sum::<T>() / area).collect();
        let before: Vec<T> = (0..hidden)
            .map(|j| (0..channels).map(|c| mean[c] * a.reduce[reduce_at(j, c)]).sum::<T>() + a.reduce_bias[j])
            .collect();
        let units: Vec<T> = before.iter().map(|&v| activate(Activation::Relu as u32, v)).collect();
        let dq: Vec<T> = (0..channels)
            .map(|c| {
                let terms = (0..hidden).map(|j| units[j] * a.expand[expand_at(c, j)]);
                let q = terms.sum::<T>() + a.expand_bias[c];
                let dgate: T = over_pixels(c).map(|i| a.dxg[i] * a.x[i]).sum();
                dgate * derivative(Activation::HSigmoid as u32, q)
            })
            .collect();
        let dh: Vec<T> = (0..hidden)
            .map(|j| {
                let sum: T = (0..channels).map(|c| dq[c] * a.expand[expand_at(c, j)]).sum();
                sum * derivative(Activation::Relu as u32, before[j])
            })
            .collect();
        for c in 0..channels {
            a.dexpand_bias[c] = a.dexpand_bias[c] + dq[c];
            let mut dmean = T::zero();
            for j in 0..hidden {
                a.dexpand[expand_at(c, j)] = a.dexpand[expand_at(c, j)] + dq[c] * units[j];
                a.dreduce[reduce_at(j, c)] = a.dreduce[reduce_at(j, c)] + dh[j] * mean[c];
                dmean = dmean + dh[j] * a.reduce[reduce_at(j, c)];
            }
            for i in over_pixels(c) {
                a.dx[i] = a.dxg[i] * a.gate[image * channels + c] + dmean / area;
            }
        }
        for (bias, &dh) in a.dreduce_bias.iter_mut().zip(&dh) {
            *bias = *bias + dh;
        }
    }
}
