//! Launch geometry of `kernels/forward/depthwise.cu` and `kernels/forward/depthwise_half.cu`.

use super::{Depthwise, Params};
use crate::launch::{Error, Launcher};
use crate::ops::halves::{Format, stored};
use crate::ops::pool;

const THREADS: u32 = 128;
/// Channels of a block.
const CHANNELS: u32 = 32;
/// Up to this side of the output a thread makes one output straight from memory.
const SMALL_SIDE: u32 = 4;

/// The map, then its means; in 16 bits both at once.
pub(crate) fn run(call: &Depthwise, to: &Launcher<'_>) -> Result<(), Error> {
    if let Some(format) = stored(call.params.format) {
        return launch_half(call, format, to);
    }
    launch_map(call, to)?;
    let Some(pool) = call.pool else { return Ok(()) };
    let Params { images, side_out, channels, .. } = call.params;
    let params = pool::Params { images, side_in: side_out, side_out: 1, channels, format: 0 };
    pool::gpu::global(&pool::GlobalPool { params, x: call.y, y: pool }, to)
}

/// A block a tile of an image for 32 channels; a thread an output where maps are small.
fn launch_map(call: &Depthwise, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    // Groups and workers are those of 16-bit maps.
    let args = call.addresses(to, 0, 0);
    let images = u64::from(p.images);
    if p.side_out <= SMALL_SIDE {
        let kernel = match p.kernel {
            3 => "depthwise_small_3",
            5 => "depthwise_small_5",
            _ => "depthwise_small_7",
        };
        let items = images * u64::from(p.side_out * p.side_out) * u64::from(p.channels / 4);
        return to.launch(kernel, to.covering(items, THREADS)?, &args);
    }
    let (kernel, tile_y) = match (p.kernel, p.stride) {
        (3, 1) => ("depthwise_3_1", 8),
        (5, 1) => ("depthwise_5_1", 8),
        (_, 1) => ("depthwise_7_1", 8),
        (3, _) => ("depthwise_3_2", 4),
        (5, _) => ("depthwise_5_2", 4),
        _ => ("depthwise_7_2", 4),
    };
    let tiles = u64::from(p.side_out.div_ceil(8)) * u64::from(p.side_out.div_ceil(tile_y));
    let blocks = tiles * images * u64::from(p.channels.div_ceil(CHANNELS));
    to.launch(kernel, to.blocks(blocks, THREADS)?, &args)
}

/// Chunks of 8 channels that a block of `depthwise_half` has at most.
const GROUPS: u32 = 8;
/// Outputs of a row that a thread of it makes at a time.
const STRIP: u32 = 4;

/// A block all pixels of some chunks of channels, of as many images as keep its threads busy.
fn launch_half(call: &Depthwise, format: Format, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let chunks = p.channels / 8;
    let columns = chunks.div_ceil(GROUPS);
    let groups = chunks.div_ceil(columns);
    let threads = THREADS / groups;
    let strips = p.side_out.div_ceil(STRIP) * p.side_out;
    let workers = strips.min(threads);
    let kernels = match (p.kernel, p.stride) {
        (3, 1) => ["depthwise_half_3_1_f16", "depthwise_half_3_1_bf16"],
        (5, 1) => ["depthwise_half_5_1_f16", "depthwise_half_5_1_bf16"],
        (_, 1) => ["depthwise_half_7_1_f16", "depthwise_half_7_1_bf16"],
        (3, _) => ["depthwise_half_3_2_f16", "depthwise_half_3_2_bf16"],
        (5, _) => ["depthwise_half_5_2_f16", "depthwise_half_5_2_bf16"],
        _ => ["depthwise_half_7_2_f16", "depthwise_half_7_2_bf16"],
    };
    let blocks = u64::from(columns) * u64::from(p.images.div_ceil(threads / workers));
    to.launch(kernels[format.index()], to.blocks(blocks, THREADS)?, &call.addresses(to, groups, workers))
}
