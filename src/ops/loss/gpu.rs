//! Launch geometry.

use super::{Loss, SoftTargets};
use crate::device::{Error, Launcher};

pub(crate) fn launch_targets(_: &SoftTargets, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for SoftTargets".into() })
}

pub(crate) fn launch_loss(_: &Loss, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Loss".into() })
}
