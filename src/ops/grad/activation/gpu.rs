//! Launch geometry of `kernels/backward/grad_activation.cu`.

use super::{Activate, ActivateGrad, ColumnSum};
use crate::launch::{Error, Launcher};
use crate::ops::batch_norm::BLOCK_ROWS;
use crate::ops::halves::{chunk, kernel};

/// A thread 16 bytes.
pub(crate) fn forward(call: &Activate, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let geometry = to.covering(u64::from(p.len / chunk(p.format)), 256)?;
    to.launch(kernel!("activate", p.format), geometry, &call.addresses(to))
}

/// A thread 16 bytes.
pub(crate) fn backward(call: &ActivateGrad, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let geometry = to.covering(u64::from(p.len / chunk(p.format)), 256)?;
    to.launch(kernel!("activate_grad", p.format), geometry, &call.addresses(to))
}

/// A block 32 columns of [`BLOCK_ROWS`] rows; then a thread a column.
pub(crate) fn columns(call: &ColumnSum, to: &Launcher<'_>) -> Result<(), Error> {
    let (p, args) = (call.params, call.addresses(to));
    let blocks = u64::from(p.rows.div_ceil(BLOCK_ROWS as u32)) * u64::from(p.columns.div_ceil(32));
    to.launch(kernel!("column_partials", p.format), to.blocks(blocks, 128)?, &args)?;
    to.launch("column_merge_f32", to.covering(u64::from(p.columns), 128)?, &args)
}
