//! The fast path: a vector of output channels by the nine taps of a row of the filter in registers,
//! while a strip of an image goes by; inputs are broadcast one by one.

// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::super::Threads;
use super::super::super::parallel::pieces;
use super::super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::{STRIP, WeightsArgs};
use crate::ops::stem::Params;

/// Gradient of the filters.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, threads: Threads) {
    let [images, side_in, side_out, cout] = [p.images, p.side_in, p.side_out, p.cout].map(|v| v as usize);
    let (image_in, image_out) = (side_in * side_in * 3, side_out * side_out * cout);
    let (len, strips) = (27 * cout, side_out.div_ceil(STRIP as usize));
    let (x, dz) = (a.x, a.dz);
    let partials = &mut a.partials[..images * strips * len];
    pieces(threads, partials, len, |index, out| {
        let image = index / strips;
        let (x, dz) = (&x[image * image_in..][..image_in], &dz[image * image_out..][..image_out]);
        let first = index % strips * STRIP as usize;
        dispatch(Strip { p, x, dz, rows: (first, side_out.min(first + STRIP as usize)), out });
    });
    let partials = &*partials;
    pieces(threads, &mut a.dw[..len], cout, |tap, dw| {
        for from in partials.chunks_exact(len) {
            dw.iter_mut().zip(&from[tap * cout..]).for_each(|(dw, from)| *dw += from);
        }
    });
}

/// Some rows of an image.
struct Strip<'a> {
    p: &'a Params,
    x: &'a [f32],
    dz: &'a [f32],
    /// From and to.
    rows: (usize, usize),
    out: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let cout = self.p.cout as usize;
        for ky in 0..3 {
            each_vector!(V, n in 0..cout => self.taps::<V>(ky, n));
        }
    }
}

impl Strip<'_> {
    /// A row of taps for the vector of output channels from `n` on.
    #[inline(always)]
    fn taps<V: Vector>(&mut self, ky: usize, n: usize) {
        let [side_in, side_out, cout] = [self.p.side_in, self.p.side_out, self.p.cout].map(|v| v as usize);
        let mut sums = [V::splat(0.0); 9];
        for oy in self.rows.0..self.rows.1 {
            let iy = (2 * oy + ky).wrapping_sub(1);
            // A row above the map has wrapped to a huge number; so has a column left of it.
            if iy >= side_in {
                continue;
            }
            let x = &self.x[iy * side_in * 3..][..side_in * 3];
            for ox in 0..side_out {
                let dz = V::load(&self.dz[(oy * side_out + ox) * cout + n..]);
                for kx in 0..3 {
                    let ix = (2 * ox + kx).wrapping_sub(1);
                    if ix >= side_in {
                        continue;
                    }
                    let x = &x[3 * ix..3 * ix + 3];
                    for c in 0..3 {
                        sums[3 * kx + c] = V::splat(x[c]).mul_add(dz, sums[3 * kx + c]);
                    }
                }
            }
        }
        for tap in 0..9 {
            sums[tap].store(&mut self.out[(9 * ky + tap) * cout + n..]);
        }
    }
}
