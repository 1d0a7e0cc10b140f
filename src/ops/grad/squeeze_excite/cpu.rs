//! The fast path: the maps an image at a time, the layers four images at a time.
//!
//! The scratch slot holds what the module's formulas name, in the order of [`SqueezeExciteGrad`]'s
//! `scratch_len`. Every element of a weight's gradient is one sum over the images in order, so
//! nothing has to be merged.
//!
//! [`SqueezeExciteGrad`]: super::SqueezeExciteGrad
// Tiles are indexed by row and column, as in the formulas.
#![allow(clippy::needless_range_loop)]

use super::{GradArgs, SqueezeExciteGrad};
use crate::ops::parallel::{pieces, pieces_of};
use crate::ops::real::derivative;
use crate::ops::simd::{Kernel, Vector, dispatch, each_vector};
use crate::ops::squeeze_excite::Params;
use crate::ops::{Activation, PANEL, Threads};

/// Images, or rows of a panel, that share a load of the other operand.
const TILE: usize = 4;

/// Computes the call; see the module for the formulas.
pub fn run(p: &Params, a: GradArgs<'_, f32>, threads: Threads) {
    let [images, pixels, channels, hidden] = [p.images, p.pixels, p.channels, p.hidden].map(|v| v as usize);
    let [weight_channels, weight_hidden] = [p.weight_channels, p.weight_hidden].map(|v| v as usize);
    let scratch = &mut a.scratch[..SqueezeExciteGrad::scratch_len(p)];
    let (mean, scratch) = scratch.split_at_mut(images * channels);
    let (units, scratch) = scratch.split_at_mut(images * hidden);
    let (dq, scratch) = scratch.split_at_mut(images * channels);
    let (dunits, dmean) = scratch.split_at_mut(images * hidden);
    let map = pixels * channels;
    let (reduce_bias, expand_bias) = (&a.reduce_bias[..hidden], &a.expand_bias[..channels]);
    let (x, gate, dxg) = (&a.x[..images * map], &a.gate[..images * channels], &a.dxg[..images * map]);

    // z, and dgate where dq will be.
    pieces_of(threads, [(&mut *mean, channels), (&mut *dq, channels)], |image, [mean, dgate]| {
        let (x, dxg) = (&x[image * map..][..map], &dxg[image * map..][..map]);
        dispatch(Squeeze { x, dxg, mean, dgate });
    });
    pieces(threads, units, TILE * hidden, |tile, units| {
        let x = &mean[tile * TILE * channels..][..units.len() / hidden * channels];
        let then = Then::Relu;
        dispatch(Linear { x, w: a.reduce, stored: weight_channels, bias: reduce_bias, then, out: units });
    });
    pieces(threads, dq, TILE * channels, |tile, dq| {
        let x = &units[tile * TILE * hidden..][..dq.len() / channels * hidden];
        let then = Then::TimesHardSigmoidSlope;
        dispatch(Linear { x, w: a.expand, stored: weight_hidden, bias: expand_bias, then, out: dq });
    });
    pieces(threads, dunits, TILE * hidden, |tile, out| {
        let x = &dq[tile * TILE * channels..][..out.len() / hidden * channels];
        dispatch(Transposed { x, w: a.expand, stored: weight_hidden, inputs: hidden, out });
        // A unit that is not above zero had nothing to say; at zero ReLU's derivative is zero.
        let units = &units[tile * TILE * hidden..][..out.len()];
        let slope = |unit| derivative(Activation::Relu as u32, unit);
        out.iter_mut().zip(units).for_each(|(out, &unit)| *out *= slope(unit));
    });
    let dmean = &mut dmean[..images * channels];
    pieces(threads, dmean, TILE * channels, |tile, out| {
        let x = &dunits[tile * TILE * hidden..][..out.len() / channels * hidden];
        dispatch(Transposed { x, w: a.reduce, stored: weight_channels, inputs: channels, out });
        out.iter_mut().for_each(|out| *out /= pixels as f32);
    });

    let (mean, units, dq, dunits, dmean) = (&*mean, &*units, &*dq, &*dunits, &*dmean);
    let panels = |n: usize, stored: usize| n.div_ceil(PANEL) * PANEL * stored;
    let dreduce = &mut a.dreduce[..panels(hidden, weight_channels)];
    pieces(threads, dreduce, PANEL * weight_channels, |panel, out| {
        dispatch(Outer { panel, columns: hidden, dy: dunits, x: mean, inputs: channels, out });
    });
    let dexpand = &mut a.dexpand[..panels(channels, weight_hidden)];
    pieces(threads, dexpand, PANEL * weight_hidden, |panel, out| {
        dispatch(Outer { panel, columns: channels, dy: dq, x: units, inputs: hidden, out });
    });
    add_rows(dunits, &mut a.dreduce_bias[..hidden]);
    add_rows(dq, &mut a.dexpand_bias[..channels]);

    pieces(threads, &mut a.dx[..images * map], map, |image, dx| {
        let (gate, dmean) = (&gate[image * channels..][..channels], &dmean[image * channels..][..channels]);
        dispatch(Input { dxg: &dxg[image * map..][..map], gate, dmean, dx });
    });
}

