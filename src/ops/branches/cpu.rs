//! The fast path: pieces of the input that stay in the cache while all branches pass over them.
//!
//! A piece is 64 pixels of the output. With a stride it is whole lines of the static branches' map, about
//! as many pixels, and the lines of the input under them, pooled into a small buffer first. The products are the strips
//! of the pointwise operator, so every output is made as it makes it.

use super::super::Threads;
use super::super::batch_norm::{ApplyArgs, ApplyParams, cpu::apply_rows};
use super::super::parallel::{SPLIT, pieces_at};
use super::super::pointwise::cpu::{STRIP, Strip};
use super::super::pool::{self, cpu::max_lines};
use super::super::simd::dispatch;
use super::{Args, BranchArgs, Params};
use crate::launch::panels::panelled_len;
use std::cell::RefCell;

thread_local! {
    /// The pooled pixels of a piece. It grows to the largest once and is reused from then on.
    static POOLED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    let (cin, mid, cout) = (p.cin as usize, p.mid as usize, p.cout as usize);
    // The strips below read and write without further checks.
    assert!(a.x.len() >= p.rows_in() * cin, "input too short");
    let fits = |branch: &Option<BranchArgs<'_, f32>>, outputs: usize| {
        branch.as_ref().is_none_or(|b| {
            b.w.is_none_or(|w| w.len() >= panelled_len(outputs, cin))
                && [b.scale, b.shift].iter().flatten().all(|values| values.len() >= outputs)
        })
    };
    assert!(fits(&a.expand, mid) && fits(&a.pointwise, cout) && fits(&a.transform, cout), "too few weights");
    assert!(mid.is_multiple_of(8) && cout.is_multiple_of(8) && cin.is_multiple_of(8));
    assert!(p.shortcut == 0 || (p.stride == 1 && cin == cout), "a shortcut needs a map of the same shape");

    let (expand, wide) = split(a.expand);
    let (pointwise, own) = split(a.pointwise);
    let (transform, last) = split(a.transform);
    let summed = a.sum.is_some();
    let len = |y: &Option<&mut [f32]>, rows: usize, channels: usize| match y {
        Some(y) => {
            assert!(y.len() >= rows * channels, "output too short");
            channels
        }
        None => 0,
    };
    let last = a.sum.or(last);
    let (rows_in, rows_out) = (p.rows_in(), p.rows_out());
    let channels = [len(&wide, rows_in, mid), len(&own, rows_out, cout), len(&last, rows_out, cout)];
    let cut = Pieces::new(p);
    let at = |piece: usize| {
        let (input, output) = cut.start(piece);
        [input * channels[0], output * channels[1], output * channels[2]]
    };
    let work = Work { p, x: a.x, expand, pointwise, transform, summed };
    let outs = [wide, own, last].map(Option::unwrap_or_default);
    pieces_at(threads, outs, cut.count, &at, &|piece, outs| {
        work.piece(cut.start(piece), cut.start(piece + 1), outs)
    });
}

/// A branch without its output.
#[derive(Clone, Copy)]
struct Weights<'a> {
    w: Option<&'a [f32]>,
    scale: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
}

fn split<'a>(branch: Option<BranchArgs<'a, f32>>) -> (Option<Weights<'a>>, Option<&'a mut [f32]>) {
    match branch {
        Some(BranchArgs { w, scale, shift, y }) => (Some(Weights { w, scale, shift }), y),
        None => (None, None),
    }
}

/// How the pixels are cut into pieces, by the shape alone.
struct Pieces<'a> {
    p: &'a Params,
    count: usize,
    /// Pixels of a piece at stride 1, else lines of the output.
    size: usize,
}

impl Pieces<'_> {
    fn new(p: &Params) -> Pieces<'_> {
        let (items, size) = match p.stride {
            1 => (p.rows_in(), STRIP),
            _ => {
                let lines = (p.images * p.side_out) as usize;
                (lines, (STRIP / p.side_out as usize).max(1))
            }
        };
        Pieces { p, count: items.div_ceil(size), size }
    }

    /// The first input pixel and the first output pixel of a piece.
    fn start(&self, piece: usize) -> (usize, usize) {
        let p = self.p;
        if p.stride == 1 {
            let row = (piece * self.size).min(p.rows_in());
            return (row, row);
        }
        let (side_in, side_out) = (p.side_in as usize, p.side_out as usize);
        let line = (piece * self.size).min(p.images as usize * side_out);
        ((line / side_out * side_in + line % side_out * 2) * side_in, line * side_out)
    }
}

