//! Launch geometry of `kernels/kernel_transform.cu`.

use super::{KernelTransformGroup, Params};
use crate::launch::{Error, Launcher};

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: u64,
    matrix: u64,
    y: u64,
    p: Params,
}

/// Calls of a launch: `kTransforms`.
const GROUP: usize = 64;
const THREADS: u32 = 128;

/// A thread a quad of channels of a tap, a row of blocks a call.
pub(crate) fn launch(group: &KernelTransformGroup, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch_together::<_, _, GROUP>("kernel_transform_f32", &group.calls, |call| {
        let p = call.params;
        let quads = u64::from(p.to * p.to) * u64::from(p.channels / 4);
        let args = Args { x: to.at(call.x), matrix: to.at(call.matrix), y: to.at(call.y), p };
        Ok((to.covering(quads, THREADS)?, args))
    })
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::{Grouped, layout};
    type Group = Grouped<Args, GROUP>;
    vec![
        layout!("KernelTransformParams", Params { channels, from, to }),
        layout!("KernelTransformArgs", Args { x, matrix, y, p }),
        layout!("KernelTransformGroup", Group { calls }),
    ]
}
