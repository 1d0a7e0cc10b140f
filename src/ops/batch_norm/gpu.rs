//! Launch geometry of `kernels/batch_norm.cu`.

use super::{ApplyParams, BLOCK_ROWS, BnApply, BnFold, BnStatistics, FoldParams, StatisticsParams};
use crate::device::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

#[repr(C)]
#[derive(Clone, Copy)]
struct StatisticsArgs {
    x: u64,
    partials: u64,
    batch: u64,
    average: u64,
    p: StatisticsParams,
}

/// A block 32 channels of [`BLOCK_ROWS`] rows; then a block 32 channels of all those.
pub(crate) fn launch_statistics(call: &BnStatistics, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let chunks = u64::from(p.channels.div_ceil(32));
    let args = StatisticsArgs {
        x: to.at(call.x),
        partials: to.at(call.partials),
        batch: to.at(call.batch),
        average: to.at(call.average),
        p,
    };
    let blocks = u64::from(p.rows.div_ceil(BLOCK_ROWS as u32)) * chunks;
    to.launch(kernel!("bn_partials", p.format), to.blocks(blocks, 128)?, &args)?;
    to.launch("bn_merge_f32", to.blocks(chunks, 256)?, &args)
}

#[repr(C)]
#[derive(Clone, Copy)]
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

/// A thread a channel.
pub(crate) fn launch_fold(call: &BnFold, to: &Launcher<'_>) -> Result<(), Error> {
    let args = FoldArgs {
        gamma: to.at(call.gamma),
        beta: to.at(call.beta),
        mean: to.at(call.mean),
        variance: to.at(call.variance),
        bias: to.at_or_null(call.bias),
        scale: to.at(call.scale),
        shift: to.at(call.shift),
        p: call.params,
    };
    to.launch("bn_fold_f32", to.covering(u64::from(call.params.channels), 128)?, &args)
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
    to.launch(kernel!("bn_apply", p.format), to.blocks(items.div_ceil(256), 256)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use crate::device::layout;
    vec![
        layout!("StatisticsParams", StatisticsParams { rows, channels, weight, format }),
        layout!("StatisticsArgs", StatisticsArgs { x, partials, batch, average, p }),
        layout!("FoldParams", FoldParams { channels, epsilon }),
        layout!("FoldArgs", FoldArgs { gamma, beta, mean, variance, bias, scale, shift, p }),
        layout!("ApplyParams", ApplyParams { rows, channels, activation, format }),
        layout!("ApplyArgs", ApplyArgs { x, scale, shift, residual, y, p }),
    ]
}
