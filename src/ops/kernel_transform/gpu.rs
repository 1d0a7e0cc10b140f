//! Launch geometry of `kernels/kernel_transform.cu`.

use super::{KernelTransform, Params};
use crate::device::{Error, Launcher};

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    matrix: u64,
    y: u64,
    p: Params,
}

/// A thread a quad of channels of a tap.
pub(crate) fn launch(call: &KernelTransform, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let items = u64::from(p.to * p.to) * u64::from(p.channels / 4);
    let args = Args { x: to.at(call.x), matrix: to.at(call.matrix), y: to.at(call.y), p };
    to.launch("kernel_transform_f32", to.covering(items, 128)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use crate::device::layout;
    vec![
        layout!("KernelTransformParams", Params { channels, from, to }),
        layout!("KernelTransformArgs", Args { x, matrix, y, p }),
    ]
}
