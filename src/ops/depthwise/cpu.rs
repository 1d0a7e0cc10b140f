//! The fast path: a vector of channels, several output pixels of a row in registers at once.
//!
//! For each row of the filter its taps are loaded once, and each input pixel once, and used for
//! every output that it touches. Taps are added in the order of the definition for each output, so
//! the blocking does not change a result.

use super::super::Threads;
use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch};
use super::{Args, Params};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (side_in, side_out, channels) = (p.side_in as usize, p.side_out as usize, p.channels as usize);
    let (image_in, image_out) = (side_in * side_in * channels, side_out * side_out * channels);
    let (x, w, scale, shift) = (a.x, a.w, a.scale, a.shift);
    pieces(threads, &mut a.y[..p.images as usize * image_out], image_out, |image, y| {
        let x = &x[image * image_in..][..image_in];
        dispatch(Image { p, x, w, scale, shift, y });
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
        match (self.p.kernel, self.p.stride) {
            (3, 1) => self.channels::<V, 3, 1>(),
            (5, 1) => self.channels::<V, 5, 1>(),
            (7, 1) => self.channels::<V, 7, 1>(),
            (3, _) => self.channels::<V, 3, 2>(),
            (5, _) => self.channels::<V, 5, 2>(),
            _ => self.channels::<V, 7, 2>(),
        }
    }
}

impl Image<'_> {
    #[inline(always)]
    fn channels<V: Vector, const K: usize, const S: usize>(&mut self) {
        let (channels, side_out) = (self.p.channels as usize, self.p.side_out as usize);
        for c in (0..channels).step_by(V::LANES) {
            for oy in 0..side_out {
                let mut ox = 0;
                while ox + 4 <= side_out {
                    self.pixels::<V, K, S, 4>(c, oy, ox);
                    ox += 4;
                }
                while ox + 2 <= side_out {
                    self.pixels::<V, K, S, 2>(c, oy, ox);
                    ox += 2;
                }
                if ox < side_out {
                    self.pixels::<V, K, S, 1>(c, oy, ox);
                }
            }
        }
    }

    /// `N` outputs of a row, from `ox` on, for one vector of channels.
    #[inline(always)]
    fn pixels<V: Vector, const K: usize, const S: usize, const N: usize>(
        &mut self,
        c: usize,
        oy: usize,
        ox: usize,
    ) {
        let (side_in, side_out) = (self.p.side_in as usize, self.p.side_out as usize);
        let (channels, stored) = (self.p.channels as usize, self.p.weight_channels as usize);
        let lanes = V::LANES.min(channels - c);
        let mut sums = [V::splat(0.0); N];
        for ky in 0..K {
            let Some(iy) = (oy * S + ky).checked_sub(K / 2).filter(|&i| i < side_in) else { continue };
            let taps: [V; K] =
                std::array::from_fn(|kx| V::load_first(&self.w[(ky * K + kx) * stored + c..], lanes));
            let row = &self.x[iy * side_in * channels..][..side_in * channels];
            for column in 0..(N - 1) * S + K {
                let Some(ix) = (ox * S + column).checked_sub(K / 2).filter(|&i| i < side_in) else {
                    continue;
                };
                let x = V::load_first(&row[ix * channels + c..], lanes);
                for (n, sum) in sums.iter_mut().enumerate() {
                    if column >= n * S && column - n * S < K {
                        *sum = x.mul_add(taps[column - n * S], *sum);
                    }
                }
            }
        }
        let of = |list: Option<&[f32]>, other: f32| match list {
            Some(list) => V::load_first(&list[c..], lanes),
            None => V::splat(other),
        };
        let (scale, shift) = (of(self.scale, 1.0), of(self.shift, 0.0));
        for (n, sum) in sums.into_iter().enumerate() {
            let value = sum.mul_add(scale, shift).activate(self.p.activation);
            value.store_first(&mut self.y[(oy * side_out + ox + n) * channels + c..], lanes);
        }
    }
}
