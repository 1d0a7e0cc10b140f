//! The definition, written out.

use super::super::real::{Real, activate};
use super::{Args, Params};
use crate::launch::panels::panelled_index;

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let (cin, cout) = (p.cin as usize, p.cout as usize);
    for m in 0..p.rows() {
        let x = &a.x[p.input_row(m) * cin..][..cin];
        for n in 0..cout {
            let mut sum = T::zero();
            for k in 0..cin {
                let gate = a.gate.map_or(T::one(), |gate| gate[m / p.pixels() * cin + k]);
                sum = sum + x[k] * gate * a.w[panelled_index(p.weight_cin as usize, n, k)];
            }
            let scaled = sum * a.scale.map_or(T::one(), |s| s[n]) + a.shift.map_or(T::zero(), |s| s[n]);
            a.y[m * cout + n] =
                activate(p.activation, scaled) + a.residual.map_or(T::zero(), |r| r[m * cout + n]);
        }
    }
}
