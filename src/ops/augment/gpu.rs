//! Launch geometry of `kernels/input/augment.cu`.

use super::Augment;
use crate::launch::{Error, Launcher};

/// As many as a table has entries.
const THREADS: u32 = 256;

/// A block an image.
pub(crate) fn run(call: &Augment, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch("augment_u8", to.blocks(u64::from(call.params.images), THREADS)?, &call.addresses(to))
}
