//! The fast paths: one pass over each tensor, in loops that the compiler makes vectors of.

use super::reference;
use super::{
    AdamWArgs, AdamWParams, AdamWSegment, BLOCK, ClipArgs, ClipParams, FillArgs, FillParams, SgdArgs,
    SgdParams, SgdSegment, SquaresArgs, SquaresParams, SumOfSquares, factor,
};
use crate::ops::Threads;
use crate::ops::parallel::{pieces, pieces_of};
use crate::ops::simd::{Kernel, Vector, dispatch};

/// Elements of a piece: four arrays of it stay in a second-level cache.
const PIECE: usize = 1 << 14;
/// Sums that a sum of squares is split into, on every instruction set.
const LANES: usize = 16;

/// The same value everywhere.
pub fn fill(p: &FillParams, a: FillArgs<'_, f32>, threads: Threads) {
    pieces(threads, &mut a.y[..p.len as usize], PIECE, |_, y| y.fill(p.value));
}

/// The sums of squares: one a block of a tensor, added in order in f64.
pub fn squares(p: &SquaresParams, a: SquaresArgs<'_, f32>, threads: Threads) {
    let mut partials = a.partials;
    for (y, segment) in a.y.iter_mut().zip(&p.segments) {
        let x = &a.x[segment.range()];
        let own = partials.split_at_mut(SumOfSquares::partials_len([x.len()]));
        // A piece is some blocks, so that a small tensor stays on one thread.
        let blocks = PIECE / BLOCK;
        pieces(threads, own.0, blocks, |index, sums| {
            let x = &x[index * PIECE..];
            for (x, sum) in x.chunks(BLOCK).zip(sums) {
                dispatch(Squares { x, sum });
            }
        });
        *y = own.0.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32;
        partials = own.1;
    }
}

struct Squares<'a> {
    x: &'a [f32],
    sum: &'a mut f32,
}

impl Kernel for Squares<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut sums = [0.0f32; LANES];
        let chunks = self.x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for x in chunks {
            for lane in 0..LANES {
                sums[lane] += x[lane] * x[lane];
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x * x;
        }
        let mut total = 0.0;
        for sum in sums {
            total += sum;
        }
        *self.sum = total;
    }
}

/// Norm and factor; one number a tensor, which the reference does.
pub fn clip(p: &ClipParams, a: ClipArgs<'_, f32>, _: Threads) {
    reference::clip(p, a);
}

/// A step of SGD.
pub fn sgd(p: &SgdParams, a: SgdArgs<'_, f32>, threads: Threads) {
    let Some(factor) = factor(a.clip) else { return };
    for segment in &p.segments {
        let range = segment.at.range();
        let g = &a.g[range.clone()];
        let updated = [(&mut a.velocity[range.clone()], PIECE), (&mut a.w[range], PIECE)];
        pieces_of(threads, updated, |index, [velocity, w]| {
            dispatch(Sgd { p, segment, factor, g: &g[index * PIECE..][..w.len()], velocity, w });
        });
    }
}

struct Sgd<'a> {
    p: &'a SgdParams,
    segment: &'a SgdSegment,
    factor: f32,
    g: &'a [f32],
    velocity: &'a mut [f32],
    w: &'a mut [f32],
}

impl Kernel for Sgd<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (rate, momentum, decay) = (self.p.rate, self.p.momentum, self.segment.decay);
        // What the gradient and the velocity weigh in the step.
        let (own, kept) = if self.p.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        for ((&g, velocity), w) in self.g.iter().zip(self.velocity).zip(self.w) {
            let d = self.factor * g + decay * *w;
            *velocity = momentum * *velocity + d;
            *w -= rate * (own * d + kept * *velocity);
        }
    }
}

/// A step of AdamW.
pub fn adamw(p: &AdamWParams, a: AdamWArgs<'_, f32>, threads: Threads) {
    let Some(factor) = factor(a.clip) else { return };
    for segment in &p.segments {
        let range = segment.at.range();
        let g = &a.g[range.clone()];
        let updated =
            [(&mut a.m[range.clone()], PIECE), (&mut a.v[range.clone()], PIECE), (&mut a.w[range], PIECE)];
        pieces_of(threads, updated, |index, [m, v, w]| {
            dispatch(AdamW { p, segment, factor, g: &g[index * PIECE..][..w.len()], m, v, w });
        });
    }
}

struct AdamW<'a> {
    p: &'a AdamWParams,
    segment: &'a AdamWSegment,
    factor: f32,
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    w: &'a mut [f32],
}

impl Kernel for AdamW<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (p, t) = (self.p, self.segment);
        let (new1, new2, kept) = (1.0 - p.beta1, 1.0 - p.beta2, 1.0 - p.rate * t.decay);
        for (((&g, m), v), w) in self.g.iter().zip(self.m).zip(self.v).zip(self.w) {
            let g = self.factor * g;
            *m += new1 * (g - *m);
            *v += new2 * (g * g - *v);
            let root = (*v / t.correction2).sqrt() + p.epsilon;
            *w = *w * kept - p.rate * (*m / t.correction1) / root;
        }
    }
}
