//! Smaller depthwise filters from larger ones (OFA's kernel transform).
//!
//! The centre of the larger filter, as a vector of `to * to` taps, times a matrix that all channels
//! of the layer share:
//!
//! ```text
//! y[t, c] = sum_u matrix[t, u] * centre(x)[u, c]
//! ```

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, Group, operator, params};

params! {
    /// Shape of a kernel transform, shared with the kernel.
    #[derive(Eq)]
    Params = "KernelTransformParams", "KernelTransformGradParams" {
        /// Channels.
        channels: u32,
        /// Size of the given filter.
        from: u32,
        /// Size of the filter to make; two less.
        to: u32,
    }
}

impl Params {
    /// Row of the given filter that tap `t` of the centre is.
    pub fn centre(&self, t: usize) -> usize {
        let (from, to) = (self.from as usize, self.to as usize);
        let border = (from - to) / 2;
        (t / to + border) * from + t % to + border
    }
}

operator! {
    /// A kernel transform.
    KernelTransform(Params) as run, together => host Args, gpu Addresses = "KernelTransformArgs",
        group gpu::GROUP = "KernelTransformGroup"
    {
        /// Filter `[from, from, channels]`.
        read x,
        /// Matrix `[to * to, to * to]`.
        read matrix,
        /// Filter `[to, to, channels]`.
        write y,
    }
}

impl Cost for KernelTransform {
    fn work(&self) -> Work {
        let (taps, channels) = (u64::from(self.params.to * self.params.to), u64::from(self.params.channels));
        Work { bytes: 4 * taps * (2 * channels + taps), flops: 2 * taps * taps * channels }
    }
}

/// Those of many layers at once.
pub type KernelTransformGroup = Group<KernelTransform>;
