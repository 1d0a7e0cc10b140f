//! Launch geometry of `kernels/backward/grad_pool.cu`.

use super::{GlobalPoolGrad, MaxPoolGrad};
use crate::launch::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 128;

/// A thread 16 bytes of channels of an input pixel.
pub(crate) fn global(call: &GlobalPoolGrad, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items =
        u64::from(p.images) * u64::from(p.side_in * p.side_in) * u64::from(p.channels / chunk(p.format));
    to.launch(kernel!("global_pool_grad", p.format), to.covering(items, THREADS)?, &call.addresses(to))
}

/// A thread 16 bytes of channels of a window.
pub(crate) fn max(call: &MaxPoolGrad, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items =
        u64::from(p.images) * u64::from(p.side_out * p.side_out) * u64::from(p.channels / chunk(p.format));
    to.launch(kernel!("max_pool_grad", p.format), to.covering(items, THREADS)?, &call.addresses(to))
}
