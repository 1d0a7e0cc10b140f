//! The definitions, written out.

use super::{GlobalArgs, MaxArgs};
use crate::ops::Real;
use crate::ops::pool::Params;

/// Gradient of the mean.
pub fn global<T: Real>(p: &Params, a: GlobalArgs<'_, T>) {
    let (pixels, channels) = ((p.side_in * p.side_in) as usize, p.channels as usize);
    for i in 0..p.images as usize * pixels * channels {
        a.dx[i] = a.dy[i / (pixels * channels) * channels + i % channels] / T::of(pixels as f64);
    }
}

/// Gradient of the maximum.
pub fn max<T: Real>(p: &Params, a: MaxArgs<'_, T>) {
    let [side_in, side_out, channels] = [p.side_in, p.side_out, p.channels].map(|v| v as usize);
    let len = p.images as usize * side_in * side_in * channels;
    match a.residual {
        Some(residual) => a.dx[..len].copy_from_slice(&residual[..len]),
        None => a.dx[..len].fill(T::zero()),
    }
    for (window, &dy) in a.dy[..p.images as usize * side_out * side_out * channels].iter().enumerate() {
        let (pixel, c) = (window / channels, window % channels);
        let (image, oy, ox) = (pixel / side_out / side_out, pixel / side_out % side_out, pixel % side_out);
        let mut best: Option<usize> = None;
        for iy in 2 * oy..(2 * oy + 2).min(side_in) {
            for ix in 2 * ox..(2 * ox + 2).min(side_in) {
                let at = ((image * side_in + iy) * side_in + ix) * channels + c;
                // NaN is the largest, as in the forward direction.
                let beats = |x: T, best: T| x > best || (x.is_nan() && !best.is_nan());
                if best.is_none_or(|best| beats(a.x[at], a.x[best])) {
                    best = Some(at);
                }
            }
        }
        let at = best.expect("a window has a pixel");
        a.dx[at] = a.dx[at] + dy;
    }
}
