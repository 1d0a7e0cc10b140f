//! The fast paths.

use super::super::super::Threads;
use super::reference;
use super::{InputArgs, Params, RunningArgs, RunningParams, SumsArgs};

/// The sums, and what they add to the affine parameters' gradients. The scratch slot is not needed
/// here and filled with zeros.
pub fn sums(p: &Params, a: SumsArgs<'_, f32>, _: Threads) {
    reference::sums(p, a);
}

/// Gradient of the input.
pub fn input(p: &Params, a: InputArgs<'_, f32>, _: Threads) {
    reference::input(p, a);
}

/// Running mean and variance.
pub fn running(p: &RunningParams, a: RunningArgs<'_, f32>, _: Threads) {
    reference::running(p, a);
}
