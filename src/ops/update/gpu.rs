//! Launch geometry.

use super::{AdamW, ClipFactor, Fill, Sgd, SumOfSquares};
use crate::device::{Error, Launcher};

pub(crate) fn launch_fill(_: &Fill, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Fill".into() })
}

pub(crate) fn launch_squares(_: &SumOfSquares, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for SumOfSquares".into() })
}

pub(crate) fn launch_clip(_: &ClipFactor, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for ClipFactor".into() })
}

pub(crate) fn launch_sgd(_: &Sgd, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for Sgd".into() })
}

pub(crate) fn launch_adamw(_: &AdamW, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for AdamW".into() })
}
