//! The definition: the chain of the operators' definitions on 16-bit maps, and statistics of what it ends in.

use super::super::batch_norm::{self, ApplyArgs};
use super::super::halves::PER_ELEMENT;
use super::super::real::Real;
use super::super::{Activation, depthwise, pointwise_half, squeeze_excite};
use super::{Args, Params, Pass, Vectors, units};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, mut a: Args<'_, T>) {
    a.check(p);
    match p.pass {
        Pass::Expanded => {
            let raw = expanded(p, &a).expect("checked: nothing else ends with the expansion");
            leave(p, &raw, a.partials);
        }
        Pass::Filtered => {
            let raw = filtered(p, &a);
            leave(p, &raw, a.partials);
        }
        Pass::Projected => {
            let y = a.y.take().expect("checked");
            projected(p, &a, y);
            leave(p, y, a.partials);
        }
    }
}

/// The statistics of a map of 16-bit numbers.
fn leave<T: Real>(p: &Params, map: &[T], partials: &mut [T]) {
    units::leave(&p.merge(0.0), &p.format().widen(map), partials);
}

/// The raw expanded map, where there is an expansion.
fn expanded<T: Real>(p: &Params, a: &Args<'_, T>) -> Option<Vec<T>> {
    let w = a.expand?;
    let mut y = vec![T::zero(); p.shape.expanded_len() / PER_ELEMENT];
    let args =
        pointwise_half::Args { x: a.x, w, scale: None, shift: None, gate: None, residual: None, y: &mut y };
    pointwise_half::reference::run(&p.expansion(), args);
    Some(y)
}

/// The raw depthwise output.
fn filtered<T: Real>(p: &Params, a: &Args<'_, T>) -> Vec<T> {
    let made = expanded(p, a).zip(a.expand_vectors()).map(|(raw, vectors)| normalised(p, &raw, vectors));
    let map = made.as_deref().unwrap_or_else(|| &a.x[..p.shape.expanded_len() / PER_ELEMENT]);
    let mut y = vec![T::zero(); p.shape.filtered_len()];
    let args = depthwise::Args {
        x: &p.format().widen(map),
        w: a.filter.expect("checked"),
        scale: None,
        shift: None,
        y: &mut y,
        pool: None,
    };
    let params = depthwise::Params { activation: Activation::None as u32, ..p.shape.depthwise() };
    depthwise::reference::run(&params, args);
    rounded(p, &y)
}

/// The depthwise output behind its batch norm.
pub(in crate::ops) fn kept<T: Real>(p: &Params, a: &Args<'_, T>) -> Vec<T> {
    normalised(p, &filtered(p, a), a.filter_vectors().expect("checked"))
}

/// The raw output, to `y`.
fn projected<T: Real>(p: &Params, a: &Args<'_, T>, y: &mut [T]) {
    let map = kept(p, a);
    let gate = a.squeeze_excite().map(|[reduce, reduce_bias, expand, expand_bias]| {
        let mut gate = vec![T::zero(); (p.shape.images * p.shape.mid) as usize];
        let x = &p.format().widen(&map);
        let args = squeeze_excite::Args { x, reduce, reduce_bias, expand, expand_bias, gate: &mut gate };
        squeeze_excite::reference::run(&p.shape.squeeze_excite(), args);
        gate
    });
    let projection = pointwise_half::Args {
        x: &map,
        w: a.project.expect("checked"),
        scale: None,
        shift: None,
        gate: gate.as_deref(),
        residual: None,
        y,
    };
    pointwise_half::reference::run(&p.projection(), projection);
}

/// A raw map of `mid` channels behind its batch norm and activation.
fn normalised<T: Real>(p: &Params, raw: &[T], (scale, shift): Vectors<'_, T>) -> Vec<T> {
    let raw = &p.format().widen(raw);
    let mut y = vec![T::zero(); raw.len()];
    let pixels = (raw.len() / (p.shape.images * p.shape.mid) as usize) as u32;
    let args = ApplyArgs { x: Some(raw), scale, shift, residual: None, y: &mut y };
    batch_norm::reference::apply(&p.application(pixels), args);
    rounded(p, &y)
}

fn rounded<T: Real>(p: &Params, values: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); values.len() / PER_ELEMENT];
    p.format().narrow(values, &mut y);
    y
}
