//! Launch geometry.

use super::{DepthwiseInput, DepthwiseWeights};
use crate::device::{Error, Launcher};

pub(crate) fn launch_input(_: &DepthwiseInput, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for DepthwiseInput".into() })
}

pub(crate) fn launch_weights(_: &DepthwiseWeights, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for DepthwiseWeights".into() })
}
