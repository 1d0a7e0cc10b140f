//! The fast paths.

use super::super::super::Threads;
use super::reference;
use super::{ActivateArgs, ColumnsArgs, ColumnsParams, GradArgs, Params};

/// Activation and mask.
pub fn forward(p: &Params, a: ActivateArgs<'_, f32>, _: Threads) {
    reference::forward(p, a);
}

/// Their gradient.
pub fn backward(p: &Params, a: GradArgs<'_, f32>, _: Threads) {
    reference::backward(p, a);
}

/// Sums of columns. The scratch slot is not needed here and filled with zeros.
pub fn columns(p: &ColumnsParams, a: ColumnsArgs<'_, f32>, _: Threads) {
    reference::columns(p, a);
}
