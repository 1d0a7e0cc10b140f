//! Launch geometry of `kernels/augment.cu`.

use super::Augment;
use crate::launch::{Error, Launcher};

/// As many as a table has entries.
const THREADS: u32 = 256;

/// A block an image.
pub(crate) fn launch(call: &Augment, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch("augment_u8", to.blocks(u64::from(call.params.images), THREADS)?, &call.addresses(to))
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use super::{Addresses, Params};
    use crate::launch::layout;
    vec![layout!("AugmentParams", Params { images, side }), Addresses::layout()]
}
