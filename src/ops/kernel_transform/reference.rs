//! The definition, written out.

use super::super::real::Real;
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let (taps, channels) = ((p.to * p.to) as usize, p.channels as usize);
    for t in 0..taps {
        for c in 0..channels {
            a.y[t * channels + c] =
                (0..taps).map(|u| a.matrix[t * taps + u] * a.x[p.centre(u) * channels + c]).sum();
        }
    }
}
