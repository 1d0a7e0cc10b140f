//! Launch geometry of `kernels/train/loss.cu`: a warp an image.

use super::{Loss, SoftTargets};
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

pub(crate) fn targets(call: &SoftTargets, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(32 * u64::from(call.params.images), THREADS)?;
    to.launch("soft_targets_f32", geometry, &call.addresses(to))
}

pub(crate) fn loss(call: &Loss, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(32 * u64::from(call.params.images), THREADS)?;
    to.launch("loss_f32", geometry, &call.addresses(to))
}
