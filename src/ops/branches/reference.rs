//! The definition, written out.

use super::super::real::{Real, activate};
use super::super::{pointwise, pool};
use super::{Args, BranchArgs, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    if let Some(BranchArgs { w: Some(w), scale, shift, y: Some(y) }) = a.expand {
        let params = p.pointwise((p.side_in, p.side_in), p.mid, 1);
        let args = pointwise::Args { x: a.x, w, scale, shift, gate: None, residual: None, y };
        pointwise::reference::run(&params, args);
    }
    let mut sum = vec![T::zero(); p.rows_out() * p.cout as usize];
    if p.shortcut == 1 {
        let len = sum.len();
        sum.copy_from_slice(&a.x[..len]);
    }
    if let Some(BranchArgs { w: Some(w), scale, shift, y }) = a.pointwise {
        let params = p.pointwise((p.side_in, p.side_out), p.cout, p.stride);
        let mut out = vec![T::zero(); sum.len()];
        let args = pointwise::Args { x: a.x, w, scale, shift, gate: None, residual: None, y: &mut out };
        pointwise::reference::run(&params, args);
        put(out, y, &mut sum);
    }
    if let Some(BranchArgs { w, scale, shift, y }) = a.transform {
        let pooled = match p.stride {
            1 => a.x[..p.rows_out() * p.cin as usize].to_vec(),
            _ => {
                let mut pooled = vec![T::zero(); p.rows_out() * p.cin as usize];
                let Params { images, side_in, side_out, cin: channels, .. } = *p;
                let params = pool::Params { images, side_in, side_out, channels, format: 0 };
                pool::reference::max(&params, pool::MaxArgs { x: a.x, y: &mut pooled });
                pooled
            }
        };
        let out = match w {
            Some(w) => {
                let params = p.pointwise((p.side_out, p.side_out), p.cout, 1);
                let mut out = vec![T::zero(); sum.len()];
                let args =
                    pointwise::Args { x: &pooled, w, scale, shift, gate: None, residual: None, y: &mut out };
                pointwise::reference::run(&params, args);
                out
            }
            None => {
                let one = |(i, &x): (usize, &T)| {
                    let n = i % p.cout as usize;
                    let scaled = x * scale.map_or(T::one(), |s| s[n]) + shift.map_or(T::zero(), |s| s[n]);
                    activate(p.activation, scaled)
                };
                pooled.iter().enumerate().map(one).collect()
            }
        };
        put(out, y, &mut sum);
    }
    if let Some(y) = a.sum {
        y[..sum.len()].copy_from_slice(&sum);
    }
}

/// Into the branch's own place, or onto the sum.
fn put<T: Real>(out: Vec<T>, y: Option<&mut [T]>, sum: &mut [T]) {
    match y {
        Some(y) => y[..out.len()].copy_from_slice(&out),
        None => sum.iter_mut().zip(out).for_each(|(sum, out)| *sum = out + *sum),
    }
}
