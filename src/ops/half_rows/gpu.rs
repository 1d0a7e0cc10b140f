//! Launch geometry of `kernels/half_rows.cu`.

use super::{HalfRows, Job};
use crate::launch::{Error, Geometry, Launcher};
use crate::ops::PANEL;
use crate::ops::halves::Format;

/// Matrices of a launch: as many as 4 KiB of arguments can name. A super-network has fewer.
const JOBS: usize = 128;
/// Input channels of a panel that a block takes.
const INPUTS: u32 = 64;
const THREADS: u32 = 128;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct JobArgs {
    w: u64,
    rows: u64,
    transposed: u64,
    cout: u32,
    cin: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    jobs: [JobArgs; JOBS],
}

/// A block 64 input channels of a panel, a row of blocks a matrix.
pub(crate) fn launch(call: &HalfRows, to: &Launcher<'_>) -> Result<(), Error> {
    let kernel = match call.params.format {
        Format::F16 => "half_rows_f16",
        Format::Bf16 => "half_rows_bf16",
    };
    let addresses = |job: &Job| JobArgs {
        w: to.at(job.w),
        rows: to.at(job.rows),
        transposed: to.at_or_null(job.transposed),
        cout: job.cout,
        cin: job.cin,
    };
    let blocks = |job: &Job| job.cout.div_ceil(PANEL as u32) * job.cin.div_ceil(INPUTS);
    for jobs in call.jobs.chunks(JOBS) {
        let mut args = Args { jobs: [JobArgs::default(); JOBS] };
        args.jobs.iter_mut().zip(jobs).for_each(|(args, job)| *args = addresses(job));
        let most = jobs.iter().map(blocks).max().unwrap_or(0);
        let row = to.blocks(u64::from(most), THREADS)?;
        let geometry = Geometry { grid: [row.grid[0], jobs.len() as u32, 1], ..row };
        to.launch(kernel, geometry, &args)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::layout;
    vec![
        layout!("HalfRowsJob", JobArgs { w, rows, transposed, cout, cin }),
        layout!("HalfRowsArgs", Args { jobs }),
    ]
}
