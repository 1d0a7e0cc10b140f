//! Launch geometry of `sum_*` in `kernels/elementwise.cu`.

use super::Sum;
use crate::launch::{Error, Launcher};
use crate::ops::halves::{chunk, kernel};

const THREADS: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    y: u64,
    quads: u32,
}

/// A thread 16 bytes.
pub(crate) fn launch(call: &Sum, to: &Launcher<'_>) -> Result<(), Error> {
    let quads = call.params.len / chunk(call.params.format);
    let [a, b, c, d] = std::array::from_fn(|i| to.at_or_null(call.x.get(i).copied()));
    let args = Args { a, b, c, d, y: to.at(call.y), quads };
    to.launch(kernel!("sum", call.params.format), to.covering(u64::from(quads), THREADS)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    vec![crate::launch::layout!("SumParams", Args { a, b, c, d, y, quads })]
}
