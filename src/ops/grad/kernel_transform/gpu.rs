//! Launch geometry of `kernels/grad_kernel_transform.cu`.

use super::KernelTransformGrad;
use crate::device::{Error, Launcher};

/// A thread a quad of channels of a tap of the filter; a block an element of the matrix.
pub(crate) fn launch_run(call: &KernelTransformGrad, to: &Launcher<'_>) -> Result<(), Error> {
    let (p, args) = (call.params, call.addresses(to));
    let taps = u64::from(p.to * p.to);
    let geometry = to.covering(taps * u64::from(p.channels / 4), 128)?;
    to.launch("kernel_transform_input_f32", geometry, &args)?;
    to.launch("kernel_transform_matrix_f32", to.blocks(taps * taps, 64)?, &args)
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::device::Layout> {
    use super::{GradAddresses, Params};
    use crate::device::layout;
    vec![layout!("KernelTransformGradParams", Params { channels, from, to }), GradAddresses::layout()]
}
