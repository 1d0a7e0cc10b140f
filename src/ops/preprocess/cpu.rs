//! The fast path: normalisation as one multiply-add, taps made once a call.
//!
//! A CPU evaluation reads pixels on the host, through [`Transform`](crate::data::Transform); this
//! path is there so that a plan that preprocesses on the device runs on every device.

use super::super::Threads;
use super::super::parallel::pieces;
use super::{Args, Params, Tap, tap};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (side_in, side_out) = (p.side_in as usize, p.side_out as usize);
    let taps: Vec<Tap<f32>> = (0..side_out).map(|x| tap(x, side_in, side_out)).collect();
    let factor: [f32; 3] = std::array::from_fn(|c| 1.0 / (p.scale * p.std[c]));
    let offset: [f32; 3] = std::array::from_fn(|c| -p.mean[c] / p.std[c]);
    let image_out = side_out * side_out * 3;
    let stored: Vec<&[f32]> = (0..p.images as usize).map(|image| a.stored(p, image)).collect();
    pieces(threads, &mut a.y[..p.images as usize * image_out], image_out, |image, y| {
        let stored = stored[image];
        let value = |at: usize| -> [f32; 3] {
            let packed = stored[at] as u32;
            std::array::from_fn(|c| ((packed >> (8 * c)) & 255) as f32 * factor[c] + offset[c])
        };
        for (v, row) in taps.iter().zip(y.chunks_exact_mut(side_out * 3)) {
            for (h, out) in taps.iter().zip(row.chunks_exact_mut(3)) {
                let [a, b] = [v.near, v.far].map(|y| [h.near, h.far].map(|x| value(y * side_in + x))).map(
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
