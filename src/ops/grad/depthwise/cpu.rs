//! The fast paths: a vector of channels, several pixels of a row in registers at once.
//!
//! The input's gradient gathers: for each row of the filter that meets a row of outputs its taps
//! are loaded once, and each output's gradient once for all inputs that it goes to. The filter's
//! gradient keeps some rows of taps in registers while a block of images goes by. The order of
//! additions of an element depends on neither blocking nor threads.

#![allow(unsafe_code)]
// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::super::Threads;
use super::super::super::parallel::pieces;
use super::super::super::simd::{Vector, dispatch};
use super::{CHUNK, InputArgs, WeightsArgs, block_images};
use crate::ops::depthwise::Params;
use crate::ops::depthwise::cpu::Filtering;

/// Elements of an image's input and output.
fn image_lens(p: &Params) -> (usize, usize) {
    let [side_in, side_out, channels] = [p.side_in, p.side_out, p.channels].map(|v| v as usize);
    // What is below reads and writes without further checks.
    assert!(channels.is_multiple_of(8) && channels <= p.weight_channels as usize);
    assert!(side_out == side_in.div_ceil(p.stride as usize), "sides do not fit the stride");
    (side_in * side_in * channels, side_out * side_out * channels)
}

/// Gradient of the input.
pub fn input(p: &Params, a: InputArgs<'_, f32>, threads: Threads) {
    let (image_in, image_out) = image_lens(p);
    assert!(a.w.len() >= (p.kernel * p.kernel * p.weight_channels) as usize, "filter too short");
    let (dz, w, residual) = (a.dz, a.w, a.residual);
    pieces(threads, &mut a.dx[..p.images as usize * image_in], image_in, |image, dx| {
        let dz = &dz[image * image_out..][..image_out];
        let residual = residual.map(|r| &r[image * image_in..][..image_in]);
        dispatch(Input { p, dz, w, residual, dx });
    });
}

/// The input's gradient of an image.
struct Input<'a> {
    p: &'a Params,
    dz: &'a [f32],
    w: &'a [f32],
    residual: Option<&'a [f32]>,
    dx: &'a mut [f32],
}

impl Filtering for Input<'_> {
    #[inline(always)]
    fn layer(&self) -> (&Params, usize) {
        (self.p, self.p.channels as usize)
    }

    /// All pixels of the vector of channels from `c` on.
    #[inline(always)]
    fn vector<V: Vector, const K: usize, const S: usize>(&mut self, c: usize) {
        let side_in = self.p.side_in as usize;
        for iy in 0..side_in {
            let mut ix = 0;
            while ix + 4 <= side_in {
                self.pixels::<V, K, S, 4>(c, iy, ix);
                ix += 4;
            }
            while ix + 2 <= side_in {
                self.pixels::<V, K, S, 2>(c, iy, ix);
                ix += 2;
            }
            if ix < side_in {
                self.pixels::<V, K, S, 1>(c, iy, ix);
            }
        }
    }
}

impl Input<'_> {
    /// `N` inputs of a row, from `ix` on, a multiple of the stride.
    #[inline(always)]
    fn pixels<V: Vector, const K: usize, const S: usize, const N: usize>(
        &mut self,
        c: usize,
        iy: usize,
        ix: usize,
    ) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        let (channels, stored) = (self.p.channels as usize, self.p.weight_channels as usize);
        // Outputs left of `ix / S` that read the first of these inputs.
        let before = K / 2 / S;
        let mut sums = [V::splat(0.0); N];
        for ky in 0..K.min(iy + K / 2 + 1) {
            let reach = iy + K / 2 - ky;
            let oy = reach / S;
            if !reach.is_multiple_of(S) || oy >= side_out {
                continue;
            }
            let mut taps = [V::splat(0.0); K];
            for kx in 0..K {
                // SAFETY: `w` holds K * K rows of `stored` channels, and c + LANES <= channels.
                taps[kx] = unsafe { V::load_at(self.w.as_ptr().add((ky * K + kx) * stored + c)) };
            }
            for column in 0..before + (N - 1 + K / 2) / S + 1 {
                let ox = (ix / S + column).wrapping_sub(before);
                // A column left of the map has wrapped to a huge number.
                if ox >= side_out {
                    continue;
                }
                // SAFETY: oy and ox are on the map, and c + LANES <= channels.
                let dz = unsafe { V::load_at(self.dz.as_ptr().add((oy * side_out + ox) * channels + c)) };
                for n in 0..N {
                    let kx = (n + K / 2 + S * before).wrapping_sub(S * column);
                    if kx < K {
                        sums[n] = dz.mul_add(taps[kx], sums[n]);
                    }
                }
            }
        }
        for n in 0..N {
            let at = (iy * side_in + ix + n) * channels + c;
            let value = match self.residual {
                Some(residual) => sums[n].add(V::load(&residual[at..])),
                None => sums[n],
            };
            value.store(&mut self.dx[at..]);
        }
    }
}

