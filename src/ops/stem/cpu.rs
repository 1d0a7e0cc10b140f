//! The fast path: a vector of output channels by eight pixels, the 27 inputs of each broadcast one by
//! one. Pixels whose window leaves the map left or right, at most one at each end of a row, run alone,
//! so that nothing is asked of the others.

#![allow(unsafe_code)]
// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
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
        each_vector!(V, n in 0..self.p.cout as usize => self.map::<V>(n));
    }
}

impl Image<'_> {
    /// All pixels of the vector of output channels from `n` on.
    #[inline(always)]
    fn map<V: Vector>(&mut self, n: usize) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        // Pixels from 1 up to here have whole windows: 2 ox + 1 is on the map.
        let inside = (side_in / 2).max(1).min(side_out);
        for oy in 0..side_out {
            self.border::<V>(n, oy, 0);
            let mut ox = 1;
            while ox + 8 <= inside {
                self.inside::<V, 8>(n, oy, ox);
                ox += 8;
            }
            while ox + 2 <= inside {
                self.inside::<V, 2>(n, oy, ox);
                ox += 2;
            }
            if ox < inside {
                self.inside::<V, 1>(n, oy, ox);
                ox += 1;
            }
            if ox < side_out {
                self.border::<V>(n, oy, ox);
            }
        }
    }

    /// The rows of the filter that fall on the map, for an output row.
    #[inline(always)]
    fn rows(&self, oy: usize) -> std::ops::Range<usize> {
        usize::from(oy == 0)..3.min(self.p.side_in as usize + 1 - 2 * oy)
    }

    /// `N` outputs of a row from `ox` on, whose windows do not leave the map left or right.
    #[inline(always)]
    fn inside<V: Vector, const N: usize>(&mut self, n: usize, oy: usize, ox: usize) {
        let (side_in, cout) = (self.p.side_in as usize, self.p.cout as usize);
        let mut sums = [V::splat(0.0); N];
        let rows = self.rows(oy);
        for ky in rows {
            let first = ((2 * oy + ky - 1) * side_in + 2 * ox - 1) * 3;
            // What these windows hold of the row, without gaps.
            let x = self.x[first..][..(2 * N + 1) * 3].as_ptr();
            for tap in 0..9 {
                let w = V::load(&self.w[(ky * 9 + tap) * cout + n..]);
                for i in 0..N {
                    // SAFETY: 6 i + tap is at most 6 (N - 1) + 8, inside of the slice above.
                    let value = V::splat(unsafe { *x.add(6 * i + tap) });
                    sums[i] = value.mul_add(w, sums[i]);
                }
            }
        }
        self.finish(n, oy, ox, sums);
    }

    /// An output at the end of a row.
    #[inline(always)]
    fn border<V: Vector>(&mut self, n: usize, oy: usize, ox: usize) {
        let (side_in, cout) = (self.p.side_in as usize, self.p.cout as usize);
        let mut sum = V::splat(0.0);
        for ky in self.rows(oy) {
            for tap in 0..9 {
                let ix = (2 * ox + tap / 3).wrapping_sub(1);
                // A column left of the map has wrapped to a huge number.
                if ix < side_in {
                    let x = self.x[((2 * oy + ky - 1) * side_in + ix) * 3 + tap % 3];
                    sum = V::splat(x).mul_add(V::load(&self.w[(ky * 9 + tap) * cout + n..]), sum);
                }
            }
        }
        self.finish(n, oy, ox, [sum]);
    }

    #[inline(always)]
    fn finish<V: Vector, const N: usize>(&mut self, n: usize, oy: usize, ox: usize, sums: [V; N]) {
        let (side_out, cout) = (self.p.side_out as usize, self.p.cout as usize);
        let scale = V::load_or(self.scale, n, 1.0);
        let shift = V::load_or(self.shift, n, 0.0);
        for i in 0..N {
            let value = sums[i].mul_add(scale, shift).activate(self.p.activation);
            value.store(&mut self.y[(oy * side_out + ox + i) * cout + n..]);
        }
    }
}
