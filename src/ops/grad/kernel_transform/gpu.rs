//! Launch geometry.

use super::KernelTransformGrad;
use crate::device::{Error, Launcher};

pub(crate) fn launch_run(_: &KernelTransformGrad, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for KernelTransformGrad".into() })
}
