//! The definition, written out.

use super::super::real::Real;
use super::{Args, Params};

/// Adds the maps from left to right.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    for i in 0..p.len as usize {
        a.y[i] = a.x.iter().fold(T::zero(), |sum, x| sum + x[i]);
    }
}