/// Gradient of the filter.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, threads: Threads) {
    let (image_in, image_out) = image_lens(p);
    let (images, channels) = (p.images as usize, p.channels as usize);
    let (x, dz) = (&a.x[..images * image_in], &a.dz[..images * image_out]);
    let (taps, stored) = ((p.kernel * p.kernel) as usize, p.weight_channels as usize);
    let (block, chunks) = (block_images(p), channels.div_ceil(CHUNK));
    let blocks = images.div_ceil(block);
    let partials = &mut a.partials[..blocks * chunks * taps * CHUNK];
    pieces(threads, partials, taps * CHUNK, |index, out| {
        let first = index / chunks * block;
        let images = (first, images.min(first + block));
        dispatch(Filter { p, x, dz, images, channel: index % chunks * CHUNK, out });
    });
    let partials = &*partials;
    pieces(threads, &mut a.dw[..(taps - 1) * stored + channels], stored, |tap, dw| {
        for (chunk, dw) in dw[..channels].chunks_mut(CHUNK).enumerate() {
            for block in 0..blocks {
                let from = &partials[((block * chunks + chunk) * taps + tap) * CHUNK..];
                dw.iter_mut().zip(from).for_each(|(dw, from)| *dw += from);
            }
        }
    });
}

/// The filter's gradient from some images, for some channels.
struct Filter<'a> {
    p: &'a Params,
    x: &'a [f32],
    dz: &'a [f32],
    /// From and to.
    images: (usize, usize),
    /// The first channel.
    channel: usize,
    /// `[kernel, kernel, CHUNK]`
    out: &'a mut [f32],
}

impl Filtering for Filter<'_> {
    #[inline(always)]
    fn layer(&self) -> (&Params, usize) {
        (self.p, CHUNK.min(self.p.channels as usize - self.channel))
    }

    /// All taps of the vector of channels from `c` on: as many rows at a time as make enough
    /// independent sums and fit the registers.
    #[inline(always)]
    fn vector<V: Vector, const K: usize, const S: usize>(&mut self, c: usize) {
        let wide = V::LANES == 16;
        match (K, wide) {
            (3, _) => self.rows::<V, K, S, 3>(c, 0),
            (5, true) => {
                self.rows::<V, K, S, 3>(c, 0);
                self.rows::<V, K, S, 2>(c, 3);
            }
            (5, false) => {
                self.rows::<V, K, S, 2>(c, 0);
                self.rows::<V, K, S, 2>(c, 2);
                self.rows::<V, K, S, 1>(c, 4);
            }
            (_, true) => {
                self.rows::<V, K, S, 3>(c, 0);
                self.rows::<V, K, S, 2>(c, 3);
                self.rows::<V, K, S, 2>(c, 5);
            }
            (_, false) => {
                for ky in 0..K {
                    self.rows::<V, K, S, 1>(c, ky);
                }
            }
        }
    }
}

impl Filter<'_> {
    /// `G` rows of taps, from `ky` on.
    #[inline(always)]
    fn rows<V: Vector, const K: usize, const S: usize, const G: usize>(&mut self, c: usize, ky: usize) {
        let side_out = self.p.side_out as usize;
        let mut sums = [[V::splat(0.0); K]; G];
        for image in self.images.0..self.images.1 {
            for oy in 0..side_out {
                let mut ox = 0;
                while ox + 4 <= side_out {
                    self.pixels::<V, K, S, G, 4>(&mut sums, c, ky, (image, oy, ox));
                    ox += 4;
                }
                while ox < side_out {
                    self.pixels::<V, K, S, G, 1>(&mut sums, c, ky, (image, oy, ox));
                    ox += 1;
                }
            }
        }
        for g in 0..G {
            for kx in 0..K {
                sums[g][kx].store(&mut self.out[((ky + g) * K + kx) * CHUNK + c..]);
            }
        }
    }

    /// What `N` outputs of a row, from `ox` on, add.
    #[inline(always)]
    fn pixels<V: Vector, const K: usize, const S: usize, const G: usize, const N: usize>(
        &self,
        sums: &mut [[V; K]; G],
        c: usize,
        ky: usize,
        (image, oy, ox): (usize, usize, usize),
    ) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        let (channels, c) = (self.p.channels as usize, self.channel + c);
        let mut dz = [V::splat(0.0); N];
        for n in 0..N {
            let at = ((image * side_out + oy) * side_out + ox + n) * channels + c;
            // SAFETY: the pixel is on the map, `dz` holds all images, and c + LANES <= channels.
            dz[n] = unsafe { V::load_at(self.dz.as_ptr().add(at)) };
        }
        for g in 0..G {
            let iy = (oy * S + ky + g).wrapping_sub(K / 2);
            // A row above the map has wrapped to a huge number; so has a column left of it.
            if iy >= side_in {
                continue;
            }
            let row = (image * side_in + iy) * side_in;
            for column in 0..(N - 1) * S + K {
                let ix = (ox * S + column).wrapping_sub(K / 2);
                if ix >= side_in {
                    continue;
                }
                // SAFETY: as above, for `x`.
                let x = unsafe { V::load_at(self.x.as_ptr().add((row + ix) * channels + c)) };
                for n in 0..N {
                    if column >= n * S && column - n * S < K {
                        sums[g][column - n * S] = x.mul_add(dz[n], sums[g][column - n * S]);
                    }
                }
            }
        }
    }
}
