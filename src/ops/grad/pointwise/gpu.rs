//! Launch geometry.

use super::{PointwiseWeights, Scatter, Transpose};
use crate::device::{Error, Launcher};

pub(crate) fn launch_weights(_: &PointwiseWeights, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for PointwiseWeights".into() })
}

pub(crate) fn launch_transpose(_: &Transpose, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Transpose".into() })
}

pub(crate) fn launch_scatter(_: &Scatter, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Scatter".into() })
}
