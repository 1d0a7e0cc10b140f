//! Launches of `kernels/mbconv/mbconv_passes.cu`; how blocks go about their work is `mbconv`'s.

use super::{MbconvPass, Params, Pass};
use crate::launch::{Error, Launcher, launched};
use crate::ops::mbconv::Addresses;
use crate::ops::mbconv::blocks::Job;
use crate::ops::mbconv::gpu::{Launch, planned};

launched! {
    /// A call: `MbconvPassLaunch`.
    pub(super) struct PassLaunch = "MbconvPassLaunch", group GROUP = "MbconvPassGroup" {
        whole: Launch,
        partials: u64,
        batch_images: u32,
    }
}

/// Calls that a launch takes: `kMbconvPassGroup`.
pub(crate) const GROUP: usize = 14;

/// Bytes of shared memory of the smallest block for the shape; none where there is no kernel for it.
pub fn least_shared_bytes(p: &Params) -> Option<u32> {
    Job::of_pass(p).smallest().map(|plan| plan.shared_bytes)
}

/// Whether there is a kernel for the shape on a device whose blocks can have `shared_bytes` of shared memory.
pub fn fits(p: &Params, shared_bytes: u32) -> bool {
    Job::of_pass(p).fits(shared_bytes)
}

/// The kernel for the shape.
fn kernel(p: &Params) -> &'static str {
    let kernels = match (p.pass, p.shape.kernel, p.shape.stride) {
        (Pass::Expanded, _, _) => ["mbconv_expanded_f16", "mbconv_expanded_bf16"],
        (Pass::Filtered, 3, 1) => ["mbconv_filtered_3_1_f16", "mbconv_filtered_3_1_bf16"],
        (Pass::Filtered, 3, _) => ["mbconv_filtered_3_2_f16", "mbconv_filtered_3_2_bf16"],
        (Pass::Filtered, 5, 1) => ["mbconv_filtered_5_1_f16", "mbconv_filtered_5_1_bf16"],
        (Pass::Filtered, 5, _) => ["mbconv_filtered_5_2_f16", "mbconv_filtered_5_2_bf16"],
        (Pass::Filtered, _, 1) => ["mbconv_filtered_7_1_f16", "mbconv_filtered_7_1_bf16"],
        (Pass::Filtered, _, _) => ["mbconv_filtered_7_2_f16", "mbconv_filtered_7_2_bf16"],
        (Pass::Projected, 3, 1) => ["mbconv_projected_3_1_f16", "mbconv_projected_3_1_bf16"],
        (Pass::Projected, 3, _) => ["mbconv_projected_3_2_f16", "mbconv_projected_3_2_bf16"],
        (Pass::Projected, 5, 1) => ["mbconv_projected_5_1_f16", "mbconv_projected_5_1_bf16"],
        (Pass::Projected, 5, _) => ["mbconv_projected_5_2_f16", "mbconv_projected_5_2_bf16"],
        (Pass::Projected, _, 1) => ["mbconv_projected_7_1_f16", "mbconv_projected_7_1_bf16"],
        (Pass::Projected, _, _) => ["mbconv_projected_7_2_f16", "mbconv_projected_7_2_bf16"],
    };
    kernels[p.format().index()]
}

/// The operands that a pass has in common with the whole MBConv.
fn addresses(call: &MbconvPass, to: &Launcher<'_>) -> Addresses {
    Addresses {
        x: to.at(call.x),
        expand: to.at_or_null(call.expand),
        expand_scale: to.at_or_null(call.expand_scale),
        expand_shift: to.at_or_null(call.expand_shift),
        filter: to.at_or_null(call.filter),
        filter_scale: to.at_or_null(call.filter_scale),
        filter_shift: to.at_or_null(call.filter_shift),
        reduce: to.at_or_null(call.reduce),
        reduce_bias: to.at_or_null(call.reduce_bias),
        excite: to.at_or_null(call.excite),
        excite_bias: to.at_or_null(call.excite_bias),
        project: to.at_or_null(call.project),
        y: to.at_or_null(call.y),
        ..Addresses::nowhere(call.params.shape)
    }
}

/// Launches calls, none of which reads what another writes: those of one kernel together.
pub(crate) fn run(calls: &[MbconvPass], to: &Launcher<'_>) -> Result<(), Error> {
    let row = |call: &MbconvPass| {
        let p = call.params;
        let (geometry, c) = planned("mbconv_pass", &Job::of_pass(&p), &p.shape, to)?;
        let whole = Launch { a: addresses(call, to), c };
        Ok((geometry, PassLaunch { whole, partials: to.at(call.partials), batch_images: p.batch_images }))
    };
    to.launch_by_kernel::<_, _, GROUP>(calls, |call| kernel(&call.params), row)
}
