//! The fast path: an image at a time, vectors of channels.

// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::super::{Activation, PANEL, Threads};
use super::{Args, Params};
use std::cell::RefCell;

thread_local! {
    /// Means and hidden units of one image. It grows to the widest layer once and is reused.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (channels, image_len) = (p.channels as usize, (p.pixels * p.channels) as usize);
    let (x, weights) = (a.x, [a.reduce, a.reduce_bias, a.expand, a.expand_bias]);
    pieces(threads, &mut a.gate[..p.images as usize * channels], channels, |image, gate| {
        let mut scratch = SCRATCH.take();
        let needed = channels + p.hidden as usize;
        scratch.resize(scratch.len().max(needed), 0.0);
        let (mean, hidden) = scratch[..needed].split_at_mut(channels);
        dispatch(Image { p, x: &x[image * image_len..][..image_len], weights, mean, hidden, gate });
        SCRATCH.set(scratch);
    });
}

struct Image<'a> {
    p: &'a Params,
    x: &'a [f32],
    weights: [&'a [f32]; 4],
    mean: &'a mut [f32],
    hidden: &'a mut [f32],
    gate: &'a mut [f32],
}

impl Kernel for Image<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let [reduce, reduce_bias, expand, expand_bias] = self.weights;
        mean::<V>(self.x, self.p.pixels as usize, self.mean);
        linear::<V>(self.mean, reduce, self.p.weight_channels, reduce_bias, Activation::Relu, self.hidden);
        linear::<V>(self.hidden, expand, self.p.weight_hidden, expand_bias, Activation::HSigmoid, self.gate);
    }
}

/// Mean of every channel over the pixels of one image.
#[inline(always)]
pub(in crate::ops) fn mean<V: Vector>(x: &[f32], pixels: usize, out: &mut [f32]) {
    each_vector!(V, c in 0..out.len() => mean_of::<V>(x, pixels, c, out));
}

#[inline(always)]
fn mean_of<V: Vector>(x: &[f32], pixels: usize, c: usize, out: &mut [f32]) {
    let mut sum = V::splat(0.0);
    for pixel in 0..pixels {
        sum = sum.add(V::load(&x[pixel * out.len() + c..]));
    }
    sum.mul(V::splat(1.0 / pixels as f32)).store(&mut out[c..]);
}

/// `activation(w x + bias)` with panelled weights of `stored` columns.
#[inline(always)]
fn linear<V: Vector>(
    x: &[f32],
    w: &[f32],
    stored: u32,
    bias: &[f32],
    activation: Activation,
    out: &mut [f32],
) {
    let mut n = 0;
    // An output is one chain of sums, which has to wait for each: four chains go side by side.
    while n + 4 * V::LANES <= out.len() {
        linear_of::<V, 4>(x, w, stored, bias, activation, n, out);
        n += 4 * V::LANES;
    }
    while n + V::LANES <= out.len() {
        linear_of::<V, 1>(x, w, stored, bias, activation, n, out);
        n += V::LANES;
    }
    if n < out.len() {
        linear_of::<V::Half, 1>(x, w, stored, bias, activation, n, out);
    }
}

/// `N` vectors of outputs from `n` on.
#[inline(always)]
fn linear_of<V: Vector, const N: usize>(
    x: &[f32],
    w: &[f32],
    stored: u32,
    bias: &[f32],
    activation: Activation,
    n: usize,
    out: &mut [f32],
) {
    let mut sums = [V::splat(0.0); N];
    let mut columns: [&[f32]; N] = [&[]; N];
    for j in 0..N {
        let from = n + j * V::LANES;
        sums[j] = V::load(&bias[from..]);
        columns[j] = &w[from / PANEL * PANEL * stored as usize + from % PANEL..];
        columns[j] = &columns[j][..(x.len() - 1) * PANEL + V::LANES];
    }
    for k in 0..x.len() {
        let value = V::splat(x[k]);
        for j in 0..N {
            sums[j] = value.mul_add(V::load(&columns[j][k * PANEL..]), sums[j]);
        }
    }
    for j in 0..N {
        sums[j].activate(activation as u32).store(&mut out[n + j * V::LANES..]);
    }
}
