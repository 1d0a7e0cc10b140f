//! The host path: plain loops over unpacked numbers.
//!
//! Processors have no instructions for these products in every set that is supported, so this is not
//! a fast path; it is there so that a plan in 16-bit numbers runs on every device. Every output is one
//! chain of multiplications and additions over the input channels in order.

use super::super::Threads;
use super::super::halves::{self, PER_ELEMENT, elements};
use super::super::parallel::pieces;
use super::super::real::activate;
use super::{Args, Params};

/// Rows of a piece of work.
const ROWS: usize = 32;

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    a.check(p);
    let (format, shape) = (p.format(), &p.shape);
    let (cin, cout, stored) = (shape.cin as usize, shape.cout as usize, shape.weight_cin as usize);
    // The weights as [cin][cout]: the loop over outputs is the inner one, which vectors can take.
    let mut w = vec![0.0; cin * cout];
    for n in 0..cout {
        let row = &a.w[n * stored / PER_ELEMENT..][..cin / PER_ELEMENT];
        for (k, value) in format.unpack(row).into_iter().enumerate() {
            w[k * cout + n] = value;
        }
    }
    // The outputs of a row before they are rounded.
    let row = |m: usize, sums: &mut [f32]| {
        let mut x = format.unpack(&a.x[shape.input_row(m) * cin / PER_ELEMENT..][..cin / PER_ELEMENT]);
        if let Some(gate) = a.gate {
            let gate = &gate[m / shape.pixels() * cin..][..cin];
            x.iter_mut().zip(gate).for_each(|(x, gate)| *x = format.round(*x * gate));
        }
        sums.fill(0.0);
        for (x, w) in x.iter().zip(w.chunks_exact(cout)) {
            sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += x * w);
        }
        for (n, sum) in sums.iter_mut().enumerate() {
            let scaled = *sum * a.scale.map_or(1.0, |s| s[n]) + a.shift.map_or(0.0, |s| s[n]);
            *sum = activate(shape.activation, scaled);
        }
        if let Some(residual) = a.residual {
            let residual = format.unpack(&residual[m * cout / PER_ELEMENT..][..cout / PER_ELEMENT]);
            sums.iter_mut().zip(residual).for_each(|(sum, residual)| *sum += residual);
        }
    };
    let output = halves::stored(p.output);
    let store = |values: &[f32], y: &mut [f32]| match output {
        Some(format) => {
            for (element, pair) in y.iter_mut().zip(values.chunks_exact(PER_ELEMENT)) {
                *element = format.element(pair[0], pair[1]);
            }
        }
        None => y.copy_from_slice(values),
    };
    let width = elements(output, cout);
    let y = &mut a.y[..p.output_len()];
    if p.pooled == 0 {
        pieces(threads, y, ROWS * width, |index, y| {
            let mut sums = vec![0.0f32; cout];
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                row(index * ROWS + i, &mut sums);
                store(&sums, y);
            }
        });
        return;
    }
    let pixels = shape.pixels();
    pieces(threads, y, width, |image, y| {
        let (mut sums, mut means) = (vec![0.0f32; cout], vec![0.0f32; cout]);
        for m in image * pixels..(image + 1) * pixels {
            row(m, &mut sums);
            means.iter_mut().zip(&sums).for_each(|(mean, &value)| *mean += format.round(value));
        }
        means.iter_mut().for_each(|mean| *mean /= pixels as f32);
        store(&means, y);
    });
}
