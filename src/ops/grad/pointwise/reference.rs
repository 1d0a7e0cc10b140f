//! The definitions, written out.

use super::{ScatterArgs, ScatterParams, TransposeArgs, TransposeParams, WeightsArgs};
use crate::launch::panels::panelled_index;
use crate::ops::pointwise::Params;
use crate::ops::{PANEL, Real};

/// Gradient of the weights. The scratch slot is not needed here and left alone.
pub fn weights<T: Real>(p: &Params, a: WeightsArgs<'_, T>) {
    let (cin, cout) = (p.cin as usize, p.cout as usize);
    let mut sums = vec![T::zero(); cout * cin];
    for m in 0..p.rows() {
        let x = &a.x[p.input_row(m) * cin..][..cin];
        let gate = a.gate.map(|gate| &gate[m / p.pixels() * cin..][..cin]);
        for n in 0..cout {
            let dz = a.dz[m * cout + n];
            for k in 0..cin {
                let gate = gate.map_or(T::one(), |gate| gate[k]);
                sums[n * cin + k] = sums[n * cin + k] + dz * x[k] * gate;
            }
        }
    }
    for n in 0..cout {
        for k in 0..cin {
            let at = panelled_index(p.weight_cin as usize, n, k);
            a.dw[at] = a.dw[at] + sums[n * cin + k];
        }
    }
}

/// The transposed matrix.
pub fn transpose<T: Real>(p: &TransposeParams, a: TransposeArgs<'_, T>) {
    let (cout, cin) = (p.cout as usize, p.cin as usize);
    for k in 0..cin.next_multiple_of(PANEL) {
        for n in 0..cout {
            let value = if k < cin { a.w[panelled_index(cin, n, k)] } else { T::zero() };
            a.t[panelled_index(cout, k, n)] = value;
        }
    }
}

/// Pixels put back to their places.
pub fn scatter<T: Real>(p: &ScatterParams, a: ScatterArgs<'_, T>) {
    let [side_in, side_out, channels, stride] =
        [p.side_in, p.side_out, p.channels, p.stride].map(|v| v as usize);
    for image in 0..p.images as usize {
        for iy in 0..side_in {
            for ix in 0..side_in {
                let at = ((image * side_in + iy) * side_in + ix) * channels;
                for c in 0..channels {
                    let on_grid = iy % stride == 0 && ix % stride == 0;
                    let from = ((image * side_out + iy / stride) * side_out + ix / stride) * channels + c;
                    let value = if on_grid { a.x[from] } else { T::zero() };
                    a.y[at + c] = value + a.residual.map_or(T::zero(), |r| r[at + c]);
                }
            }
        }
    }
}
