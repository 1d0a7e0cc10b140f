//! The definition: the first half of the MBConv's, and the means of its rows.

use super::super::mbconv;
use super::super::real::Real;
use super::{Args, Params, row_means};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    a.check(p);
    let inside = mbconv::reference::front(p, a.front());
    a.y.copy_from_slice(&inside.filtered);
    if let Some(means) = a.means {
        row_means(p, &p.format().widen(a.y), means);
    }
}
