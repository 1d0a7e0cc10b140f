//! The host path: the chain of the operators' host paths, with the maps between them rounded.
//!
//! It is there so that a plan in 16-bit numbers runs on every device, and is what fused kernels are
//! compared with.

use super::super::halves::PER_ELEMENT;
use super::super::{Threads, depthwise, pointwise_half, squeeze_excite, stem};
use super::{Args, Front, Inside, Params};

/// The chain as far as the depthwise output.
pub(in crate::ops) fn front(p: &Params, a: Front<'_, f32>, threads: Threads) -> Inside<f32> {
    let format = p.format();
    let expansion = a.expand.map(|w| {
        let mut y = vec![0.0; p.expanded_len() / PER_ELEMENT];
        let (scale, shift) = (a.expand_scale, a.expand_shift);
        let args = pointwise_half::Args { x: a.x, w, scale, shift, gate: None, residual: None, y: &mut y };
        pointwise_half::cpu::run(&p.expansion(), args, threads);
        y
    });
    let stem = a.stem.map(|w| {
        let mut unrounded = vec![0.0; p.expanded_len()];
        let (scale, shift) = (a.expand_scale, a.expand_shift);
        stem::cpu::run(&p.stem(), stem::Args { x: a.x, w, scale, shift, y: &mut unrounded }, threads);
        format.pack(&unrounded)
    });
    let made = expansion.or(stem);
    let map = made.as_deref().unwrap_or_else(|| &a.x[..p.expanded_len() / PER_ELEMENT]);
    let mut unrounded = vec![0.0; p.filtered_len()];
    let filter = depthwise::Args {
        x: &format.unpack(map),
        w: a.filter,
        scale: Some(a.filter_scale),
        shift: Some(a.filter_shift),
        y: &mut unrounded,
        pool: None,
    };
    depthwise::cpu::run(&p.depthwise(), filter, threads);
    Inside { expanded: made, filtered: format.pack(&unrounded) }
}

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    a.check(p);
    let format = p.format();
    let Inside { expanded, filtered } = front(p, a.front(), threads);
    let gate = a.squeeze_excite().map(|[reduce, reduce_bias, expand, expand_bias]| {
        let mut gate = vec![0.0; (p.images * p.mid) as usize];
        let x = &format.unpack(&filtered);
        let args = squeeze_excite::Args { x, reduce, reduce_bias, expand, expand_bias, gate: &mut gate };
        squeeze_excite::cpu::run(&p.squeeze_excite(), args, threads);
        gate
    });
    let projection = pointwise_half::Args {
        x: &filtered,
        w: a.project,
        scale: Some(a.project_scale),
        shift: Some(a.project_shift),
        gate: gate.as_deref(),
        residual: if p.shortcut > 0 { expanded.as_deref() } else { a.residual },
        y: a.y,
    };
    pointwise_half::cpu::run(&p.projection(), projection, threads);
}
