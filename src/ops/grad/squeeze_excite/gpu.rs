//! Launch geometry.

use super::SqueezeExciteGrad;
use crate::device::{Error, Launcher};

pub(crate) fn launch_run(_: &SqueezeExciteGrad, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for SqueezeExciteGrad".into() })
}
