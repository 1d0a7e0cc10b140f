//! The fast paths: element by element in vectors, and sums of columns in blocks of rows.

use super::{ActivateArgs, ColumnSum, ColumnsArgs, ColumnsParams, GradArgs, Params};
use crate::ops::Threads;
use crate::ops::batch_norm::BLOCK_ROWS;
use crate::ops::parallel::pieces;
use crate::ops::simd::{Kernel, Vector, dispatch, each_vector};

/// Elements of a piece: four arrays of it stay in a second-level cache.
const PIECE: usize = 1 << 14;

/// Activation and mask.
pub fn forward(p: &Params, a: ActivateArgs<'_, f32>, threads: Threads) {
    elements(p, (a.x, None, a.mask), a.y, threads);
}

/// Their gradient.
pub fn backward(p: &Params, a: GradArgs<'_, f32>, threads: Threads) {
    elements(p, (a.x, Some(a.dy), a.mask), a.dx, threads);
}

/// `activation(x) * mask`, or with `dy` the gradient.
fn elements(
    p: &Params,
    (x, dy, mask): (&[f32], Option<&[f32]>, Option<&[f32]>),
    out: &mut [f32],
    threads: Threads,
) {
    pieces(threads, &mut out[..p.len as usize], PIECE, |index, out| {
        let part = index * PIECE..index * PIECE + out.len();
        let (x, dy, mask) = (&x[part.clone()], dy.map(|v| &v[part.clone()]), mask.map(|v| &v[part.clone()]));
        dispatch(Elements { activation: p.activation, x, dy, mask, out });
    });
}

struct Elements<'a> {
    activation: u32,
    x: &'a [f32],
    dy: Option<&'a [f32]>,
    mask: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Kernel for Elements<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, i in 0..self.out.len() => self.vector::<V>(i));
    }
}

impl Elements<'_> {
    #[inline(always)]
    fn vector<V: Vector>(&mut self, i: usize) {
        let x = V::load(&self.x[i..]);
        let mut value = match self.dy {
            None => x.activate(self.activation),
            Some(dy) => V::load(&dy[i..]).mul(x.derivative(self.activation)),
        };
        if let Some(mask) = self.mask {
            value = value.mul(V::load(&mask[i..]));
        }
        value.store(&mut self.out[i..]);
    }
}

/// Sums of columns: each block of rows leaves its own, and they are added in order, in f64.
pub fn columns(p: &ColumnsParams, a: ColumnsArgs<'_, f32>, threads: Threads) {
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    let x = &a.x[..rows * columns];
    let partials = &mut a.partials[..ColumnSum::partials_len(rows, columns)];
    pieces(threads, partials, columns, |index, out| {
        let block = &x[index * BLOCK_ROWS * columns..];
        dispatch(Sum { x: &block[..block.len().min(BLOCK_ROWS * columns)], out });
    });
    for (c, y) in a.y[..columns].iter_mut().enumerate() {
        let total: f64 = partials.iter().skip(c).step_by(columns).map(|&v| f64::from(v)).sum();
        *y += total as f32;
    }
}

struct Sum<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // Written so that the compiler makes vectors of it.
        self.out.fill(0.0);
        for row in self.x.chunks_exact(self.out.len()) {
            for (sum, value) in self.out.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}
