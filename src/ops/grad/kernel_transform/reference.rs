//! The definition, written out.

use super::GradArgs;
use crate::ops::Real;
use crate::ops::kernel_transform::Params;

/// Computes the call; see the module for the formulas.
pub fn run<T: Real>(p: &Params, a: GradArgs<'_, T>) {
    let (taps, channels) = ((p.to * p.to) as usize, p.channels as usize);
    for u in 0..taps {
        let centre = p.centre(u) * channels;
        for c in 0..channels {
            let sum: T = (0..taps).map(|t| a.matrix[t * taps + u] * a.dy[t * channels + c]).sum();
            a.dx[centre + c] = a.dx[centre + c] + sum;
        }
        for t in 0..taps {
            let sum: T = (0..channels).map(|c| a.dy[t * channels + c] * a.x[centre + c]).sum();
            a.dmatrix[t * taps + u] = a.dmatrix[t * taps + u] + sum;
        }
    }
}
