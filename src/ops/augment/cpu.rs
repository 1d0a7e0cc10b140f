//! The fast path: an image a thread.
//!
//! Training on the CPU augments on the loader's threads; this path is there so that a plan that
//! augments on the device runs on every device.

use super::super::Threads;
use super::super::parallel::pieces;
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let pixels = (p.side * p.side) as usize;
    let Args { x, indices, operations, y, .. } = a;
    pieces(threads, &mut y[..p.images as usize * pixels], pixels, |i, y| {
        super::image(p, (x, indices, operations), i, y);
    });
}
