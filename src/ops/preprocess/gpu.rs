//! Launch geometry of `kernels/preprocess.cu`.

use super::{Params, Preprocess};
use crate::launch::{Error, Launcher};

const THREADS: u32 = 128;

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    indices: u64,
    windows: u64,
    y: u64,
    p: Params,
    factor: [f32; 3],
    offset: [f32; 3],
}

/// A thread an output pixel.
pub(crate) fn launch(call: &Preprocess, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items = u64::from(p.images) * u64::from(p.side_out) * u64::from(p.side_out);
    let (factor, offset) = p.affine();
    let (x, y) = (to.at(call.x), to.at(call.y));
    let (indices, windows) = (to.at_or_null(call.indices), to.at_or_null(call.windows));
    let args = Args { x, indices, windows, y, p, factor, offset };
    to.launch("preprocess_f32", to.covering(items, THREADS)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!("PreprocessParams", Params { images, side_in, side_out, first, scale, mean, std }),
        layout!("PreprocessArgs", Args { x, indices, windows, y, p, factor, offset }),
    ]
}