/// Adds every row of `x` to `y`.
fn add_rows(x: &[f32], y: &mut [f32]) {
    for row in x.chunks_exact(y.len()) {
        y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
    }
}

/// Mean of every channel of an image, and the sum over its pixels of `dxg * x`.
struct Squeeze<'a> {
    x: &'a [f32],
    dxg: &'a [f32],
    mean: &'a mut [f32],
    dgate: &'a mut [f32],
}

impl Kernel for Squeeze<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, c in 0..self.mean.len() => self.vector::<V>(c));
    }
}

impl Squeeze<'_> {
    #[inline(always)]
    fn vector<V: Vector>(&mut self, c: usize) {
        let channels = self.mean.len();
        let pixels = self.x.len() / channels;
        let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
        for pixel in 0..pixels {
            let x = V::load(&self.x[pixel * channels + c..]);
            sum = sum.add(x);
            product = x.mul_add(V::load(&self.dxg[pixel * channels + c..]), product);
        }
        sum.mul(V::splat(1.0 / pixels as f32)).store(&mut self.mean[c..]);
        product.store(&mut self.dgate[c..]);
    }
}

/// What is done with a layer's sum.
#[derive(Clone, Copy)]
enum Then {
    /// `out = relu(sum)`
    Relu,
    /// `out *= hsigmoid'(sum)`
    TimesHardSigmoidSlope,
}

/// A layer with panelled weights on up to [`TILE`] rows of `x`.
struct Linear<'a> {
    x: &'a [f32],
    w: &'a [f32],
    stored: usize,
    bias: &'a [f32],
    then: Then,
    out: &'a mut [f32],
}

impl Kernel for Linear<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let columns = self.bias.len();
        let full = self.out.len() == TILE * columns;
        each_vector!(V, n in 0..columns => self.columns::<V>(n, full));
    }
}

impl Linear<'_> {
    #[inline(always)]
    fn columns<V: Vector>(&mut self, n: usize, full: bool) {
        if full {
            self.tile::<V, TILE>(n, 0);
        } else {
            for row in 0..self.out.len() / self.bias.len() {
                self.tile::<V, 1>(n, row);
            }
        }
    }

    /// The vector of outputs from `n` on of `ROWS` rows from `first` on.
    #[inline(always)]
    fn tile<V: Vector, const ROWS: usize>(&mut self, n: usize, first: usize) {
        let columns = self.bias.len();
        let inputs = self.x.len() / (self.out.len() / columns);
        let panel = &self.w[n / PANEL * PANEL * self.stored..];
        let x = &self.x[first * inputs..];
        let mut sums = [V::load(&self.bias[n..]); ROWS];
        for k in 0..inputs {
            let w = V::load(&panel[k * PANEL + n % PANEL..]);
            for row in 0..ROWS {
                sums[row] = V::splat(x[row * inputs + k]).mul_add(w, sums[row]);
            }
        }
        for row in 0..ROWS {
            let out = &mut self.out[(first + row) * columns + n..];
            let value = match self.then {
                Then::Relu => sums[row].activate(Activation::Relu as u32),
                Then::TimesHardSigmoidSlope => {
                    V::load(out).mul(sums[row].derivative(Activation::HSigmoid as u32))
                }
            };
            value.store(out);
        }
    }
}

