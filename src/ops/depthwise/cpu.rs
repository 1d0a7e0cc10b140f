//! The fast path: a vector of channels, several output pixels of a row in registers at once.
//!
//! For each row of the filter its taps are loaded once, and each input pixel once, and used for
//! every output that it touches. Taps are added in the order of the definition for each output, so
//! the blocking does not change a result.

#![allow(unsafe_code)]
// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::Threads;
use super::super::parallel::pieces_of;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    let (image_in, image_out) = (side_in * side_in * channels, side_out * side_out * channels);
    let (kernel, stored) = (p.kernel as usize, p.weight_channels as usize);
    // The blocks below read and write without further checks.
    assert!(channels.is_multiple_of(8) && channels <= stored && a.w.len() >= kernel * kernel * stored);
    assert!(side_out == side_in.div_ceil(p.stride as usize), "sides do not fit the stride");
    let (x, w, scale, shift, images) = (a.x, a.w, a.scale, a.shift, p.images as usize);
    let pool = a.pool.map_or(&mut [][..], |pool| &mut pool[..images * channels]);
    let out = [(&mut a.y[..images * image_out], image_out), (pool, channels)];
    pieces_of(threads, out, |image, [y, pool]| {
        let x = &x[image * image_in..][..image_in];
        dispatch(Image { p, x, w, scale, shift, y, pool });
    });
}

struct Image<'a> {
    p: &'a Params,
    x: &'a [f32],
    w: &'a [f32],
    scale: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
    y: &'a mut [f32],
    /// Means of the channels; empty where they are not wanted.
    pool: &'a mut [f32],
}

/// Work with a filter, vector of channels by vector of channels.
pub(in crate::ops) trait Filtering {
    /// The layer, and how many channels are worked on.
    fn layer(&self) -> (&Params, usize);

    /// The vector of channels from `c` on, with a filter of `K` by `K` and a stride of `S`.
    fn vector<V: Vector, const K: usize, const S: usize>(&mut self, c: usize);

    /// All channels.
    #[inline(always)]
    fn channels<V: Vector, const K: usize, const S: usize>(&mut self) {
        each_vector!(V, c in 0..self.layer().1 => self.vector::<V, K, S>(c));
    }
}

impl<F: Filtering> Kernel for F {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let p = self.layer().0;
        match (p.kernel, p.stride) {
            (3, 1) => self.channels::<V, 3, 1>(),
            (5, 1) => self.channels::<V, 5, 1>(),
            (7, 1) => self.channels::<V, 7, 1>(),
            (3, _) => self.channels::<V, 3, 2>(),
            (5, _) => self.channels::<V, 5, 2>(),
            _ => self.channels::<V, 7, 2>(),
        }
    }
}

impl Filtering for Image<'_> {
    #[inline(always)]
    fn layer(&self) -> (&Params, usize) {
        (self.p, self.p.channels as usize)
    }

    /// All pixels of the vector of channels from `c` on.
    #[inline(always)]
    fn vector<V: Vector, const K: usize, const S: usize>(&mut self, c: usize) {
        let side_out = self.p.side_out as usize;
        let mut total = V::splat(0.0);
        for oy in 0..side_out {
            let mut ox = 0;
            while ox + 4 <= side_out {
                self.pixels::<V, K, S, 4>(c, oy, ox, &mut total);
                ox += 4;
            }
            while ox + 2 <= side_out {
                self.pixels::<V, K, S, 2>(c, oy, ox, &mut total);
                ox += 2;
            }
            if ox < side_out {
                self.pixels::<V, K, S, 1>(c, oy, ox, &mut total);
            }
        }
        if !self.pool.is_empty() {
            total.mul(V::splat(1.0 / (side_out * side_out) as f32)).store(&mut self.pool[c..]);
        }
    }
}

impl Image<'_> {
    /// `N` outputs of a row, from `ox` on, which are added to `total`, pixel after pixel.
    #[inline(always)]
    fn pixels<V: Vector, const K: usize, const S: usize, const N: usize>(
        &mut self,
        c: usize,
        oy: usize,
        ox: usize,
        total: &mut V,
    ) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        let (channels, stored) = (self.p.channels as usize, self.p.weight_channels as usize);
        let mut sums = [V::splat(0.0); N];
        // The rows of the filter that fall on the map.
        let top = (K / 2).saturating_sub(oy * S);
        let bottom = K.min(side_in + K / 2 - oy * S);
        for ky in top..bottom {
            let iy = oy * S + ky - K / 2;
            let mut taps = [V::splat(0.0); K];
            for kx in 0..K {
                // SAFETY: `w` holds K * K rows of `stored` channels, and c + LANES <= channels.
                taps[kx] = unsafe { V::load_at(self.w.as_ptr().add((ky * K + kx) * stored + c)) };
            }
            for column in 0..(N - 1) * S + K {
                let ix = (ox * S + column).wrapping_sub(K / 2);
                // A column left of the map has wrapped to a huge number.
                if ix >= side_in {
                    continue;
                }
                // SAFETY: iy and ix are on the map, and c + LANES <= channels.
                let x = unsafe { V::load_at(self.x.as_ptr().add((iy * side_in + ix) * channels + c)) };
                for n in 0..N {
                    if column >= n * S && column - n * S < K {
                        sums[n] = x.mul_add(taps[column - n * S], sums[n]);
                    }
                }
            }
        }
        let scale = V::load_or(self.scale, c, 1.0);
        let shift = V::load_or(self.shift, c, 0.0);
        for n in 0..N {
            let value = sums[n].mul_add(scale, shift).activate(self.p.activation);
            *total = total.add(value);
            value.store(&mut self.y[(oy * side_out + ox + n) * channels + c..]);
        }
    }
}
