//! Launch geometry of `sum_*` in `kernels/forward/elementwise.cu`.

use super::Sum;
use crate::launch::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 256;

/// A thread 16 bytes.
pub(crate) fn run(call: &Sum, to: &Launcher<'_>) -> Result<(), Error> {
    let quads = call.params.len / chunk(call.params.format);
    to.launch(
        kernel!("sum", call.params.format),
        to.covering(u64::from(quads), THREADS)?,
        &call.addresses(to, quads),
    )
}
