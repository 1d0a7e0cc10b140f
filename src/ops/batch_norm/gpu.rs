//! Launch geometry of `kernels/batch_norm.cu`.

use super::{
    ApplyParams, Average, AverageParams, BLOCK_ROWS, BatchFold, BnApply, BnApplyGroup, BnAverage, BnFold,
    BnMerge, BnStatistics, Fold, FoldParams, Merge, MergeParams, StatisticsParams,
};
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::Slot;
use crate::ops::halves::{chunk, kernel};

/// Foldings of a launch: as many as 4 KiB of arguments can name.
const FOLDS: usize = 64;
const THREADS: u32 = 128;
/// Averages of a launch.
const AVERAGES: usize = 64;
/// Merges of a launch.
const MERGES: usize = 56;
/// Applications of a launch of many. One has a kernel of its own that takes its arguments alone; where there
/// are many, 4 KiB cost less than the launches that they save.
const APPLIES: usize = 64;
/// Channels of a block of threads that reduces, and the threads of one that merges.
const REDUCED_CHANNELS: u32 = 32;
const MERGE_THREADS: u32 = 256;
const APPLY_THREADS: u32 = 256;
/// Blocks of rows of a batch that one block of threads takes on by itself.
const WHOLE_BLOCKS: u32 = 32;

#[repr(C)]
#[derive(Clone, Copy)]
struct StatisticsArgs {
    x: u64,
    partials: u64,
    batch: u64,
    gamma: u64,
    beta: u64,
    scale: u64,
    shift: u64,
    p: StatisticsParams,
}

