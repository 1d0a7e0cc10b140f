//! The fast paths: each reads its maps once, row by row, with the channels' constants in the cache.
//!
//! With `d = z - mean` and `r = 1 / sqrt(variance + epsilon)`, `x̂ = d r`. So the sum of `du x̂` is
//! `r` times that of `du d`, and the gradient of the input is `scale du + slope d + offset`, with
//! `slope = -scale r (sum du x̂) / rows` and `offset = -scale (sum du) / rows` of each channel.

use super::reference;
use super::{BnGradSums, InputArgs, Params, RunningArgs, RunningParams, SumsArgs};
use crate::ops::Threads;
use crate::ops::batch_norm::BLOCK_ROWS;
use crate::ops::parallel::pieces;
use crate::ops::simd::{Kernel, Vector, dispatch};
use std::ops::Range;

/// Channels that are merged side by side.
const MERGED: usize = 16;

/// The sums, and what they add to the affine parameters' gradients. Each block of rows leaves its
/// sums of `du` and `du d`; blocks are merged in order, in f64.
pub fn sums(p: &Params, a: SumsArgs<'_, f32>, threads: Threads) {
    let (rows, channels) = (p.rows as usize, p.channels as usize);
    let partials = &mut a.partials[..BnGradSums::partials_len(rows, channels)];
    let (z, dy) = (&a.z[..rows * channels], &a.dy[..rows * channels]);
    let (mean, scale, shift) = (&a.batch[..channels], &a.scale[..channels], &a.shift[..channels]);
    pieces(threads, partials, 2 * channels, |index, out| {
        let from = index * BLOCK_ROWS * channels;
        let len = (BLOCK_ROWS * channels).min(z.len() - from);
        let (z, dy) = (&z[from..][..len], &dy[from..][..len]);
        dispatch(Block { activation: p.activation, z, dy, mean, scale, shift, out });
    });
    for first in (0..channels).step_by(MERGED) {
        let width = MERGED.min(channels - first);
        let mut totals = [[0.0f64; MERGED]; 2];
        for partial in partials.chunks_exact(2 * channels) {
            for (totals, from) in totals.iter_mut().zip([first, channels + first]) {
                let values = &partial[from..][..width];
                totals.iter_mut().zip(values).for_each(|(total, &value)| *total += f64::from(value));
            }
        }
        for c in first..first + width {
            let deviation = (f64::from(a.batch[channels + c]) + f64::from(p.epsilon)).sqrt();
            let [plain, normalised] = [totals[0][c - first], totals[1][c - first] / deviation];
            (a.sums[c], a.sums[channels + c]) = (plain as f32, normalised as f32);
            a.dbeta[c] += plain as f32;
            a.dgamma[c] += normalised as f32;
        }
    }
}

struct Block<'a> {
    activation: u32,
    z: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let channels = self.mean.len();
        let whole = channels / V::LANES * V::LANES;
        self.out.fill(0.0);
        for row in (0..self.z.len()).step_by(channels) {
            self.row::<V>(row, 0..whole);
            if whole < channels {
                self.row::<V::Half>(row, whole..channels);
            }
        }
    }
}

impl Block<'_> {
    /// Some channels of the row that starts at `row`. Zipped chunks need no checks of bounds, which
    /// would cost more than the arithmetic.
    #[inline(always)]
    fn row<V: Vector>(&mut self, row: usize, part: Range<usize>) {
        let (z, dy) = (&self.z[row..][part.clone()], &self.dy[row..][part.clone()]);
        let (plain, weighted) = self.out.split_at_mut(self.mean.len());
        let inputs = z.chunks_exact(V::LANES).zip(dy.chunks_exact(V::LANES));
        let scales = self.scale[part.clone()].chunks_exact(V::LANES);
        let shifts = self.shift[part.clone()].chunks_exact(V::LANES);
        let means = self.mean[part.clone()].chunks_exact(V::LANES);
        let plains = plain[part.clone()].chunks_exact_mut(V::LANES);
        let sums = plains.zip(weighted[part].chunks_exact_mut(V::LANES));
        let all = inputs.zip(scales.zip(shifts)).zip(means).zip(sums);
        for ((((z, dy), (scale, shift)), mean), (plain, weighted)) in all {
            let z = V::load(z);
            let u = z.mul_add(V::load(scale), V::load(shift));
            let du = V::load(dy).mul(u.derivative(self.activation));
            V::load(plain).add(du).store(plain);
            du.mul_add(z.sub(V::load(mean)), V::load(weighted)).store(weighted);
        }
    }
}

