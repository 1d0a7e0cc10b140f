//! The fast paths.

use super::super::Threads;
use super::reference;
use super::{LossArgs, Params, TargetsArgs, TargetsParams};

/// Probabilities of the weighted exits.
pub fn targets(p: &TargetsParams, a: TargetsArgs<'_, f32>, _: Threads) {
    reference::targets(p, a);
}

/// Loss, correctness, gradient.
pub fn loss(p: &Params, a: LossArgs<'_, f32>, _: Threads) {
    reference::loss(p, a);
}
