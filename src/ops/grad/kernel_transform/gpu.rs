//! Launch geometry of `kernels/backward/grad_kernel_transform.cu`.

use super::KernelTransformGrad;
use crate::launch::{Error, Launcher};

/// Calls of a launch: `kTransforms`.
pub(super) const GROUP: usize = 64;
const FILTER_THREADS: u32 = 128;
const MATRIX_THREADS: u32 = 64;

/// A thread a quad of channels of a tap of the filter; a block an element of the matrix; a row of blocks a
/// call.
pub(crate) fn run(calls: &[KernelTransformGrad], to: &Launcher<'_>) -> Result<(), Error> {
    let taps = |call: &KernelTransformGrad| u64::from(call.params.to * call.params.to);
    to.launch_together::<_, _, GROUP>("kernel_transform_input_f32", calls, |call| {
        let quads = taps(call) * u64::from(call.params.channels / 4);
        Ok((to.covering(quads, FILTER_THREADS)?, call.addresses(to)))
    })?;
    to.launch_together::<_, _, GROUP>("kernel_transform_matrix_f32", calls, |call| {
        Ok((to.blocks(taps(call) * taps(call), MATRIX_THREADS)?, call.addresses(to)))
    })
}
