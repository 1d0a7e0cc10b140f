//! The host path: the definition in f32. A plan for a CPU has no passes: there the operators one by one are as
//! good.

use super::super::Threads;
use super::{Args, Params, reference};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, _: Threads) {
    reference::run(p, a);
}
