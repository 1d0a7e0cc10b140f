//! The fast paths: each reads its maps once, row by row, with the channels' constants in the cache.
//!
//! With `d = z - mean` and `r = 1 / sqrt(variance + epsilon)`, `x̂ = d r`. So the sum of `du x̂` is
//! `r` times that of `du d`, and the gradient of the input is `scale du + slope d + offset`, with
//! `slope = -scale r (sum du x̂) / rows` and `offset = -scale (sum du) / rows` of each channel.
//!
//! Loads and stores go by pointers, since checks of bounds would cost more than the arithmetic, and
//! each activation has its own loop.
#![allow(unsafe_code)]

use super::reference;
use super::{BnGradSums, InputArgs, Params, RunningArgs, RunningParams, SumsArgs};
use crate::ops::batch_norm::BLOCK_ROWS;
use crate::ops::parallel::pieces;
use crate::ops::simd::{Kernel, Vector, dispatch, each_vector};
use crate::ops::{Activation, Threads};

const NONE: u32 = Activation::None as u32;
const RELU: u32 = Activation::Relu as u32;
const HSWISH: u32 = Activation::HSwish as u32;
const HSIGMOID: u32 = Activation::HSigmoid as u32;

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
        self.out.fill(0.0);
        match self.activation {
            RELU => self.rows::<V, RELU>(),
            HSWISH => self.rows::<V, HSWISH>(),
            HSIGMOID => self.rows::<V, HSIGMOID>(),
            _ => self.rows::<V, NONE>(),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn rows<V: Vector, const ACTIVATION: u32>(&mut self) {
        let channels = self.mean.len();
        assert!(self.dy.len() == self.z.len() && self.z.len().is_multiple_of(channels));
        assert!(self.scale.len() == channels && self.shift.len() == channels);
        assert!(channels.is_multiple_of(8) && self.out.len() == 2 * channels);
        for row in (0..self.z.len()).step_by(channels) {
            // SAFETY: a vector's lanes are channels, of which at the end eight are left, as many as half a vector
            // has lanes; and the asserts say that every row and every other operand has them.
            unsafe { each_vector!(V, c in 0..channels => self.vector::<V, ACTIVATION>(row, c)) };
        }
    }

    /// The vector of channels from `c` on of the row that starts at `row`.
    ///
    /// # Safety
    /// It lies inside the row.
    #[inline(always)]
    unsafe fn vector<V: Vector, const ACTIVATION: u32>(&mut self, row: usize, c: usize) {
        let weighted = self.mean.len() + c;
        // SAFETY: the caller vouches for the vector; the operands' lengths are asserted in `rows`.
        unsafe {
            let z = V::load_at(self.z.as_ptr().add(row + c));
            let dy = V::load_at(self.dy.as_ptr().add(row + c));
            let scale = V::load_at(self.scale.as_ptr().add(c));
            let u = z.mul_add(scale, V::load_at(self.shift.as_ptr().add(c)));
            let du = dy.mul(u.derivative(ACTIVATION));
            let deviation = z.sub(V::load_at(self.mean.as_ptr().add(c)));
            let out = self.out.as_mut_ptr();
            V::load_at(out.add(c)).add(du).store_at(out.add(c));
            du.mul_add(deviation, V::load_at(out.add(weighted))).store_at(out.add(weighted));
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
        match self.activation {
            RELU => self.rows::<V, RELU>(),
            HSWISH => self.rows::<V, HSWISH>(),
            HSIGMOID => self.rows::<V, HSIGMOID>(),
            _ => self.rows::<V, NONE>(),
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn rows<V: Vector, const ACTIVATION: u32>(&mut self) {
        let (channels, len) = (self.mean.len(), self.dz.len());
        assert!(self.z.len() == len && self.dy.len() == len && len.is_multiple_of(channels));
        assert!(self.residual.is_none_or(|residual| residual.len() == len));
        let constants = [self.scale, self.shift, self.slope, self.offset];
        assert!(channels.is_multiple_of(8) && constants.iter().all(|constant| constant.len() == channels));
        for row in (0..len).step_by(channels) {
            // SAFETY: a vector's lanes are channels, of which at the end eight are left, as many as half a vector
            // has lanes; and the asserts say that every row and every other operand has them.
            unsafe { each_vector!(V, c in 0..channels => self.vector::<V, ACTIVATION>(row, c)) };
        }
    }

    /// The vector of channels from `c` on of the row that starts at `row`.
    ///
    /// # Safety
    /// It lies inside the row.
    #[inline(always)]
    unsafe fn vector<V: Vector, const ACTIVATION: u32>(&mut self, row: usize, c: usize) {
        // SAFETY: the caller vouches for the vector; the operands' lengths are asserted in `rows`.
        unsafe {
            let z = V::load_at(self.z.as_ptr().add(row + c));
            let dy = V::load_at(self.dy.as_ptr().add(row + c));
            let scale = V::load_at(self.scale.as_ptr().add(c));
            let u = z.mul_add(scale, V::load_at(self.shift.as_ptr().add(c)));
            let du = dy.mul(u.derivative(ACTIVATION));
            let deviation = z.sub(V::load_at(self.mean.as_ptr().add(c)));
            let slope = V::load_at(self.slope.as_ptr().add(c));
            let centring = deviation.mul_add(slope, V::load_at(self.offset.as_ptr().add(c)));
            let mut dz = du.mul_add(scale, centring);
            if let Some(residual) = self.residual {
                dz = dz.add(V::load_at(residual.as_ptr().add(row + c)));
            }
            dz.store_at(self.dz.as_mut_ptr().add(row + c));
        }
    }
}

/// Running mean and variance; a few hundred channels, which the reference does.
pub fn running(p: &RunningParams, a: RunningArgs<'_, f32>, _: Threads) {
    reference::running(p, a);
}
