//! Launch geometry of `kernels/pool.cu`: a thread 16 bytes of channels of an output pixel.

use super::{GlobalPool, MaxPool, Params};
use crate::launch::{Error, Launcher};
use crate::ops::Slot;
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 128;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    y: u64,
    p: Params,
}

pub(crate) fn launch_global(call: &GlobalPool, to: &Launcher<'_>) -> Result<(), Error> {
    launch(kernel!("global_pool", call.params.format), call.params, call.x, call.y, to)
}

pub(crate) fn launch_max(call: &MaxPool, to: &Launcher<'_>) -> Result<(), Error> {
    launch(kernel!("max_pool", call.params.format), call.params, call.x, call.y, to)
}

fn launch(kernel: &'static str, p: Params, x: Slot, y: Slot, to: &Launcher<'_>) -> Result<(), Error> {
    let pixels = u64::from(p.images) * u64::from(p.side_out * p.side_out);
    let geometry = to.covering(pixels * u64::from(p.channels / chunk(p.format)), THREADS)?;
    to.launch(kernel, geometry, &Args { x: to.at(x), y: to.at(y), p })
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!("PoolParams", Params { images, side_in, side_out, channels, format }),
        layout!("PoolArgs", Args { x, y, p }),
    ]
}
