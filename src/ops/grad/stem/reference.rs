//! The definition, written out.

use super::WeightsArgs;
use crate::ops::Real;
use crate::ops::stem::Params;

/// Gradient of the filters. The scratch slot is not needed here and left alone.
pub fn weights<T: Real>(p: &Params, a: WeightsArgs<'_, T>) {
    let [side_in, side_out, cout] = [p.side_in, p.side_out, p.cout].map(|v| v as usize);
    let tap = |o: usize, k: usize| (2 * o + k).checked_sub(1).filter(|&i| i < side_in);
    for at in 0..27 * cout {
        let (ky, kx, c, n) = (at / cout / 9, at / cout / 3 % 3, at / cout % 3, at % cout);
        let mut sum = T::zero();
        for image in 0..p.images as usize {
            for (oy, iy) in (0..side_out).filter_map(|oy| Some((oy, tap(oy, ky)?))) {
                for (ox, ix) in (0..side_out).filter_map(|ox| Some((ox, tap(ox, kx)?))) {
                    let dz = a.dz[((image * side_out + oy) * side_out + ox) * cout + n];
                    sum = sum + dz * a.x[((image * side_in + iy) * side_in + ix) * 3 + c];
                }
            }
        }
        a.dw[at] = a.dw[at] + sum;
    }
}
