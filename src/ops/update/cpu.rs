//! The fast paths.

use super::super::Threads;
use super::reference;
use super::{
    AdamWArgs, AdamWParams, ClipArgs, ClipParams, FillArgs, FillParams, SgdArgs, SgdParams, SquaresArgs,
    SquaresParams,
};

/// The same value everywhere.
pub fn fill(p: &FillParams, a: FillArgs<'_, f32>, _: Threads) {
    reference::fill(p, a);
}

/// The sum of squares. The scratch slot is not needed here and filled with zeros.
pub fn squares(p: &SquaresParams, a: SquaresArgs<'_, f32>, _: Threads) {
    reference::squares(p, a);
}

/// Norm and factor.
pub fn clip(p: &ClipParams, a: ClipArgs<'_, f32>, _: Threads) {
    reference::clip(p, a);
}

/// A step of SGD.
pub fn sgd(p: &SgdParams, a: SgdArgs<'_, f32>, _: Threads) {
    reference::sgd(p, a);
}

/// A step of AdamW.
pub fn adamw(p: &AdamWParams, a: AdamWArgs<'_, f32>, _: Threads) {
    reference::adamw(p, a);
}
