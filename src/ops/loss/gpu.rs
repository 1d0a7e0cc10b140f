//! Launch geometry of `kernels/loss.cu`: a warp an image.

use super::{Loss, SoftTargets};
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

pub(crate) fn launch_targets(call: &SoftTargets, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(32 * u64::from(call.params.images), THREADS)?;
    to.launch("soft_targets_f32", geometry, &call.addresses(to))
}

pub(crate) fn launch_loss(call: &Loss, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = to.covering(32 * u64::from(call.params.images), THREADS)?;
    to.launch("loss_f32", geometry, &call.addresses(to))
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use super::{LossAddresses, Params, TargetsAddresses, TargetsParams};
    use crate::launch::layout;
    vec![
        layout!("SoftTargetsParams", TargetsParams { images, classes, stride, weights }),
        TargetsAddresses::layout(),
        layout!("LossParams", Params { images, classes, stride, smoothing, kd_ratio, weight }),
        LossAddresses::layout(),
    ]
}
