//! The fast path: normalisation as one multiply-add, taps made once an image.
//!
//! A CPU evaluation reads pixels on the host, through [`Transform`](crate::data::Transform); this
//! path is there so that a plan that preprocesses on the device runs on every device.

use super::super::Threads;
use super::super::parallel::pieces;
use super::{Args, Params, View};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let side_out = p.side_out as usize;
    let (factor, offset) = p.affine();
    let image_out = side_out * side_out * 3;
    let views: Vec<View<'_, f32>> = (0..p.images as usize).map(|image| a.view(p, image)).collect();
    pieces(threads, &mut a.y[..p.images as usize * image_out], image_out, |image, y| {
        let view = views[image];
        let value = |y: usize, x: usize| -> [f32; 3] {
            let packed = view.pixel(y, x);
            std::array::from_fn(|c| ((packed >> (8 * c)) & 255) as f32 * factor[c] + offset[c])
        };
        let (rows, columns) = view.taps(side_out);
        for (v, row) in rows.iter().zip(y.chunks_exact_mut(side_out * 3)) {
            for (h, out) in columns.iter().zip(row.chunks_exact_mut(3)) {
                let [a, b] = [v.near, v.far].map(|y| [h.near, h.far].map(|x| value(y, x))).map(
                    |[near, far]| -> [f32; 3] {
                        std::array::from_fn(|c| (1.0 - h.weight) * near[c] + h.weight * far[c])
                    },
                );
                for c in 0..3 {
                    out[c] = (1.0 - v.weight) * a[c] + v.weight * b[c];
                }
            }
        }
    });
}