/// Everything but the outputs.
struct Work<'a> {
    p: &'a Params,
    x: &'a [f32],
    expand: Option<Weights<'a>>,
    pointwise: Option<Weights<'a>>,
    transform: Option<Weights<'a>>,
    summed: bool,
}

impl Work<'_> {
    /// Input pixels and output pixels from `from` to `to`.
    fn piece(&self, from: (usize, usize), to: (usize, usize), [wide, own, last]: [&mut [f32]; SPLIT]) {
        let (p, cin, cout) = (self.p, self.p.cin as usize, self.p.cout as usize);
        if let Some(branch) = self.expand {
            let starts = |row: usize| (from.0 + row) * cin;
            self.product(branch, p.mid, (self.x, to.0 - from.0), starts, None, false, wide);
        }
        let x = &self.x[from.0 * cin..to.0 * cin];
        let rows = to.1 - from.1;
        let mut shortcut = (p.shortcut == 1).then_some(x);
        let mut accumulate = false;
        if let Some(branch) = self.pointwise {
            let params = p.pointwise((p.side_in, p.side_out), p.cout, p.stride);
            let starts = |row: usize| params.input_row(from.1 + row) * cin;
            let y = if self.summed { &mut last[..] } else { own };
            self.product(branch, p.cout, (self.x, rows), starts, shortcut.take(), false, y);
            accumulate = self.summed;
        }
        let Some(branch) = self.transform else { return };
        let mut pooled = POOLED.take();
        let x = match p.stride {
            1 => x,
            _ => {
                pooled.resize(pooled.len().max(rows * cin), 0.0);
                let Params { images, side_in, side_out, cin: channels, .. } = *p;
                let params = pool::Params { images, side_in, side_out, channels, format: 0 };
                let side_out = side_out as usize;
                max_lines(&params, self.x, from.1 / side_out..to.1 / side_out, &mut pooled[..rows * cin]);
                &pooled[..rows * cin]
            }
        };
        match (branch.w, branch.scale, branch.shift) {
            (Some(_), ..) => {
                self.product(branch, p.cout, (x, rows), |row| row * cin, shortcut, accumulate, last);
            }
            (None, Some(scale), Some(shift)) => {
                let params = ApplyParams {
                    rows: rows as u32,
                    batch_rows: rows as u32,
                    channels: cout as u32,
                    activation: p.activation,
                    format: 0,
                };
                let args =
                    ApplyArgs { x: Some(x), scale: &scale[..cout], shift, residual: shortcut, y: last };
                apply_rows(&params, args, accumulate);
            }
            _ => last.copy_from_slice(x),
        }
        POOLED.set(pooled);
    }

    /// `rows` rows of a branch's product; row `r` of `x` starts at `starts(r)`.
    #[allow(clippy::too_many_arguments)]
    fn product(
        &self,
        branch: Weights<'_>,
        cout: u32,
        (x, rows): (&[f32], usize),
        starts: impl Fn(usize) -> usize,
        residual: Option<&[f32]>,
        accumulate: bool,
        y: &mut [f32],
    ) {
        let Some(w) = branch.w else { return };
        let params = self.p.pointwise((1, 1), cout, 1);
        let cout = cout as usize;
        for first in (0..rows).step_by(STRIP) {
            let count = STRIP.min(rows - first);
            let mut places = [0; STRIP];
            places[..count].iter_mut().enumerate().for_each(|(row, place)| *place = starts(first + row));
            dispatch(Strip {
                p: &params,
                x,
                w,
                scale: branch.scale,
                shift: branch.shift,
                residual: residual.map(|residual| &residual[first * cout..][..count * cout]),
                accumulate,
                starts: &places[..count],
                y: &mut y[first * cout..][..count * cout],
            });
        }
    }
}
