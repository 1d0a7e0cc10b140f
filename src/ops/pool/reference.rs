//! The definitions, written out.

use super::super::real::{Real, largest};
use super::{GlobalArgs, MaxArgs, Params};

/// Mean over the pixels of every image.
pub fn global<T: Real>(p: &Params, a: GlobalArgs<'_, T>) {
    let (pixels, channels) = ((p.side_in * p.side_in) as usize, p.channels as usize);
    for (x, y) in a.x.chunks_exact(pixels * channels).zip(a.y.chunks_exact_mut(channels)) {
        for (c, y) in y.iter_mut().enumerate() {
            *y = x.iter().skip(c).step_by(channels).copied().sum::<T>() / T::of(pixels as f64);
        }
    }
}

/// 2x2 maximum, stride 2; windows are cut at the border.
pub fn max<T: Real>(p: &Params, a: MaxArgs<'_, T>) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    for image in 0..p.images as usize {
        for oy in 0..side_out {
            for ox in 0..side_out {
                for c in 0..channels {
                    let mut best = T::neg_infinity();
                    for iy in 2 * oy..(2 * oy + 2).min(side_in) {
                        for ix in 2 * ox..(2 * ox + 2).min(side_in) {
                            best = largest(best, a.x[((image * side_in + iy) * side_in + ix) * channels + c]);
                        }
                    }
                    a.y[((image * side_out + oy) * side_out + ox) * channels + c] = best;
                }
            }
        }
    }
}
