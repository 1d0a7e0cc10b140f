//! Launch geometry of `kernels/backward/grad_batch_norm.cu`.

use super::{BnGradInput, BnGradSums, BnRunning};
use crate::launch::{Error, Launcher};
use crate::ops::batch_norm::BLOCK_ROWS;
use crate::ops::halves::{chunk, kernel};

/// A block 32 channels of [`BLOCK_ROWS`] rows; then a block 32 channels of all those.
pub(crate) fn sums(call: &BnGradSums, to: &Launcher<'_>) -> Result<(), Error> {
    let (p, args) = (call.params, call.addresses(to));
    let chunks = u64::from(p.channels.div_ceil(32));
    let blocks = u64::from(p.rows.div_ceil(BLOCK_ROWS as u32)) * chunks;
    to.launch(kernel!("bn_grad_partials", p.format), to.blocks(blocks, 128)?, &args)?;
    to.launch("bn_grad_merge_f32", to.blocks(chunks, 256)?, &args)
}

/// A thread 16 bytes of channels of a row.
pub(crate) fn input(call: &BnGradInput, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items = u64::from(p.rows) * u64::from(p.channels / chunk(p.format));
    to.launch(kernel!("bn_grad_input", p.format), to.blocks(items.div_ceil(256), 256)?, &call.addresses(to))
}

/// Batch norms of a launch: `kRunnings`.
pub(super) const RUNNINGS: usize = 64;
const RUNNING_THREADS: u32 = 128;

/// A thread a channel, a row of blocks a batch norm.
pub(crate) fn running(calls: &[BnRunning], to: &Launcher<'_>) -> Result<(), Error> {
    to.launch_together::<_, _, RUNNINGS>("bn_running_f32", calls, |call| {
        Ok((to.covering(u64::from(call.params.channels), RUNNING_THREADS)?, call.addresses(to)))
    })
}
