//! The fast paths.

use super::super::super::Threads;
use super::WeightsArgs;
use super::reference;
use crate::ops::stem::Params;

/// Gradient of the filters. The scratch slot is not needed here and filled with zeros.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, _: Threads) {
    reference::weights(p, a);
}
