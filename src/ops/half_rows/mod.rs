//! The weights of many 1x1 convolutions as rows of 16-bit numbers, made from their panels.
//!
//! ```text
//! rows[n, k] = transposed[k, n] = half(panels[n, k])
//! ```
//!
//! The [forward operator](super::pointwise_half) takes rows of input channels, and so does the gradient of
//! its input, a forward call whose weights are the transposed ones. Training makes both from the f32 weights
//! after every step, of all layers in one launch.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::halves::Format;
use super::operator::{Cost, operator, params};

/// What a list of jobs is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// What the rows hold.
    pub format: Format,
}

params! {
    /// Shape of a matrix, of which all stored channels are taken; shared with the kernel.
    #[derive(Eq)]
    JobParams = "HalfRowsParams" {
        /// Stored output channels, a multiple of 8.
        cout: u32,
        /// Stored input channels, a multiple of 8.
        cin: u32,
    }
}

operator! {
    /// One matrix.
    Job(JobParams) => host JobArgs, gpu JobAddresses = "HalfRowsJob", group gpu::JOBS = "HalfRowsArgs" {
        /// Panels `[ceil(cout / 16)][cin][16]`.
        read w,
        /// Rows `[cout, cin]`, two numbers an element.
        write rows,
        /// Rows `[cin, cout]`, two numbers an element.
        optional_write transposed,
    }
}

operator! {
    /// Many matrices at once. None is made of what another becomes.
    HalfRows(Params) as run => host Args, launch JobAddresses {
        /// The matrices.
        each(Job => JobParams, JobArgs) jobs,
    }
}

impl Cost for HalfRows {
    fn work(&self) -> Work {
        let bytes = |job: &Job| {
            let copies = 1 + u64::from(job.transposed.is_some());
            u64::from(job.params.cout) * u64::from(job.params.cin) * (4 + 2 * copies)
        };
        Work { bytes: self.jobs.iter().map(bytes).sum(), flops: 0 }
    }
}
