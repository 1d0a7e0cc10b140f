//! The definition, written out.

use super::super::real::{Real, activate};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let (side_in, side_out, cout) = (p.side_in as usize, p.side_out as usize, p.cout as usize);
    let tap = |o: usize, k: usize| (2 * o + k).checked_sub(1).filter(|&i| i < side_in);
    for image in 0..p.images as usize {
        for oy in 0..side_out {
            for ox in 0..side_out {
                for n in 0..cout {
                    let mut sum = T::zero();
                    for ky in 0..3 {
                        for kx in 0..3 {
                            if let (Some(iy), Some(ix)) = (tap(oy, ky), tap(ox, kx)) {
                                for c in 0..3 {
                                    let x = a.x[((image * side_in + iy) * side_in + ix) * 3 + c];
                                    sum = sum + x * a.w[((ky * 3 + kx) * 3 + c) * cout + n];
                                }
                            }
                        }
                    }
                    let scaled =
                        sum * a.scale.map_or(T::one(), |s| s[n]) + a.shift.map_or(T::zero(), |s| s[n]);
                    a.y[((image * side_out + oy) * side_out + ox) * cout + n] =
                        activate(p.activation, scaled);
                }
            }
        }
    }
}
