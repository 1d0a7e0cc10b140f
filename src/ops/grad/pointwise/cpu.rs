//! The fast paths.

use super::super::super::Threads;
use super::reference;
use super::{ScatterArgs, ScatterParams, TransposeArgs, TransposeParams, WeightsArgs};
use crate::ops::pointwise::Params;

/// Gradient of the weights. The scratch slot is not needed here and filled with zeros.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, _: Threads) {
    reference::weights(p, a);
}

/// The transposed matrix.
pub fn transpose(p: &TransposeParams, a: TransposeArgs<'_, f32>, _: Threads) {
    reference::transpose(p, a);
}

/// Pixels put back to their places.
pub fn scatter(p: &ScatterParams, a: ScatterArgs<'_, f32>, _: Threads) {
    reference::scatter(p, a);
}
