//! The fast path: register tiles over panels of weights, with everything else as the epilogue.
//!
//! A tile is 8 rows (4 without AVX-512) by one to three panels of 16 output channels, all in
//! registers while the input channels go by. Weights come from the panels as they lie; inputs are
//! broadcast from their rows, so nothing is packed, and every output is one chain of multiply-adds
//! over the input channels in order, whatever the tile: results do not depend on the tiling. Rows
//! are taken in strips that stay in the second-level cache while all panels pass over them.
//! A gated input is scaled into a strip buffer first.

#![allow(unsafe_code)]

use super::super::parallel::pieces;
use super::super::simd::{Kernel, Vector, dispatch};
use super::super::{PANEL, Threads};
use super::{Args, Params};
use std::cell::RefCell;

/// Rows of a strip: the unit of threading, and what one pass over the panels covers.
const STRIP: usize = 64;

thread_local! {
    /// Gated rows of a strip. It grows to the widest layer once and is reused from then on.
    static GATED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (cin, cout) = (p.cin as usize, p.cout as usize);
    assert!(a.x.len() >= p.images as usize * (p.side_in * p.side_in) as usize * cin, "input too short");
    assert!(a.w.len() >= super::panelled_len(cout, p.weight_cin as usize) && p.cin <= p.weight_cin);
    let operands =
        Operands { p, x: a.x, w: a.w, scale: a.scale, shift: a.shift, gate: a.gate, residual: a.residual };
    pieces(threads, &mut a.y[..p.rows() * cout], STRIP * cout, |index, y| {
        dispatch(Strip { operands: &operands, first: index * STRIP, y });
    });
}

struct Operands<'a> {
    p: &'a Params,
    x: &'a [f32],
    w: &'a [f32],
    scale: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
    gate: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
}

struct Strip<'a> {
    operands: &'a Operands<'a>,
    first: usize,
    y: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (o, cin, cout) = (self.operands, self.operands.p.cin as usize, self.operands.p.cout as usize);
        let rows = self.y.len() / cout;
        // Where each row of the strip starts in the input, or in the gated copy.
        let mut starts = [0usize; STRIP];
        for (row, start) in starts[..rows].iter_mut().enumerate() {
            *start = o.p.input_row(self.first + row) * cin;
        }
        match o.gate {
            None => panels::<V>(o, o.x, &starts[..rows], self.first, self.y),
            Some(gate) => GATED.with_borrow_mut(|buffer| {
                buffer.resize(buffer.len().max(STRIP * cin), 0.0);
                for (row, start) in starts[..rows].iter_mut().enumerate() {
                    let image = (self.first + row) / o.p.pixels();
                    let (x, gate) = (&o.x[*start..][..cin], &gate[image * cin..][..cin]);
                    let out = &mut buffer[row * cin..][..cin];
                    for c in (0..cin).step_by(8) {
                        for i in c..c + 8 {
                            out[i] = x[i] * gate[i];
                        }
                    }
                    *start = row * cin;
                }
                panels::<V>(o, buffer, &starts[..rows], self.first, self.y);
            }),
        }
    }
}

/// All panels over the rows of a strip.
#[inline(always)]
fn panels<V: Vector>(o: &Operands<'_>, x: &[f32], starts: &[usize], first: usize, y: &mut [f32]) {
    let count = (o.p.cout as usize).div_ceil(PANEL);
    let wide = V::LANES == 16;
    let mut panel = 0;
    while panel < count {
        let tile = Tile { o, x, starts, first, panel };
        let step = match count - panel {
            // Four left are two and two: no thin last tile.
            4 | 2 if wide => 2,
            1 => 1,
            _ if wide => 3,
            _ => 1,
        };
        match (wide, step) {
            (true, 3) => tile.rows::<V, 8, 3, 3>(y),
            (true, 2) => tile.rows::<V, 8, 2, 2>(y),
            (true, _) => tile.rows::<V, 8, 1, 1>(y),
            (false, _) => tile.rows::<V, 4, 1, 2>(y),
        }
        panel += step;
    }
}

struct Tile<'a> {
    o: &'a Operands<'a>,
    x: &'a [f32],
    starts: &'a [usize],
    first: usize,
    panel: usize,
}

impl Tile<'_> {
    /// `MR` rows at a time, then one by one.
    #[inline(always)]
    fn rows<V: Vector, const MR: usize, const PANELS: usize, const VECTORS: usize>(&self, y: &mut [f32]) {
        let mut row = 0;
        while row + MR <= self.starts.len() {
            self.tile::<V, MR, PANELS, VECTORS>(row, y);
            row += MR;
        }
        while row + 2 <= self.starts.len() {
            self.tile::<V, 2, PANELS, VECTORS>(row, y);
            row += 2;
        }
        if row < self.starts.len() {
            self.tile::<V, 1, PANELS, VECTORS>(row, y);
        }
    }

    /// `MR` rows by `PANELS` panels, which are `VECTORS` vectors wide.
    #[inline(always)]
    fn tile<V: Vector, const MR: usize, const PANELS: usize, const VECTORS: usize>(
        &self,
        row: usize,
        y: &mut [f32],
    ) {
        let (cin, cout, stored) =
            (self.o.p.cin as usize, self.o.p.cout as usize, self.o.p.weight_cin as usize);
        let per_panel = PANEL / V::LANES;
        let mut sums = [[V::splat(0.0); VECTORS]; MR];
        let rows: [&[f32]; MR] = std::array::from_fn(|i| &self.x[self.starts[row + i]..][..cin]);
        let weights = &self.o.w[self.panel * stored * PANEL..][..PANELS * stored * PANEL];
        for k in 0..cin {
            let w: [V; VECTORS] = std::array::from_fn(|j| {
                let at = (j / per_panel * stored + k) * PANEL + j % per_panel * V::LANES;
                // SAFETY: k < cin <= stored and j / per_panel < PANELS, so `at + LANES` is at most
                // PANELS * stored * PANEL, the length of `weights`.
                unsafe { V::load_at(weights.as_ptr().add(at)) }
            });
            for i in 0..MR {
                // SAFETY: every row has `cin` elements.
                let x = V::splat(unsafe { *rows[i].get_unchecked(k) });
                for j in 0..VECTORS {
                    sums[i][j] = x.mul_add(w[j], sums[i][j]);
                }
            }
        }
        for j in 0..VECTORS {
            let n = self.panel * PANEL + j * V::LANES;
            if n >= cout {
                break;
            }
            let lanes = V::LANES.min(cout - n);
            let of = |list: Option<&[f32]>, other: f32| match list {
                Some(list) => V::load_first(&list[n..], lanes),
                None => V::splat(other),
            };
            let (scale, shift) = (of(self.o.scale, 1.0), of(self.o.shift, 0.0));
            for i in 0..MR {
                let mut value = sums[i][j].mul_add(scale, shift).activate(self.o.p.activation);
                if let Some(residual) = self.o.residual {
                    let at = (self.first + row + i) * cout + n;
                    value = value.add(V::load_first(&residual[at..], lanes));
                }
                value.store_first(&mut y[(row + i) * cout + n..], lanes);
            }
        }
    }
}
