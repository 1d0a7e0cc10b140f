//! Launch geometry of `kernels/forward/kernel_transform.cu`.

use super::KernelTransform;
use crate::launch::{Error, Launcher};

/// Calls of a launch: `kTransforms`.
pub(super) const GROUP: usize = 64;
const THREADS: u32 = 128;

/// A thread a quad of channels of a tap, a row of blocks a call.
pub(crate) fn run(calls: &[KernelTransform], to: &Launcher<'_>) -> Result<(), Error> {
    to.launch_together::<_, _, GROUP>("kernel_transform_f32", calls, |call| {
        let p = call.params;
        let quads = u64::from(p.to * p.to) * u64::from(p.channels / 4);
        Ok((to.covering(quads, THREADS)?, call.addresses(to)))
    })
}
