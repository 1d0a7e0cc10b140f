//! Launch geometry of `kernels/update.cu`.

use super::{AdamW, BLOCK, ClipFactor, Fill, Sgd, SumOfSquares};
use crate::device::launch::Geometry;
use crate::device::{Error, Launcher};

const THREADS: u32 = 256;

/// A thread for every four of `len` elements, which are numbered in 32 bits, those behind the last too.
fn fours(len: u32, to: &Launcher<'_>) -> Result<Geometry, Error> {
    to.count(u64::from(len) + 4 * u64::from(THREADS))?;
    to.covering(u64::from(len).div_ceil(4), THREADS)
}

/// A thread four elements.
pub(crate) fn launch_fill(call: &Fill, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = fours(call.params.len, to)?;
    to.launch("update_fill_f32", geometry, &call.addresses(to))
}

/// A block [`BLOCK`] elements; then one block all those.
pub(crate) fn launch_squares(call: &SumOfSquares, to: &Launcher<'_>) -> Result<(), Error> {
    let args = call.addresses(to);
    let blocks = u64::from(call.params.len).div_ceil(BLOCK as u64);
    to.launch("square_partials_f32", to.blocks(blocks, THREADS)?, &args)?;
    to.launch("square_merge_f32", to.blocks(1, THREADS)?, &args)
}

/// One block.
pub(crate) fn launch_clip(call: &ClipFactor, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch("clip_factor_f32", to.blocks(1, THREADS)?, &call.addresses(to))
}

/// A thread four elements.
pub(crate) fn launch_sgd(call: &Sgd, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = fours(call.params.len, to)?;
    to.launch("sgd_f32", geometry, &call.addresses(to))
}

/// A thread four elements.
pub(crate) fn launch_adamw(call: &AdamW, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = fours(call.params.len, to)?;
    to.launch("adamw_f32", geometry, &call.addresses(to))
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use super::{AdamWAddresses, ClipAddresses, FillAddresses, SgdAddresses, SquaresAddresses};
    use super::{AdamWParams, ClipParams, FillParams, SgdParams, SquaresParams};
    use crate::device::layout;
    vec![
        layout!("UpdateFillParams", FillParams { len, value }),
        FillAddresses::layout(),
        layout!("SumOfSquaresParams", SquaresParams { len }),
        SquaresAddresses::layout(),
        layout!("ClipFactorParams", ClipParams { count, limit, unscale }),
        ClipAddresses::layout(),
        layout!("SgdParams", SgdParams { len, rate, momentum, decay, nesterov }),
        SgdAddresses::layout(),
        layout!(
            "AdamWParams",
            AdamWParams { len, rate, beta1, beta2, epsilon, decay, correction1, correction2 }
        ),
        AdamWAddresses::layout(),
    ]
}
