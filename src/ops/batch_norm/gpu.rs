//! Launch geometry of `kernels/batch_norm.cu`.

use super::{
    ApplyParams, Average, AverageParams, BLOCK_ROWS, BnApply, BnAverage, BnFold, BnStatistics, Fold,
    FoldParams, StatisticsParams,
};
use crate::device::launch::Geometry;
use crate::device::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

/// Foldings of a launch: as many as 4 KiB of arguments can name.
const FOLDS: usize = 64;
const FOLD_THREADS: u32 = 128;
/// Averages of a launch.
const AVERAGES: usize = 64;
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
    let chunks = u64::from(p.channels.div_ceil(32));
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
    to.launch("bn_merge_f32", grid(chunks, 256)?, &args)
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct AverageArgs {
    batch: u64,
    average: u64,
    p: AverageParams,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct AveragesArgs {
    averages: [AverageArgs; AVERAGES],
}

/// A thread an element, a row of blocks an average.
pub(crate) fn launch_average(call: &BnAverage, to: &Launcher<'_>) -> Result<(), Error> {
    let addresses = |average: &Average| AverageArgs {
        batch: to.at(average.batch),
        average: to.at(average.average),
        p: average.params,
    };
    for averages in call.averages.chunks(AVERAGES) {
        let length = averages.iter().map(|average| average.params.length).max().unwrap_or(0);
        let mut args = AveragesArgs { averages: [AverageArgs::default(); AVERAGES] };
        args.averages.iter_mut().zip(averages).for_each(|(args, average)| *args = addresses(average));
        let row = to.covering(u64::from(length), 128)?;
        let geometry = Geometry { grid: [row.grid[0], averages.len() as u32, 1], ..row };
        to.launch("bn_average_f32", geometry, &args)?;
    }
    Ok(())
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

#[repr(C)]
#[derive(Clone, Copy)]
struct FoldsArgs {
    folds: [FoldArgs; FOLDS],
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
    for folds in call.folds.chunks(FOLDS) {
        let channels = folds.iter().map(|fold| fold.params.channels).max().unwrap_or(0);
        let mut args = FoldsArgs { folds: [FoldArgs::default(); FOLDS] };
        args.folds.iter_mut().zip(folds).for_each(|(args, fold)| *args = addresses(fold));
        let row = to.covering(u64::from(channels), FOLD_THREADS)?;
        let geometry = Geometry { grid: [row.grid[0], folds.len() as u32, 1], ..row };
        to.launch("bn_fold_f32", geometry, &args)?;
    }
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ApplyArgs {
    x: u64,
    scale: u64,
    shift: u64,
    residual: u64,
    y: u64,
    p: ApplyParams,
}

/// A thread 16 bytes of channels of a row.
pub(crate) fn launch_apply(call: &BnApply, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let args = ApplyArgs {
        x: to.at(call.x),
        scale: to.at(call.scale),
        shift: to.at(call.shift),
        residual: to.at_or_null(call.residual),
        y: to.at(call.y),
        p,
    };
    let items = u64::from(p.rows) * u64::from(p.channels / chunk(p.format));
    to.launch(kernel!("bn_apply", p.format), to.covering(items, 256)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use crate::device::layout;
    vec![
        layout!("StatisticsParams", StatisticsParams { rows, channels, batches, epsilon, format }),
        layout!("StatisticsArgs", StatisticsArgs { x, partials, batch, gamma, beta, scale, shift, p }),
        layout!("AverageParams", AverageParams { length, batches, weight }),
        layout!("AverageArgs", AverageArgs { batch, average, p }),
        layout!("AveragesArgs", AveragesArgs { averages }),
        layout!("FoldParams", FoldParams { channels, epsilon }),
        layout!("FoldArgs", FoldArgs { gamma, beta, mean, variance, bias, scale, shift, p }),
        layout!("FoldsArgs", FoldsArgs { folds }),
        layout!("ApplyParams", ApplyParams { rows, batch_rows, channels, activation, format }),
        layout!("ApplyArgs", ApplyArgs { x, scale, shift, residual, y, p }),
    ]
}
