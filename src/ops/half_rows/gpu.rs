//! Launch geometry of `kernels/forward/half_rows.cu`.

use super::{HalfRows, JobParams};
use crate::launch::{Error, Launcher};
use crate::ops::PANEL;
use crate::ops::halves::Format;

/// Matrices of a launch: as many as 4 KiB of arguments can name. A super-network has fewer.
pub(super) const JOBS: usize = 128;
/// Input channels of a panel that a block takes.
const INPUTS: u32 = 64;
const THREADS: u32 = 128;

/// A block 64 input channels of a panel, a row of blocks a matrix.
pub(crate) fn run(call: &HalfRows, to: &Launcher<'_>) -> Result<(), Error> {
    let kernel = match call.params.format {
        Format::F16 => "half_rows_f16",
        Format::Bf16 => "half_rows_bf16",
    };
    to.launch_together::<_, _, JOBS>(kernel, &call.jobs, |job| {
        let JobParams { cout, cin } = job.params;
        let blocks = cout.div_ceil(PANEL as u32) * cin.div_ceil(INPUTS);
        Ok((to.blocks(u64::from(blocks), THREADS)?, job.addresses(to)))
    })
}
