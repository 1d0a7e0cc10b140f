//! There is no kernel yet.

use super::{MbconvPass, Params};
use crate::device::{Error, Launcher};

/// Whether there is a kernel for the shape on a device whose blocks can have `shared_bytes` of shared memory.
pub fn fits(_: &Params, _: u32) -> bool {
    true
}

/// Launches calls, none of which reads what another writes: those of one kernel together.
pub(crate) fn launch(_: &[MbconvPass], to: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::NoRoom { kernel: "mbconv_pass", shared_bytes: to.shared_bytes() })
}
