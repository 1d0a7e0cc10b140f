//! Launch geometry.

use super::{GlobalPoolGrad, MaxPoolGrad};
use crate::device::{Error, Launcher};

pub(crate) fn launch_global(_: &GlobalPoolGrad, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for GlobalPoolGrad".into() })
}

pub(crate) fn launch_max(_: &MaxPoolGrad, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for MaxPoolGrad".into() })
}
