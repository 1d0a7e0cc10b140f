//! Launch geometry.

use super::{Activate, ActivateGrad, ColumnSum};
use crate::device::{Error, Launcher};

pub(crate) fn launch_forward(_: &Activate, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Activate".into() })
}

pub(crate) fn launch_backward(_: &ActivateGrad, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for ActivateGrad".into() })
}

pub(crate) fn launch_columns(_: &ColumnSum, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for ColumnSum".into() })
}
