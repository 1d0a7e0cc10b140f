//! The fast path: a vector of output channels, the 27 inputs of a pixel broadcast one by one.

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
    fn run<V: Vector>(self) {
        let (side_in, side_out, cout) =
            (self.p.side_in as usize, self.p.side_out as usize, self.p.cout as usize);
        for n in (0..cout).step_by(V::LANES) {
            let lanes = V::LANES.min(cout - n);
            let w: [V; 27] = std::array::from_fn(|t| V::load_first(&self.w[t * cout + n..], lanes));
            let of = |list: Option<&[f32]>, other: f32| match list {
                Some(list) => V::load_first(&list[n..], lanes),
                None => V::splat(other),
            };
            let (scale, shift) = (of(self.scale, 1.0), of(self.shift, 0.0));
            for oy in 0..side_out {
                for ox in 0..side_out {
                    let mut sum = V::splat(0.0);
                    for ky in 0..3 {
                        let Some(iy) = (2 * oy + ky).checked_sub(1).filter(|&i| i < side_in) else {
                            continue;
                        };
                        for kx in 0..3 {
                            let Some(ix) = (2 * ox + kx).checked_sub(1).filter(|&i| i < side_in) else {
                                continue;
                            };
                            let pixel = &self.x[(iy * side_in + ix) * 3..][..3];
                            for (c, &value) in pixel.iter().enumerate() {
                                sum = V::splat(value).mul_add(w[(ky * 3 + kx) * 3 + c], sum);
                            }
                        }
                    }
                    let value = sum.mul_add(scale, shift).activate(self.p.activation);
                    value.store_first(&mut self.y[(oy * side_out + ox) * cout + n..], lanes);
                }
            }
        }
    }
}
