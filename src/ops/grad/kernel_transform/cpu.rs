//! The fast path: vectors of channels, a thread a tap.

use super::GradArgs;
use crate::ops::Threads;
use crate::ops::kernel_transform::Params;
use crate::ops::parallel::pieces;
use crate::ops::simd::{Kernel, Vector, dispatch, each_vector};

/// Sums that a dot product over channels is split into, on every instruction set.
const LANES: usize = 16;

/// Computes the call; see the module for the formulas.
pub fn run(p: &Params, a: GradArgs<'_, f32>, threads: Threads) {
    let (taps, channels, from) = ((p.to * p.to) as usize, p.channels as usize, p.from as usize);
    let (x, matrix, dy) = (a.x, &a.matrix[..taps * taps], &a.dy[..taps * channels]);
    pieces(threads, &mut a.dx[..from * from * channels], channels, |place, dx| {
        if let Some(tap) = (0..taps).find(|&u| p.centre(u) == place) {
            dispatch(Input { tap, matrix, dy, dx });
        }
    });
    pieces(threads, &mut a.dmatrix[..taps * taps], taps, |tap, row| {
        dispatch(Matrix { p, x, dy: &dy[tap * channels..][..channels], row });
    });
}

/// `dx[c] += sum_t matrix[t, tap] dy[t, c]`
struct Input<'a> {
    tap: usize,
    matrix: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Input<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, c in 0..self.dx.len() => self.vector::<V>(c));
    }
}

impl Input<'_> {
    #[inline(always)]
    fn vector<V: Vector>(&mut self, c: usize) {
        let (channels, mut sum) = (self.dx.len(), V::splat(0.0));
        let taps = self.dy.len() / channels;
        for t in 0..taps {
            let factor = V::splat(self.matrix[t * taps + self.tap]);
            sum = factor.mul_add(V::load(&self.dy[t * channels + c..]), sum);
        }
        V::load(&self.dx[c..]).add(sum).store(&mut self.dx[c..]);
    }
}

/// `row[u] += sum_c dy[c] centre(x)[u, c]`
struct Matrix<'a> {
    p: &'a Params,
    x: &'a [f32],
    dy: &'a [f32],
    row: &'a mut [f32],
}

impl Kernel for Matrix<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let channels = self.dy.len();
        for u in 0..self.row.len() {
            let centre = &self.x[self.p.centre(u) * channels..][..channels];
            self.row[u] += dot(self.dy, centre);
        }
    }
}

/// `a . b`, in [`LANES`] sums that meet in order; written so that the compiler makes vectors of it.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(rest.0.iter().zip(rest.1)) {
        *sum += a * b;
    }
    let mut total = 0.0;
    for sum in sums {
        total += sum;
    }
    total
}
