//! Launch geometry of `kernels/score.cu`.

use super::{Params, Score};
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    logits: u64,
    labels: u64,
    out: u64,
    p: Params,
}

/// A warp an image.
pub(crate) fn launch(call: &Score, to: &Launcher<'_>) -> Result<(), Error> {
    let args =
        Args { logits: to.at(call.logits), labels: to.at(call.labels), out: to.at(call.out), p: call.params };
    to.launch("score_f32", to.covering(32 * u64::from(call.params.images), THREADS)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!("ScoreParams", Params { images, classes, stride, labelled }),
        layout!("ScoreArgs", Args { logits, labels, out, p }),
    ]
}
