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

use super::halves::Format;
use super::operator::Resolve;
use super::{Slot, Work};

/// What a list of jobs is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// What the rows hold.
    pub format: Format,
}

/// One matrix, of which all stored channels are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Stored output channels, a multiple of 8.
    pub cout: u32,
    /// Stored input channels, a multiple of 8.
    pub cin: u32,
    /// Panels `[ceil(cout / 16)][cin][16]`.
    pub w: Slot,
    /// Rows `[cout, cin]`, two numbers an element.
    pub rows: Slot,
    /// Rows `[cin, cout]`, two numbers an element.
    pub transposed: Option<Slot>,
}

/// Many matrices at once. None is made of what another becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct HalfRows {
    /// What the rows hold.
    pub params: Params,
    /// The matrices.
    pub jobs: Vec<Job>,
}

impl HalfRows {
    pub(super) fn reads(&self) -> Vec<Slot> {
        self.jobs.iter().map(|job| job.w).collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        self.jobs.iter().flat_map(|job| std::iter::once(job.rows).chain(job.transposed)).collect()
    }

    pub(super) fn work(&self) -> Work {
        let bytes = |job: &Job| {
            let copies = 1 + u64::from(job.transposed.is_some());
            u64::from(job.cout) * u64::from(job.cin) * (4 + 2 * copies)
        };
        Work { bytes: self.jobs.iter().map(bytes).sum(), flops: 0 }
    }

    pub(crate) fn resolve<'a, T>(&self, resolver: &impl Resolve<'a, T>) -> Args<'a, T> {
        let job = |job: &Job| JobArgs {
            cout: job.cout as usize,
            cin: job.cin as usize,
            w: resolver.read(job.w),
            rows: resolver.write(job.rows),
            transposed: job.transposed.map(|slot| resolver.write(slot)),
        };
        Args { jobs: self.jobs.iter().map(job).collect() }
    }
}

/// The operands on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub jobs: Vec<JobArgs<'a, T>>,
}

/// Those of a matrix.
#[allow(missing_docs)]
pub struct JobArgs<'a, T> {
    pub cout: usize,
    pub cin: usize,
    pub w: &'a [T],
    pub rows: &'a mut [T],
    pub transposed: Option<&'a mut [T]>,
}
