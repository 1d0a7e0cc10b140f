//! The definitions, written out.

use super::{ActivateArgs, ColumnsArgs, ColumnsParams, GradArgs, Params};
use crate::ops::Real;
use crate::ops::real::{activate, derivative};

/// Activation and mask.
pub fn forward<T: Real>(p: &Params, a: ActivateArgs<'_, T>) {
    for i in 0..p.len as usize {
        a.y[i] = activate(p.activation, a.x[i]) * a.mask.map_or(T::one(), |mask| mask[i]);
    }
}

/// Their gradient.
pub fn backward<T: Real>(p: &Params, a: GradArgs<'_, T>) {
    for i in 0..p.len as usize {
        let mask = a.mask.map_or(T::one(), |mask| mask[i]);
        a.dx[i] = a.dy[i] * mask * derivative(p.activation, a.x[i]);
    }
}

/// Sums of columns. The scratch slot is not needed here and filled with zeros.
pub fn columns<T: Real>(p: &ColumnsParams, a: ColumnsArgs<'_, T>) {
    let columns = p.columns as usize;
    a.partials.fill(T::zero());
    for c in 0..columns {
        let sum: T = a.x.iter().skip(c).step_by(columns).take(p.rows as usize).copied().sum();
        a.y[c] = a.y[c] + sum;
    }
}
