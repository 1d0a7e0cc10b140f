//! The definition, written out.

use super::super::real::{Real, activate};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    let (kernel, stride) = (p.kernel as usize, p.stride as usize);
    // The input coordinate of a tap, if it is not padding.
    let tap = |o: usize, k: usize| (o * stride + k).checked_sub(kernel / 2).filter(|&i| i < side_in);
    for image in 0..p.images as usize {
        for oy in 0..side_out {
            for ox in 0..side_out {
                for c in 0..channels {
                    let mut sum = T::zero();
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            if let (Some(iy), Some(ix)) = (tap(oy, ky), tap(ox, kx)) {
                                let x = a.x[((image * side_in + iy) * side_in + ix) * channels + c];
                                sum = sum + x * a.w[(ky * kernel + kx) * p.weight_channels as usize + c];
                            }
                        }
                    }
                    let scaled =
                        sum * a.scale.map_or(T::one(), |s| s[c]) + a.shift.map_or(T::zero(), |s| s[c]);
                    a.y[((image * side_out + oy) * side_out + ox) * channels + c] =
                        activate(p.activation, scaled);
                }
            }
        }
    }
    if let Some(pool) = a.pool {
        let pixels = side_out * side_out;
        for (mean, i) in pool[..p.images as usize * channels].iter_mut().zip(0..) {
            let map = &a.y[i / channels * pixels * channels..][..pixels * channels];
            let sum: T = map.iter().skip(i % channels).step_by(channels).copied().sum();
            *mean = sum / T::of(pixels as f64);
        }
    }
}
