//! The fast path: vectors of channels. Training runs it for every layer in every step.

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (taps, channels) = ((p.to * p.to) as usize, p.channels as usize);
    let (x, matrix) = (a.x, a.matrix);
    pieces(threads, &mut a.y[..taps * channels], channels, |t, y| {
        dispatch(Tap { p, x, row: &matrix[t * taps..][..taps], y });
    });
}

/// One tap of the smaller filter, all channels.
struct Tap<'a> {
    p: &'a Params,
    x: &'a [f32],
    row: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Tap<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, c in 0..self.y.len() => self.vector::<V>(c));
    }
}

impl Tap<'_> {
    #[inline(always)]
    fn vector<V: Vector>(&mut self, c: usize) {
        let channels = self.y.len();
        let mut sum = V::splat(0.0);
        for (u, &weight) in self.row.iter().enumerate() {
            sum = V::splat(weight).mul_add(V::load(&self.x[self.p.centre(u) * channels + c..]), sum);
        }
        sum.store(&mut self.y[c..]);
    }
}
