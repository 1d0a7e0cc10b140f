//! The fast path: a vector of output channels by four pixels, the 27 inputs broadcast one by one.

// Indices into several register arrays of fixed size at once: these loops unroll as written.
#![allow(clippy::needless_range_loop)]

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (side_in, side_out, cout) = (p.side_in as usize, p.side_out as usize, p.cout as usize);
    let (image_in, image_out) = (side_in * side_in * 3, side_out * side_out * cout);
    let (x, w, scale, shift) = (a.x, a.w, a.scale, a.shift);
    pieces(threads, &mut a.y[..p.images as usize * image_out], image_out, |image, y| {
        dispatch(Image { p, x: &x[image * image_in..][..image_in], w, scale, shift, y });
    });
}

struct Image<'a> {
    p: &'a Params,
    x: &'a [f32],
    w: &'a [f32],
    scale: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Kernel for Image<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let cout = self.p.cout as usize;
        let whole = cout / V::LANES * V::LANES;
        for n in (0..whole).step_by(V::LANES) {
            self.map::<V>(n);
        }
        if whole < cout {
            self.map::<V::Half>(whole);
        }
    }
}

impl Image<'_> {
    /// All pixels of the vector of output channels from `n` on.
    #[inline(always)]
    fn map<V: Vector>(&mut self, n: usize) {
        let side_out = self.p.side_out as usize;
        for oy in 0..side_out {
            let mut ox = 0;
            while ox + 4 <= side_out {
                self.pixels::<V, 4>(n, oy, ox);
                ox += 4;
            }
            while ox < side_out {
                self.pixels::<V, 1>(n, oy, ox);
                ox += 1;
            }
        }
    }

    #[inline(always)]
    fn pixels<V: Vector, const N: usize>(&mut self, n: usize, oy: usize, ox: usize) {
        let (side_in, side_out, cout) =
            (self.p.side_in as usize, self.p.side_out as usize, self.p.cout as usize);
        let mut sums = [V::splat(0.0); N];
        for ky in 0..3 {
            let iy = (2 * oy + ky).wrapping_sub(1);
            // A row above the map has wrapped to a huge number; so has a column left of it.
            if iy >= side_in {
                continue;
            }
            for kx in 0..3 {
                for c in 0..3 {
                    let w = V::load(&self.w[((ky * 3 + kx) * 3 + c) * cout + n..]);
                    for i in 0..N {
                        let ix = (2 * (ox + i) + kx).wrapping_sub(1);
                        if ix < side_in {
                            let x = V::splat(self.x[(iy * side_in + ix) * 3 + c]);
                            sums[i] = x.mul_add(w, sums[i]);
                        }
                    }
                }
            }
        }
        let scale = match self.scale {
            Some(scale) => V::load(&scale[n..]),
            None => V::splat(1.0),
        };
        let shift = match self.shift {
            Some(shift) => V::load(&shift[n..]),
            None => V::splat(0.0),
        };
        for i in 0..N {
            let value = sums[i].mul_add(scale, shift).activate(self.p.activation);
            value.store(&mut self.y[(oy * side_out + ox + i) * cout + n..]);
        }
    }
}
