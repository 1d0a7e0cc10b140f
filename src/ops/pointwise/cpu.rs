//! The fast path: register tiles over panels of weights, with everything else as the epilogue.
//!
//! A tile is 8 to 16 rows by one to three panels of 16 output channels, all in registers while the
//! input channels go by. Weights come from the panels as they lie; inputs are broadcast from their
//! rows, so nothing is packed, and every output is one chain of multiply-adds over the input channels
//! in order, whatever the tile: results do not depend on the tiling. Rows are taken in strips that
//! stay in the cache while all panels pass over them. A gated input is scaled into a strip buffer
//! first.

#![allow(unsafe_code)]
// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch};
use super::super::{PANEL, Threads};
use super::{Args, Params};
use crate::launch::panels::panelled_len;
use std::cell::RefCell;

/// Rows of a strip: the unit of threading, and what one pass over the panels covers.
pub(in crate::ops) const STRIP: usize = 64;

thread_local! {
    /// Gated rows of a strip. It grows to the widest layer once and is reused from then on.
    static GATED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (rows, cin, cout) = (p.rows(), p.cin as usize, p.cout as usize);
    // The tiles below read and write without further checks.
    assert!(a.x.len() >= p.images as usize * (p.side_in * p.side_in) as usize * cin, "input too short");
    assert!(a.w.len() >= panelled_len(cout, p.weight_cin as usize) && p.cin <= p.weight_cin);
    assert!(cout.is_multiple_of(8) && a.y.len() >= rows * cout, "output too short");
    assert!(a.scale.is_none_or(|s| s.len() >= cout) && a.shift.is_none_or(|s| s.len() >= cout));
    assert!(a.residual.is_none_or(|r| r.len() >= rows * cout), "residual too short");
    let (x, w, scale, shift, gate, residual) = (a.x, a.w, a.scale, a.shift, a.gate, a.residual);
    pieces(threads, &mut a.y[..rows * cout], STRIP * cout, |index, y| {
        let first = index * STRIP;
        let rows = y.len() / cout;
        let mut starts = [0; STRIP];
        starts[..rows]
            .iter_mut()
            .enumerate()
            .for_each(|(row, start)| *start = p.input_row(first + row) * cin);
        let residual = residual.map(|r| &r[first * cout..][..y.len()]);
        let strip = Strip { p, x, w, scale, shift, residual, accumulate: false, starts: &starts[..rows], y };
        match gate {
            None => dispatch(strip),
            Some(gate) => {
                let mut buffer = GATED.take();
                buffer.resize(buffer.len().max(STRIP * cin), 0.0);
                for (row, &start) in starts[..rows].iter().enumerate() {
                    let gate = &gate[(first + row) / p.pixels() * cin..][..cin];
                    let values = x[start..][..cin].iter().zip(gate).map(|(x, gate)| x * gate);
                    buffer[row * cin..][..cin].iter_mut().zip(values).for_each(|(out, value)| *out = value);
                }
                let mut starts = [0; STRIP];
                starts.iter_mut().enumerate().for_each(|(row, start)| *start = row * cin);
                dispatch(Strip { x: &buffer, starts: &starts[..rows], ..strip });
                GATED.set(buffer);
            }
        }
    });
}

/// Some rows of the product.
pub(in crate::ops) struct Strip<'a> {
    pub p: &'a Params,
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub scale: Option<&'a [f32]>,
    pub shift: Option<&'a [f32]>,
    /// The strip's own rows.
    pub residual: Option<&'a [f32]>,
    /// Adds what is in `y`, as a residual.
    pub accumulate: bool,
    /// Where each row starts in `x`.
    pub starts: &'a [usize],
    pub y: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let whole = self.p.cout as usize / PANEL;
        let mut panel = 0;
        while panel < whole {
            // Four left are two and two: no thin last tile.
            let left = whole - panel;
            let step = if left == 1 || V::LANES < PANEL {
                1
            } else if left == 2 || left == 4 {
                2
            } else {
                3
            };
            match (V::LANES == PANEL, step) {
                (true, 3) => self.rows::<V, 8, 3>(panel),
                (true, 2) => self.rows::<V, 12, 2>(panel),
                (true, _) => self.rows::<V, 16, 1>(panel),
                (false, _) => self.rows::<V, 6, 2>(panel),
            }
            panel += step;
        }
        if !(self.p.cout as usize).is_multiple_of(PANEL) {
            self.rows::<V::Half, 12, 1>(panel);
        }
    }
}

impl Strip<'_> {
    /// All rows by `VECTORS` vectors of output channels from `panel` on.
    #[inline(always)]
    fn rows<V: Vector, const MR: usize, const VECTORS: usize>(&mut self, panel: usize) {
        let mut row = 0;
        while row + MR <= self.starts.len() {
            self.tile::<V, MR, VECTORS>(panel, row);
            row += MR;
        }
        while row + 4 <= self.starts.len() {
            self.tile::<V, 4, VECTORS>(panel, row);
            row += 4;
        }
        if row + 2 <= self.starts.len() {
            self.tile::<V, 2, VECTORS>(panel, row);
            row += 2;
        }
        if row < self.starts.len() {
            self.tile::<V, 1, VECTORS>(panel, row);
        }
    }

    #[inline(always)]
    fn tile<V: Vector, const MR: usize, const VECTORS: usize>(&mut self, panel: usize, row: usize) {
        let (cin, cout, stored) = (self.p.cin as usize, self.p.cout as usize, self.p.weight_cin as usize);
        let per_panel = PANEL / V::LANES;
        let weights = &self.w[panel * stored * PANEL..];
        let mut x = [std::ptr::null(); MR];
        for i in 0..MR {
            x[i] = self.x[self.starts[row + i]..][..cin].as_ptr();
        }
        let mut sums = [[V::splat(0.0); VECTORS]; MR];
        for k in 0..cin {
            let mut w = [V::splat(0.0); VECTORS];
            for j in 0..VECTORS {
                let at = (j / per_panel * stored + k) * PANEL + j % per_panel * V::LANES;
                // SAFETY: k < cin <= stored, and the vectors lie in whole panels up to cout, all of
                // which `w` holds (checked in `run`).
                w[j] = unsafe { V::load_at(weights.as_ptr().add(at)) };
            }
            for i in 0..MR {
                // SAFETY: each row was sliced to `cin` elements above.
                let value = V::splat(unsafe { *x[i].add(k) });
                for j in 0..VECTORS {
                    sums[i][j] = value.mul_add(w[j], sums[i][j]);
                }
            }
        }
        for j in 0..VECTORS {
            let n = panel * PANEL + j * V::LANES;
            let scale = V::load_or(self.scale, n, 1.0);
            let shift = V::load_or(self.shift, n, 0.0);
            for i in 0..MR {
                let at = (row + i) * cout + n;
                let mut value = sums[i][j].mul_add(scale, shift).activate(self.p.activation);
                if let Some(residual) = self.residual {
                    value = value.add(V::load(&residual[at..]));
                }
                if self.accumulate {
                    value = value.add(V::load(&self.y[at..]));
                }
                value.store(&mut self.y[at..]);
            }
        }
    }
}
