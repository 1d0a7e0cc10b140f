//! The definitions, written out.

use super::{InputArgs, WeightsArgs};
use crate::ops::Real;
use crate::ops::depthwise::Params;

/// Calls `visit(input, output, tap)` with the pixel indices of every product of the convolution.
fn products(p: &Params, mut visit: impl FnMut(usize, usize, usize)) {
    let [side_in, side_out, kernel, stride] = [p.side_in, p.side_out, p.kernel, p.stride].map(|v| v as usize);
    let tap = |o: usize, k: usize| (o * stride + k).checked_sub(kernel / 2).filter(|&i| i < side_in);
    for image in 0..p.images as usize {
        for oy in 0..side_out {
            for ox in 0..side_out {
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        if let (Some(iy), Some(ix)) = (tap(oy, ky), tap(ox, kx)) {
                            let input = (image * side_in + iy) * side_in + ix;
                            visit(input, (image * side_out + oy) * side_out + ox, ky * kernel + kx);
                        }
                    }
                }
            }
        }
    }
}

/// Gradient of the input.
pub fn input<T: Real>(p: &Params, a: InputArgs<'_, T>) {
    let (channels, stored) = (p.channels as usize, p.weight_channels as usize);
    let len = (p.images * p.side_in * p.side_in) as usize * channels;
    match a.residual {
        Some(residual) => a.dx[..len].copy_from_slice(&residual[..len]),
        None => a.dx[..len].fill(T::zero()),
    }
    products(p, |input, output, tap| {
        for c in 0..channels {
            let at = input * channels + c;
            a.dx[at] = a.dx[at] + a.dz[output * channels + c] * a.w[tap * stored + c];
        }
    });
}

/// Gradient of the filter. The scratch slot is not needed here and left alone.
pub fn weights<T: Real>(p: &Params, a: WeightsArgs<'_, T>) {
    let (channels, stored) = (p.channels as usize, p.weight_channels as usize);
    let mut sums = vec![T::zero(); (p.kernel * p.kernel) as usize * channels];
    products(p, |input, output, tap| {
        for c in 0..channels {
            let at = tap * channels + c;
            sums[at] = sums[at] + a.dz[output * channels + c] * a.x[input * channels + c];
        }
    });
    for (at, &sum) in sums.iter().enumerate() {
        let at = at / channels * stored + at % channels;
        a.dw[at] = a.dw[at] + sum;
    }
}
