//! Launch geometry of `kernels/forward/batch_norm.cu`.

use super::{ApplyParams, Average, BLOCK_ROWS, BnApply, BnStatistics, Fold, Merge};
use crate::launch::{Error, Geometry, Grouped, Launcher};
use crate::ops::halves::{chunk, kernel};

/// Foldings of a launch: as many as 4 KiB of arguments can name.
pub(super) const FOLDS: usize = 64;
const THREADS: u32 = 128;
/// Averages of a launch.
pub(super) const AVERAGES: usize = 64;
/// Merges of a launch.
pub(super) const MERGES: usize = 56;
/// Applications of a launch of many. One has a kernel of its own that takes its arguments alone; where there
/// are many, 4 KiB cost less than the launches that they save.
pub(super) const APPLIES: usize = 64;
/// Channels of a block of threads that reduces, and the threads of one that merges.
const REDUCED_CHANNELS: u32 = 32;
const MERGE_THREADS: u32 = 256;
const APPLY_THREADS: u32 = 256;
/// Blocks of rows of a batch that one block of threads takes on by itself.
const WHOLE_BLOCKS: u32 = 32;

/// A block 32 channels of a batch; of a batch with more than [`WHOLE_BLOCKS`] blocks of rows a block 32
/// channels of [`BLOCK_ROWS`] rows, and then a block 32 channels of all those.
pub(crate) fn statistics(call: &BnStatistics, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let chunks = u64::from(p.channels.div_ceil(REDUCED_CHANNELS));
    let args = call.addresses(to);
    let blocks = p.rows.div_ceil(BLOCK_ROWS as u32);
    let grid = |blocks: u64, threads: u32| -> Result<Geometry, Error> {
        to.count(blocks * u64::from(p.batches))?;
        let row = to.blocks(blocks, threads)?;
        Ok(Geometry { grid: [row.grid[0], p.batches, 1], ..row })
    };
    if blocks <= WHOLE_BLOCKS {
        return to.launch(kernel!("bn_statistics", p.format), grid(chunks, 512)?, &args);
    }
    to.launch(kernel!("bn_partials", p.format), grid(u64::from(blocks) * chunks, 128)?, &args)?;
    let merge = Merge { params: p.merge(), partials: call.partials, batch: call.batch, fold: call.fold };
    launch_merges(&[merge], to)
}

/// A block 32 channels of a batch, a row of blocks a batch, a layer of rows a merge.
pub(crate) fn merge(calls: &[Merge], to: &Launcher<'_>) -> Result<(), Error> {
    calls.chunks(MERGES).try_for_each(|merges| launch_merges(merges, to))
}

fn launch_merges(merges: &[Merge], to: &Launcher<'_>) -> Result<(), Error> {
    let Some(first) = merges.first() else { return Ok(()) };
    let (mut together, mut grid) = (Grouped { calls: [first.addresses(to); MERGES] }, [1, 1]);
    for (place, merge) in together.calls.iter_mut().zip(merges) {
        let p = merge.params;
        to.count(2 * u64::from(p.channels) * u64::from(p.batches))?;
        grid = [grid[0].max(p.channels.div_ceil(REDUCED_CHANNELS)), grid[1].max(p.batches)];
        *place = merge.addresses(to);
    }
    let row = to.blocks(u64::from(grid[0]), MERGE_THREADS)?;
    let geometry = Geometry { grid: [row.grid[0], grid[1], merges.len() as u32], ..row };
    to.launch("bn_merge_f32", geometry, &together)
}

/// A thread an element, a row of blocks an average.
pub(crate) fn average(calls: &[Average], to: &Launcher<'_>) -> Result<(), Error> {
    to.launch_together::<_, _, AVERAGES>("bn_average_f32", calls, |average| {
        Ok((to.covering(u64::from(average.params.length), THREADS)?, average.addresses(to)))
    })
}

/// A thread a channel, a row of blocks a folding.
pub(crate) fn fold(calls: &[Fold], to: &Launcher<'_>) -> Result<(), Error> {
    to.launch_together::<_, _, FOLDS>("bn_fold_f32", calls, |fold| {
        Ok((to.covering(u64::from(fold.params.channels), THREADS)?, fold.addresses(to)))
    })
}

/// Threads of an application.
fn items(p: &ApplyParams) -> u64 {
    u64::from(p.rows) * u64::from(p.channels / chunk(p.format))
}

/// A thread 16 bytes of channels of a row.
pub(crate) fn apply(call: &BnApply, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(items(&call.params), APPLY_THREADS)?;
    to.launch(kernel!("bn_apply", call.params.format), geometry, &call.addresses(to))
}

/// The same, a row of blocks an application. Those of a format are launched together.
pub(crate) fn apply_group(calls: &[BnApply], to: &Launcher<'_>) -> Result<(), Error> {
    let kernel = |call: &BnApply| kernel!("bn_apply_group", call.params.format);
    to.launch_by_kernel::<_, _, APPLIES>(calls, kernel, |call| {
        Ok((to.covering(items(&call.params), APPLY_THREADS)?, call.addresses(to)))
    })
}
