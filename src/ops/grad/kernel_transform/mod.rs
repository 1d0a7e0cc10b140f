//! The gradient of the kernel transform.
//!
//! ```text
//! dx(centre)[u, c] += sum_t matrix[t, u] dy[t, c]        dmatrix[t, u] += sum_c dy[t, c] centre(x)[u, c]
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::kernel_transform::Params;
use crate::ops::operator::{Cost, Group, operator};

operator! {
    /// The gradient of a kernel transform.
    KernelTransformGrad(Params) as run, together => host GradArgs, gpu GradAddresses = "KernelTransformGradArgs",
        group gpu::GROUP = "KernelTransformGradGroup"
    {
        /// Filter `[from, from, channels]`.
        read x,
        /// Matrix `[to * to, to * to]`.
        read matrix,
        /// `[to, to, channels]`
        read dy,
        /// As `x`; added to.
        update dx,
        /// As `matrix`; added to.
        update dmatrix,
    }
}

impl Cost for KernelTransformGrad {
    fn work(&self) -> Work {
        let (taps, channels) = (u64::from(self.params.to * self.params.to), u64::from(self.params.channels));
        Work { bytes: 4 * taps * (4 * channels + 3 * taps), flops: 4 * taps * taps * channels }
    }
}

/// Those of many layers at once.
pub type KernelTransformGradGroup = Group<KernelTransformGrad>;
