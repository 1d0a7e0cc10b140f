//! Launches of `kernels/mbconv/expand_depthwise.cu`; how blocks go about their work is `mbconv`'s.

use super::{ExpandDepthwise, Params};
use crate::launch::{Error, Launcher, Multiprocessors, launched};
use crate::ops::mbconv::blocks::Job;
use crate::ops::mbconv::gpu::{Launch, planned};
use crate::ops::mbconv::{Addresses, Block};

launched! {
    /// A call: `ExpandDepthwiseLaunch`.
    pub(super) struct PairLaunch = "ExpandDepthwiseLaunch" {
        whole: Launch,
        means: u64,
        batch_images: u32,
        rounds: u32,
    }
}

/// Bytes of shared memory of the smallest block for the shape; none where there is no kernel for it.
pub fn least_shared_bytes(p: &Params) -> Option<u32> {
    Job::of_pair(p).smallest().map(|plan| plan.shared_bytes)
}

/// Whether there is a kernel for the shape on a device whose blocks can have `shared_bytes` of shared memory.
pub fn fits(p: &Params, shared_bytes: u32) -> bool {
    Job::of_pair(p).fits(shared_bytes)
}

/// The block that is picked on a device with these multiprocessors, if one fits.
pub fn block(p: &Params, shared_bytes: u32, multiprocessors: Multiprocessors) -> Option<Block> {
    Job::of_pair(p).plan(shared_bytes, multiprocessors).map(Block::from)
}

/// The kernel for the shape.
fn kernel(p: &Params) -> &'static str {
    let kernels = match (p.shape.kernel, p.shape.stride) {
        (3, 1) => ["expand_depthwise_3_1_f16", "expand_depthwise_3_1_bf16"],
        (3, _) => ["expand_depthwise_3_2_f16", "expand_depthwise_3_2_bf16"],
        (5, 1) => ["expand_depthwise_5_1_f16", "expand_depthwise_5_1_bf16"],
        (5, _) => ["expand_depthwise_5_2_f16", "expand_depthwise_5_2_bf16"],
        (_, 1) => ["expand_depthwise_7_1_f16", "expand_depthwise_7_1_bf16"],
        (_, _) => ["expand_depthwise_7_2_f16", "expand_depthwise_7_2_bf16"],
    };
    kernels[p.shape.format().index()]
}

/// Launches a call.
pub(crate) fn run(call: &ExpandDepthwise, to: &Launcher<'_>) -> Result<(), Error> {
    let p = call.params;
    let (geometry, c) = planned("expand_depthwise", &Job::of_pair(&p), &p.shape, to)?;
    let a = Addresses {
        x: to.at(call.x),
        expand: to.at_or_null(call.expand),
        expand_scale: to.at_or_null(call.expand_scale),
        expand_shift: to.at_or_null(call.expand_shift),
        filter: to.at(call.filter),
        filter_scale: to.at(call.filter_scale),
        filter_shift: to.at(call.filter_shift),
        y: to.at(call.y),
        ..Addresses::nowhere(p.shape)
    };
    let launch = PairLaunch {
        whole: Launch { a, c },
        means: to.at_or_null(call.means),
        batch_images: p.batch_images.unwrap_or(p.shape.images),
        rounds: u32::from(p.batch_images.is_some()),
    };
    to.launch(kernel(&p), geometry, &launch)
}
