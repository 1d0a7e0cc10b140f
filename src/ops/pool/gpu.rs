//! Launch geometry of `kernels/forward/pool.cu`: a thread 16 bytes of channels of an output pixel.

use super::{GlobalPool, MaxPool, Params};
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 128;

pub(crate) fn global(call: &GlobalPool, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = geometry(&call.params, to)?;
    to.launch(kernel!("global_pool", call.params.format), geometry, &call.addresses(to))
}

pub(crate) fn max(call: &MaxPool, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = geometry(&call.params, to)?;
    to.launch(kernel!("max_pool", call.params.format), geometry, &call.addresses(to))
}

fn geometry(p: &Params, to: &Launcher<'_>) -> Result<Geometry, Error> {
    let pixels = u64::from(p.images) * u64::from(p.side_out * p.side_out);
    to.covering(pixels * u64::from(p.channels / chunk(p.format)), THREADS)
}