/// Gradient of the input.
pub fn input(p: &Params, a: InputArgs<'_, f32>, threads: Threads) {
    let channels = p.channels as usize;
    let (mean, variance) = a.batch[..2 * channels].split_at(channels);
    // Slope and offset of every channel, one after the other.
    let mut linear = vec![0.0; 2 * channels];
    for c in 0..channels {
        let deviation = (f64::from(variance[c]) + f64::from(p.epsilon)).sqrt();
        let per_row = -f64::from(a.scale[c]) / f64::from(p.rows);
        linear[c] = (per_row * f64::from(a.sums[channels + c]) / deviation) as f32;
        linear[channels + c] = (per_row * f64::from(a.sums[c])) as f32;
    }
    let (slope, offset) = linear.split_at(channels);
    let (scale, shift) = (&a.scale[..channels], &a.shift[..channels]);
    let (z, dy, residual) = (a.z, a.dy, a.residual);
    let piece = BLOCK_ROWS * channels;
    pieces(threads, &mut a.dz[..p.rows as usize * channels], piece, |index, dz| {
        let from = index * piece;
        let (z, dy) = (&z[from..][..dz.len()], &dy[from..][..dz.len()]);
        let residual = residual.map(|r| &r[from..][..dz.len()]);
        dispatch(Rows { activation: p.activation, z, dy, residual, mean, scale, shift, slope, offset, dz });
    });
}

struct Rows<'a> {
    activation: u32,
    z: &'a [f32],
    dy: &'a [f32],
    residual: Option<&'a [f32]>,
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
    dz: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let channels = self.mean.len();
        let whole = channels / V::LANES * V::LANES;
        for row in (0..self.dz.len()).step_by(channels) {
            self.row::<V>(row, 0..whole);
            if whole < channels {
                self.row::<V::Half>(row, whole..channels);
            }
        }
    }
}

impl Rows<'_> {
    /// Some channels of the row that starts at `row`.
    #[inline(always)]
    fn row<V: Vector>(&mut self, row: usize, part: Range<usize>) {
        let dz = &mut self.dz[row..][part.clone()];
        let (z, dy) = (&self.z[row..][part.clone()], &self.dy[row..][part.clone()]);
        let inputs = z.chunks_exact(V::LANES).zip(dy.chunks_exact(V::LANES));
        let scales = self.scale[part.clone()].chunks_exact(V::LANES);
        let shifts = self.shift[part.clone()].chunks_exact(V::LANES);
        let means = self.mean[part.clone()].chunks_exact(V::LANES);
        let slopes = self.slope[part.clone()].chunks_exact(V::LANES);
        let offsets = self.offset[part.clone()].chunks_exact(V::LANES);
        let constants = scales.zip(shifts).zip(means).zip(slopes.zip(offsets));
        let all = inputs.zip(constants).zip(dz.chunks_exact_mut(V::LANES));
        for (((z, dy), (((scale, shift), mean), (slope, offset))), dz) in all {
            let (z, scale) = (V::load(z), V::load(scale));
            let u = z.mul_add(scale, V::load(shift));
            let du = V::load(dy).mul(u.derivative(self.activation));
            let centring = z.sub(V::load(mean)).mul_add(V::load(slope), V::load(offset));
            du.mul_add(scale, centring).store(dz);
        }
        if let Some(residual) = self.residual {
            let residual = residual[row..][part].chunks_exact(V::LANES);
            for (dz, residual) in dz.chunks_exact_mut(V::LANES).zip(residual) {
                V::load(dz).add(V::load(residual)).store(dz);
            }
        }
    }
}

/// Running mean and variance; a few hundred channels, which the reference does.
pub fn running(p: &RunningParams, a: RunningArgs<'_, f32>, _: Threads) {
    reference::running(p, a);
}
