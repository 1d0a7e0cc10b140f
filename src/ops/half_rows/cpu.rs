//! The host path: a row after another, in pieces of whole rows.

use super::{Args, Params};
use crate::launch::panels::panelled_index;
use crate::ops::Threads;
use crate::ops::halves::PER_ELEMENT;
use crate::ops::parallel::pieces;

/// Rows of a piece of work.
const ROWS: usize = 16;

/// Rows of all matrices.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    for (shape, job) in a.jobs {
        let (cout, cin, w) = (shape.cout as usize, shape.cin as usize, job.w);
        let weight = |n: usize, k: usize| w[panelled_index(cin, n, k)];
        let fill =
            |out: &mut [f32], rows: usize, columns: usize, value: &(dyn Fn(usize, usize) -> f32 + Sync)| {
                let width = columns / PER_ELEMENT;
                pieces(threads, &mut out[..rows * width], ROWS * width, |piece, out| {
                    for (i, element) in out.iter_mut().enumerate() {
                        let (row, column) = (piece * ROWS + i / width, i % width * PER_ELEMENT);
                        *element = p.format.element(value(row, column), value(row, column + 1));
                    }
                });
            };
        fill(job.rows, cout, cin, &weight);
        if let Some(transposed) = job.transposed {
            fill(transposed, cin, cout, &|k, n| weight(n, k));
        }
    }
}
