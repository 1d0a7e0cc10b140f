//! Launches of `kernels/mbconv/mbconv.cu`; how blocks go about their work is [`blocks`](super::blocks).

use super::blocks::{Config, Job, THREADS};
use super::{Addresses, Mbconv, Params};
use crate::launch::{Error, Geometry, Launcher, launched};

launched! {
    /// A call: `MbconvLaunch`.
    pub(crate) struct Launch = "MbconvLaunch", group GROUP = "MbconvGroup" {
        pub a: Addresses,
        pub c: Config,
    }
}

impl Addresses {
    /// Nothing anywhere.
    pub(crate) fn nowhere(p: Params) -> Addresses {
        Addresses { p, ..bytemuck::Zeroable::zeroed() }
    }
}

/// Calls that a launch takes: `kMbconvGroup`.
pub(crate) const GROUP: usize = 15;

/// The kernel for the shape.
fn kernel(p: &Params) -> &'static str {
    let kernels = match (p.kernel, p.stride) {
        _ if p.has_stem() => ["mbconv_stem_f16", "mbconv_stem_bf16"],
        (3, 1) => ["mbconv_3_1_f16", "mbconv_3_1_bf16"],
        (3, _) => ["mbconv_3_2_f16", "mbconv_3_2_bf16"],
        (5, 1) => ["mbconv_5_1_f16", "mbconv_5_1_bf16"],
        (5, _) => ["mbconv_5_2_f16", "mbconv_5_2_bf16"],
        (_, 1) => ["mbconv_7_1_f16", "mbconv_7_1_bf16"],
        (_, _) => ["mbconv_7_2_f16", "mbconv_7_2_bf16"],
    };
    kernels[p.format().index()]
}

/// Launches calls, none of which reads what another writes: those of one kernel together.
pub(crate) fn run(calls: &[Mbconv], to: &Launcher<'_>) -> Result<(), Error> {
    let row = |call: &Mbconv| {
        let p = call.params;
        let (geometry, c) = planned("mbconv", &Job::whole(&p), &p, to)?;
        Ok((geometry, Launch { a: call.addresses(to), c }))
    };
    to.launch_by_kernel::<_, _, GROUP>(calls, |call| kernel(&call.params), row)
}

/// How blocks go about a call, and its row of the grid.
pub(crate) fn planned(
    kernel: &'static str,
    job: &Job,
    p: &Params,
    to: &Launcher<'_>,
) -> Result<(Geometry, Config), Error> {
    to.count(u64::from(p.images) * u64::from(p.pixels_in().max(p.image_side * p.image_side)))?;
    let plan = job
        .plan(to.shared_bytes(), to.multiprocessors())
        .ok_or(Error::NoRoom { kernel, shared_bytes: to.shared_bytes() })?;
    let blocks = to.blocks(u64::from(job.blocks(&plan.config)), THREADS)?;
    Ok((Geometry { shared_bytes: plan.shared_bytes, ..blocks }, plan.config))
}
