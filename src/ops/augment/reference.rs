//! The definition: the host's own operations, which are written out in
//! [`augment`](crate::data::augment) and checked against the Python Imaging Library there.

use super::super::real::Real;
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let pixels = (p.side * p.side) as usize;
    for (i, y) in a.y.chunks_exact_mut(pixels).take(p.images as usize).enumerate() {
        super::image(p, (a.x, a.indices, a.operations), i, y);
    }
}
