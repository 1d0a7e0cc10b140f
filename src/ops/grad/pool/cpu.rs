//! The fast paths: an image a piece, vectors of channels.

use super::{GlobalArgs, MaxArgs};
use crate::ops::Threads;
use crate::ops::parallel::pieces;
use crate::ops::pool::Params;
use crate::ops::simd::{Kernel, Vector, dispatch, each_vector};

/// Gradient of the mean.
pub fn global(p: &Params, a: GlobalArgs<'_, f32>, threads: Threads) {
    let (pixels, channels) = ((p.side_in * p.side_in) as usize, p.channels as usize);
    let dy = a.dy;
    pieces(threads, &mut a.dx[..p.images as usize * pixels * channels], pixels * channels, |image, dx| {
        let dy = &dy[image * channels..][..channels];
        let (first, others) = dx.split_at_mut(channels);
        first.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / pixels as f32);
        others.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(first));
    });
}

/// Gradient of the maximum.
pub fn max(p: &Params, a: MaxArgs<'_, f32>, threads: Threads) {
    let map = |side: u32| (side * side * p.channels) as usize;
    let (image_in, image_out) = (map(p.side_in), map(p.side_out));
    let (x, dy, residual) = (a.x, a.dy, a.residual);
    pieces(threads, &mut a.dx[..p.images as usize * image_in], image_in, |image, dx| {
        let x = &x[image * image_in..][..image_in];
        let dy = &dy[image * image_out..][..image_out];
        let residual = residual.map(|r| &r[image * image_in..][..image_in]);
        dispatch(Max { p, x, dy, residual, dx });
    });
}

struct Max<'a> {
    p: &'a Params,
    x: &'a [f32],
    dy: &'a [f32],
    residual: Option<&'a [f32]>,
    dx: &'a mut [f32],
}

impl Kernel for Max<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (channels, side_out) = (self.p.channels as usize, self.p.side_out as usize);
        for oy in 0..side_out {
            for ox in 0..side_out {
                each_vector!(V, c in 0..channels => self.window::<V>((oy, ox), c));
            }
        }
    }
}

impl Max<'_> {
    /// The vector of channels from `c` on of one window.
    #[inline(always)]
    fn window<V: Vector>(&mut self, (oy, ox): (usize, usize), c: usize) {
        let [side_in, side_out, channels] =
            [self.p.side_in, self.p.side_out, self.p.channels].map(|v| v as usize);
        let dy = V::load(&self.dy[(oy * side_out + ox) * channels + c..]);
        let mut places = [0; 4];
        let mut shares = [V::splat(0.0); 4];
        let mut count = 0;
        let mut best = V::splat(f32::NEG_INFINITY);
        for iy in 2 * oy..(2 * oy + 2).min(side_in) {
            for ix in 2 * ox..(2 * ox + 2).min(side_in) {
                places[count] = (iy * side_in + ix) * channels + c;
                let x = V::load(&self.x[places[count]..]);
                if count == 0 {
                    shares[0] = dy;
                    best = x;
                } else {
                    // A larger pixel takes the gradient from the one that had it.
                    for earlier in &mut shares[..count] {
                        *earlier = earlier.sub(earlier.where_beaten(x, best));
                    }
                    shares[count] = dy.where_beaten(x, best);
                    best = best.largest(x);
                }
                count += 1;
            }
        }
        for i in 0..count {
            let place = places[i];
            let share = match self.residual {
                Some(residual) => shares[i].add(V::load(&residual[place..])),
                None => shares[i],
            };
            share.store(&mut self.dx[place..]);
        }
    }
}
