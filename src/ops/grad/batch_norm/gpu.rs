//! Launch geometry.

use super::{BnGradInput, BnGradSums, BnRunning};
use crate::device::{Error, Launcher};

pub(crate) fn launch_sums(_: &BnGradSums, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for BnGradSums".into() })
}

pub(crate) fn launch_input(_: &BnGradInput, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for BnGradInput".into() })
}

pub(crate) fn launch_running(_: &BnRunning, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for BnRunning".into() })
}
