//! Launch geometry of `kernels/forward/score.cu`.

use super::Score;
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

/// A warp an image.
pub(crate) fn run(call: &Score, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch("score_f32", to.covering(32 * u64::from(call.params.images), THREADS)?, &call.addresses(to))
}
