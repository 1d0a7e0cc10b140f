//! The fast paths: vectors of channels.

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch, each_vector};
use super::super::squeeze_excite::cpu::mean;
use super::{GlobalArgs, MaxArgs, Params};
use std::ops::Range;

/// Mean over the pixels of every image.
pub fn global(p: &Params, a: GlobalArgs<'_, f32>, threads: Threads) {
    let (pixels, channels) = ((p.side_in * p.side_in) as usize, p.channels as usize);
    let x = a.x;
    pieces(threads, &mut a.y[..p.images as usize * channels], channels, |image, y| {
        dispatch(Mean { x: &x[image * pixels * channels..][..pixels * channels], pixels, y });
    });
}

/// 2x2 maximum, stride 2; windows are cut at the border.
pub fn max(p: &Params, a: MaxArgs<'_, f32>, threads: Threads) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    let (image_in, image_out) = (side_in * side_in * channels, side_out * side_out * channels);
    let x = a.x;
    pieces(threads, &mut a.y[..p.images as usize * image_out], image_out, |image, y| {
        dispatch(Max { p, x: &x[image * image_in..][..image_in], lines: 0..side_out, y });
    });
}

/// Lines `lines` of [`max`], counted over all images, into `y`.
pub(in crate::ops) fn max_lines(p: &Params, x: &[f32], lines: Range<usize>, y: &mut [f32]) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    let (image_in, line) = (side_in * side_in * channels, side_out * channels);
    let mut first = lines.start;
    while first < lines.end {
        let image = first / side_out;
        let end = lines.end.min((image + 1) * side_out);
        let y = &mut y[(first - lines.start) * line..(end - lines.start) * line];
        let lines = first - image * side_out..end - image * side_out;
        dispatch(Max { p, x: &x[image * image_in..][..image_in], lines, y });
        first = end;
    }
}

struct Mean<'a> {
    x: &'a [f32],
    pixels: usize,
    y: &'a mut [f32],
}

impl Kernel for Mean<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        mean::<V>(self.x, self.pixels, self.y);
    }
}

struct Max<'a> {
    p: &'a Params,
    x: &'a [f32],
    /// Of the image's output; `y` starts with the first.
    lines: Range<usize>,
    y: &'a mut [f32],
}

impl Kernel for Max<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        each_vector!(V, c in 0..self.p.channels as usize => self.map::<V>(c));
    }
}

impl Max<'_> {
    /// All pixels of the vector of channels from `c` on.
    #[inline(always)]
    fn map<V: Vector>(&mut self, c: usize) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        let channels = self.p.channels as usize;
        for oy in self.lines.clone() {
            for ox in 0..side_out {
                let mut best = V::splat(f32::NEG_INFINITY);
                for iy in 2 * oy..(2 * oy + 2).min(side_in) {
                    for ix in 2 * ox..(2 * ox + 2).min(side_in) {
                        best = best.largest(V::load(&self.x[(iy * side_in + ix) * channels + c..]));
                    }
                }
                best.store(&mut self.y[((oy - self.lines.start) * side_out + ox) * channels + c..]);
            }
        }
    }
}