/// A block 32 channels of a batch; of a batch with more than [`WHOLE_BLOCKS`] blocks of rows a block 32
/// channels of [`BLOCK_ROWS`] rows, and then a block 32 channels of all those.
pub(crate) fn launch_statistics(call: &BnStatistics, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let chunks = u64::from(p.channels.div_ceil(REDUCED_CHANNELS));
    let args = StatisticsArgs {
        x: to.at(call.x),
        partials: to.at(call.partials),
        batch: to.at(call.batch),
        gamma: to.at_or_null(call.fold.map(|fold| fold.gamma)),
        beta: to.at_or_null(call.fold.map(|fold| fold.beta)),
        scale: to.at_or_null(call.fold.map(|fold| fold.scale)),
        shift: to.at_or_null(call.fold.map(|fold| fold.shift)),
        p,
    };
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

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MergeArgs {
    partials: u64,
    batch: u64,
    gamma: u64,
    beta: u64,
    scale: u64,
    shift: u64,
    p: MergeParams,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MergesArgs {
    merges: [MergeArgs; MERGES],
}

/// A block 32 channels of a batch, a row of blocks a batch, a layer of rows a merge.
pub(crate) fn launch_merge(call: &BnMerge, to: &Launcher<'_>) -> Result<(), Error> {
    call.merges.chunks(MERGES).try_for_each(|merges| launch_merges(merges, to))
}

fn launch_merges(merges: &[Merge], to: &Launcher<'_>) -> Result<(), Error> {
    let (mut args, mut grid) = (MergesArgs { merges: [MergeArgs::default(); MERGES] }, [1, 1]);
    for (args, merge) in args.merges.iter_mut().zip(merges) {
        let p = merge.params;
        to.count(2 * u64::from(p.channels) * u64::from(p.batches))?;
        grid = [grid[0].max(p.channels.div_ceil(REDUCED_CHANNELS)), grid[1].max(p.batches)];
        let of_fold = |slot: fn(BatchFold) -> Slot| to.at_or_null(merge.fold.map(slot));
        *args = MergeArgs {
            partials: to.at(merge.partials),
            batch: to.at(merge.batch),
            gamma: of_fold(|fold| fold.gamma),
            beta: of_fold(|fold| fold.beta),
            scale: of_fold(|fold| fold.scale),
            shift: of_fold(|fold| fold.shift),
            p,
        };
    }
    let row = to.blocks(u64::from(grid[0]), MERGE_THREADS)?;
    let geometry = Geometry { grid: [row.grid[0], grid[1], merges.len() as u32], ..row };
    to.launch("bn_merge_f32", geometry, &args)
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct AverageArgs {
    batch: u64,
    average: u64,
    p: AverageParams,
}

/// A thread an element, a row of blocks an average.
pub(crate) fn launch_average(call: &BnAverage, to: &Launcher<'_>) -> Result<(), Error> {
    let addresses = |average: &Average| AverageArgs {
        batch: to.at(average.batch),
        average: to.at(average.average),
        p: average.params,
    };
    to.launch_together::<_, _, AVERAGES>("bn_average_f32", &call.averages, |average| {
        Ok((to.covering(u64::from(average.params.length), THREADS)?, addresses(average)))
    })
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FoldArgs {
    gamma: u64,
    beta: u64,
    mean: u64,
    variance: u64,
    bias: u64,
    scale: u64,
    shift: u64,
    p: FoldParams,
}

/// A thread a channel, a row of blocks a folding.
pub(crate) fn launch_fold(call: &BnFold, to: &Launcher<'_>) -> Result<(), Error> {
    let addresses = |fold: &Fold| FoldArgs {
        gamma: to.at(fold.gamma),
        beta: to.at(fold.beta),
        mean: to.at(fold.mean),
        variance: to.at(fold.variance),
        bias: to.at_or_null(fold.bias),
        scale: to.at(fold.scale),
        shift: to.at(fold.shift),
        p: fold.params,
    };
    to.launch_together::<_, _, FOLDS>("bn_fold_f32", &call.folds, |fold| {
        Ok((to.covering(u64::from(fold.params.channels), THREADS)?, addresses(fold)))
    })
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ApplyArgs {
    x: u64,
    scale: u64,
    shift: u64,
    residual: u64,
    y: u64,
    p: ApplyParams,
}

impl ApplyArgs {
    fn new(call: &BnApply, to: &Launcher<'_>) -> ApplyArgs {
        ApplyArgs {
            x: to.at(call.x),
            scale: to.at(call.scale),
            shift: to.at(call.shift),
            residual: to.at_or_null(call.residual),
            y: to.at(call.y),
            p: call.params,
        }
    }
}

/// Threads of an application.
fn items(p: &ApplyParams) -> u64 {
    u64::from(p.rows) * u64::from(p.channels / chunk(p.format))
}

/// A thread 16 bytes of channels of a row.
pub(crate) fn launch_apply(call: &BnApply, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(items(&call.params), APPLY_THREADS)?;
    to.launch(kernel!("bn_apply", call.params.format), geometry, &ApplyArgs::new(call, to))
}

/// The same, a row of blocks an application. Those of a format are launched together.
pub(crate) fn launch_apply_group(call: &BnApplyGroup, to: &Launcher<'_>) -> Result<(), Error> {
    let kernel = |call: &BnApply| kernel!("bn_apply_group", call.params.format);
    to.launch_by_kernel::<_, _, APPLIES>(&call.calls, kernel, |call| {
        Ok((to.covering(items(&call.params), APPLY_THREADS)?, ApplyArgs::new(call, to)))
    })
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::{Grouped, layout};
    type Averages = Grouped<AverageArgs, AVERAGES>;
    type Folds = Grouped<FoldArgs, FOLDS>;
    type Applies = Grouped<ApplyArgs, APPLIES>;
    vec![
        layout!("StatisticsParams", StatisticsParams { rows, channels, batches, epsilon, format }),
        layout!("StatisticsArgs", StatisticsArgs { x, partials, batch, gamma, beta, scale, shift, p }),
        layout!("MergeParams", MergeParams { rows, unit_rows, span_rows, channels, batches, epsilon }),
        layout!("MergeArgs", MergeArgs { partials, batch, gamma, beta, scale, shift, p }),
        layout!("MergesArgs", MergesArgs { merges }),
        layout!("AverageParams", AverageParams { length, batches, weight }),
        layout!("AverageArgs", AverageArgs { batch, average, p }),
        layout!("AveragesArgs", Averages { calls }),
        layout!("FoldParams", FoldParams { channels, epsilon }),
        layout!("FoldArgs", FoldArgs { gamma, beta, mean, variance, bias, scale, shift, p }),
        layout!("FoldsArgs", Folds { calls }),
        layout!("ApplyParams", ApplyParams { rows, batch_rows, channels, activation, format }),
        layout!("ApplyArgs", ApplyArgs { x, scale, shift, residual, y, p }),
        layout!("AppliesArgs", Applies { calls }),
    ]
}
