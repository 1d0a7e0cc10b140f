//! Launch geometry of `kernels/depthwise.cu`.

use super::{Depthwise, Params};
use crate::device::{Error, Launcher};
use crate::ops::halves::suffixed;

const THREADS: u32 = 128;
/// Channels of a block.
const CHANNELS: u32 = 32;
/// Up to this side of the output a thread makes one output straight from memory.
const SMALL_SIDE: u32 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    w: u64,
    scale: u64,
    shift: u64,
    y: u64,
    p: Params,
}

/// A block a tile of an image for 32 channels; a thread an output where maps are small.
pub(crate) fn launch(call: &Depthwise, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let args = Args {
        x: to.at(call.x),
        w: to.at(call.w),
        scale: to.at_or_null(call.scale),
        shift: to.at_or_null(call.shift),
        y: to.at(call.y),
        p,
    };
    let images = u64::from(p.images);
    if p.side_out <= SMALL_SIDE {
        let kernel = match p.kernel {
            3 => suffixed!("depthwise_small_3", p.format),
            5 => suffixed!("depthwise_small_5", p.format),
            _ => suffixed!("depthwise_small_7", p.format),
        };
        let items = images * u64::from(p.side_out * p.side_out) * u64::from(p.channels / 4);
        return to.launch(kernel, to.covering(items, THREADS)?, &args);
    }
    let (kernel, tile_y) = match (p.kernel, p.stride) {
        (3, 1) => (suffixed!("depthwise_3_1", p.format), 8),
        (5, 1) => (suffixed!("depthwise_5_1", p.format), 8),
        (_, 1) => (suffixed!("depthwise_7_1", p.format), 8),
        (3, _) => (suffixed!("depthwise_3_2", p.format), 4),
        (5, _) => (suffixed!("depthwise_5_2", p.format), 4),
        _ => (suffixed!("depthwise_7_2", p.format), 4),
    };
    let tiles = u64::from(p.side_out.div_ceil(8)) * u64::from(p.side_out.div_ceil(tile_y));
    let blocks = tiles * images * u64::from(p.channels.div_ceil(CHANNELS));
    to.launch(kernel, to.blocks(blocks, THREADS)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use crate::device::layout;
    vec![
        layout!(
            "DepthwiseParams",
            Params {
                images,
                side_in,
                side_out,
                channels,
                weight_channels,
                kernel,
                stride,
                activation,
                format
            }
        ),
        layout!("DepthwiseArgs", Args { x, w, scale, shift, y, p }),
    ]
}
