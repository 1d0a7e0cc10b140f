//! The definition, written out.

use super::super::Activation;
use super::super::real::{Real, activate};
use super::{Args, Params};
use crate::launch::panels::panelled_index;

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let (pixels, channels, hidden) = (p.pixels as usize, p.channels as usize, p.hidden as usize);
    for image in 0..p.images as usize {
        let x = &a.x[image * pixels * channels..][..pixels * channels];
        let mean: Vec<T> = (0..channels)
            .map(|c| x.iter().skip(c).step_by(channels).copied().sum::<T>() / T::of(pixels as f64))
            .collect();
        let linear = |input: &[T], w: &[T], stride: u32, bias: &[T], n: usize| {
            let terms = input.iter().enumerate();
            terms.map(|(k, &v)| v * w[panelled_index(stride as usize, n, k)]).sum::<T>() + bias[n]
        };
        let squeezed: Vec<T> = (0..hidden)
            .map(|j| linear(&mean, a.reduce, p.weight_channels, a.reduce_bias, j))
            .map(|v| activate(Activation::Relu as u32, v))
            .collect();
        for c in 0..channels {
            let v = linear(&squeezed, a.expand, p.weight_hidden, a.expand_bias, c);
            a.gate[image * channels + c] = activate(Activation::HSigmoid as u32, v);
        }
    }
}