/// `out[row, k] = sum_n x[row, n] w[n, k]` with panelled weights, on up to [`TILE`] rows: each lane of
/// a panel adds its own outputs `n`, and the 16 lanes meet in order.
struct Transposed<'a> {
    x: &'a [f32],
    w: &'a [f32],
    stored: usize,
    /// The number of inputs `k`; a multiple of 8.
    inputs: usize,
    out: &'a mut [f32],
}

/// Inputs `k` that share a load of `x`.
const PAIR: usize = 2;

impl Kernel for Transposed<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let rows = self.out.len() / self.inputs;
        for k in (0..self.inputs).step_by(PAIR) {
            if rows == TILE {
                self.tile::<V, TILE>(k, 0);
            } else {
                for row in 0..rows {
                    self.tile::<V, 1>(k, row);
                }
            }
        }
    }
}

impl Transposed<'_> {
    #[inline(always)]
    fn tile<V: Vector, const ROWS: usize>(&mut self, k: usize, first: usize) {
        let outputs = self.x.len() / (self.out.len() / self.inputs);
        let x = &self.x[first * outputs..][..ROWS * outputs];
        let panels = outputs / PANEL;
        let mut lanes = [[[0.0f32; PANEL]; PAIR]; ROWS];
        for lane in (0..PANEL).step_by(V::LANES) {
            let mut sums = [[V::splat(0.0); PAIR]; ROWS];
            for panel in 0..panels {
                let w = &self.w[(panel * self.stored + k) * PANEL + lane..];
                let w = [V::load(w), V::load(&w[PANEL..])];
                for row in 0..ROWS {
                    let x = V::load(&x[row * outputs + panel * PANEL + lane..]);
                    for i in 0..PAIR {
                        sums[row][i] = x.mul_add(w[i], sums[row][i]);
                    }
                }
            }
            for row in 0..ROWS {
                for i in 0..PAIR {
                    sums[row][i].store(&mut lanes[row][i][lane..]);
                }
            }
        }
        for row in 0..ROWS {
            let rest = &x[row * outputs..][panels * PANEL..outputs];
            for i in 0..PAIR {
                if !rest.is_empty() {
                    let w = &self.w[(panels * self.stored + k + i) * PANEL..][..rest.len()];
                    for lane in 0..rest.len() {
                        lanes[row][i][lane] += rest[lane] * w[lane];
                    }
                }
                let mut total = 0.0;
                for lane in 0..PANEL {
                    total += lanes[row][i][lane];
                }
                self.out[(first + row) * self.inputs + k + i] = total;
            }
        }
    }
}

/// `out[n, k] += sum over rows of dy[row, n] x[row, k]` for one panel of `n`.
struct Outer<'a> {
    panel: usize,
    columns: usize,
    dy: &'a [f32],
    x: &'a [f32],
    inputs: usize,
    out: &'a mut [f32],
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let first = self.panel * PANEL;
        let width = PANEL.min(self.columns - first);
        for k in (0..self.inputs).step_by(TILE) {
            each_vector!(V, lane in 0..width => self.tile::<V>(lane, k));
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn tile<V: Vector>(&mut self, lane: usize, first: usize) {
        let n = self.panel * PANEL + lane;
        let mut sums = [V::splat(0.0); TILE];
        for row in 0..self.dy.len() / self.columns {
            let dy = V::load(&self.dy[row * self.columns + n..]);
            let x = &self.x[row * self.inputs + first..][..TILE];
            for k in 0..TILE {
                sums[k] = dy.mul_add(V::splat(x[k]), sums[k]);
            }
        }
        for k in 0..TILE {
            let out = &mut self.out[(first + k) * PANEL + lane..];
            V::load(out).add(sums[k]).store(out);
        }
    }
}

/// `dx = dxg * gate + dmean`
struct Input<'a> {
    dxg: &'a [f32],
    gate: &'a [f32],
    dmean: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Input<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // Written so that the compiler makes vectors of it.
        let channels = self.gate.len();
        for (dx, dxg) in self.dx.chunks_exact_mut(channels).zip(self.dxg.chunks_exact(channels)) {
            for c in 0..channels {
                dx[c] = dxg[c] * self.gate[c] + self.dmean[c];
            }
        }
    }
}
