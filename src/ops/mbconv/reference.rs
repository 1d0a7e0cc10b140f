//! The definition: the chain of the operators' definitions, with the maps between them rounded.

use super::super::halves::PER_ELEMENT;
use super::super::real::Real;
use super::super::{depthwise, pointwise_half, squeeze_excite, stem};
use super::{Args, Front, Inside, Params};

/// The chain as far as the depthwise output.
pub(in crate::ops) fn front<T: Real>(p: &Params, a: Front<'_, T>) -> Inside<T> {
    let format = p.format();
    let elements = |numbers: usize| vec![T::zero(); numbers / PER_ELEMENT];
    let expansion = a.expand.map(|w| {
        let mut y = elements(p.expanded_len());
        let (scale, shift) = (a.expand_scale, a.expand_shift);
        let args = pointwise_half::Args { x: a.x, w, scale, shift, gate: None, residual: None, y: &mut y };
        pointwise_half::reference::run(&p.expansion(), args);
        y
    });
    let stem = a.stem.map(|w| {
        let mut unrounded = vec![T::zero(); p.expanded_len()];
        let (scale, shift) = (a.expand_scale, a.expand_shift);
        stem::reference::run(&p.stem(), stem::Args { x: a.x, w, scale, shift, y: &mut unrounded });
        let mut y = elements(p.expanded_len());
        format.narrow(&unrounded, &mut y);
        y
    });
    let made = expansion.or(stem);
    let map = made.as_deref().unwrap_or_else(|| &a.x[..p.expanded_len() / PER_ELEMENT]);
    let mut unrounded = vec![T::zero(); p.filtered_len()];
    let filter = depthwise::Args {
        x: &format.widen(map),
        w: a.filter,
        scale: Some(a.filter_scale),
        shift: Some(a.filter_shift),
        y: &mut unrounded,
        pool: None,
    };
    depthwise::reference::run(&p.depthwise(), filter);
    let mut filtered = elements(p.filtered_len());
    format.narrow(&unrounded, &mut filtered);
    Inside { expanded: made, filtered }
}

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    a.check(p);
    let format = p.format();
    let Inside { expanded, filtered } = front(p, a.front());
    let gate = a.squeeze_excite().map(|[reduce, reduce_bias, expand, expand_bias]| {
        let mut gate = vec![T::zero(); (p.images * p.mid) as usize];
        let x = &format.widen(&filtered);
        let args = squeeze_excite::Args { x, reduce, reduce_bias, expand, expand_bias, gate: &mut gate };
        squeeze_excite::reference::run(&p.squeeze_excite(), args);
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
    pointwise_half::reference::run(&p.projection(), projection);
}
