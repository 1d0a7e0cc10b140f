//! The fast paths.

use super::super::super::Threads;
use super::reference;
use super::{GlobalArgs, MaxArgs};
use crate::ops::pool::Params;

/// Gradient of the mean.
pub fn global(p: &Params, a: GlobalArgs<'_, f32>, _: Threads) {
    reference::global(p, a);
}

/// Gradient of the maximum.
pub fn max(p: &Params, a: MaxArgs<'_, f32>, _: Threads) {
    reference::max(p, a);
}
