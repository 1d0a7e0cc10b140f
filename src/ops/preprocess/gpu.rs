//! Launch geometry of `kernels/input/preprocess.cu`.

use super::Preprocess;
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

/// A thread an output pixel.
pub(crate) fn run(call: &Preprocess, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items = u64::from(p.images) * u64::from(p.side_out) * u64::from(p.side_out);
    let (factor, offset) = p.affine();
    to.launch("preprocess_f32", to.covering(items, THREADS)?, &call.addresses(to, factor, offset))
}
