//! Launch geometry.

use super::StemWeights;
use crate::device::{Error, Launcher};

pub(crate) fn launch_weights(_: &StemWeights, _: &Launcher<'_>) -> Result<(), Error> {
    Err(Error::Failed { device: "gpu".into(), reason: "no kernel for StemWeights".into() })
}
