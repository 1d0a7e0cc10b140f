//! The fast paths.

use super::super::super::Threads;
use super::reference;
use super::{InputArgs, WeightsArgs};
use crate::ops::depthwise::Params;

/// Gradient of the input.
pub fn input(p: &Params, a: InputArgs<'_, f32>, _: Threads) {
    reference::input(p, a);
}

/// Gradient of the filter. The scratch slot is not needed here and filled with zeros.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, _: Threads) {
    reference::weights(p, a);
}
