//! The fast paths.
//!
//! The gradient of the weights is a matrix product that adds over rows. A block of
//! [`BLOCK_ROWS`] rows passes in chunks: of each chunk the gradients are packed by panels of 16
//! output channels, the inputs, gated and strided, by tiles of 8 input channels, so that what the
//! inner loop reads lies in order. A register tile is 8 or 16 input channels by up to three panels;
//! it is kept in the product between chunks. Every element is one chain of multiply-adds over the
//! rows of its block, whatever the tile, and blocks are added in order: results depend neither on
//! tiles nor on threads.

#![allow(unsafe_code)]
// Register arrays are walked by index: iterator adapters are closures, which lose the instruction set.
#![allow(clippy::needless_range_loop)]

use super::super::super::parallel::pieces;
use super::super::super::simd::{Kernel, Vector, dispatch};
use super::super::super::{PANEL, Threads};
use super::{BLOCK_ROWS, ScatterArgs, ScatterParams, TransposeArgs, TransposeParams, WeightsArgs};
use crate::launch::panels::panelled_len;
use crate::ops::pointwise::Params;
use std::cell::RefCell;

/// Rows that are packed at a time: three panels of them stay in the first-level cache.
const CHUNK: usize = 128;
/// Input channels of a packed tile.
const TILE: usize = 8;
/// Elements from one packed tile to the next; no multiple of 4 KiB, which would be one cache set.
const TILE_STRIDE: usize = CHUNK * TILE + PANEL;
/// The same of packed panels.
const PANEL_STRIDE: usize = CHUNK * PANEL + PANEL;
/// Pieces of work that a call is cut into at least, where it has panels enough.
const PIECES: usize = 16;

thread_local! {
    /// Packed inputs and gradients of a chunk. They grow to the widest layer once.
    static PACKED: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Gradient of the weights.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, threads: Threads) {
    let (rows, cin, cout, stored) = (p.rows(), p.cin as usize, p.cout as usize, p.weight_cin as usize);
    // What is below reads and writes without further checks.
    assert!(a.x.len() >= p.images as usize * (p.side_in * p.side_in) as usize * cin, "input too short");
    assert!(a.dz.len() >= rows * cout && cin.is_multiple_of(8) && cout.is_multiple_of(8));
    assert!(a.dw.len() >= panelled_len(cout, stored) && cin <= stored, "gradient too short");
    let product = Product { p, x: a.x, dz: a.dz, gate: a.gate };
    let (panels, blocks) = (cout.div_ceil(PANEL), rows.div_ceil(BLOCK_ROWS));
    let group = match threads {
        Threads::One => panels,
        Threads::All => panels.div_ceil((PIECES / blocks).max(1)).next_multiple_of(3).min(panels),
    };
    let dw = &mut a.dw[..panels * stored * PANEL];
    if blocks == 1 {
        return pieces(threads, dw, group * stored * PANEL, |index, out| {
            dispatch(Block { product, rows: (0, rows), panel: index * group, stored, out });
        });
    }
    let block_len = panels * cin * PANEL;
    pieces(threads, &mut a.partials[..blocks * block_len], block_len, |block, out| {
        let rows = (block * BLOCK_ROWS, rows.min((block + 1) * BLOCK_ROWS));
        pieces(threads, out, group * cin * PANEL, |index, out| {
            out.fill(0.0);
            dispatch(Block { product, rows, panel: index * group, stored: cin, out });
        });
    });
    let partials = &*a.partials;
    pieces(threads, dw, stored * PANEL, |panel, dw| {
        let lanes = PANEL.min(cout - panel * PANEL);
        for block in 0..blocks {
            let from = &partials[block * block_len + panel * cin * PANEL..][..cin * PANEL];
            for (dw, from) in dw.chunks_exact_mut(PANEL).zip(from.chunks_exact(PANEL)) {
                dw[..lanes].iter_mut().zip(from).for_each(|(dw, from)| *dw += from);
            }
        }
    });
}

#[derive(Clone, Copy)]
struct Product<'a> {
    p: &'a Params,
    x: &'a [f32],
    dz: &'a [f32],
    gate: Option<&'a [f32]>,
}

/// Some rows and panels of the product, added to `out`.
struct Block<'a> {
    product: Product<'a>,
    /// From and to.
    rows: (usize, usize),
    /// The first panel; `out` says how many.
    panel: usize,
    /// Input channels that a panel of `out` has.
    stored: usize,
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Block { product, rows, panel, stored, out } = self;
        let panels = out.len() / (stored * PANEL);
        let mut packed = PACKED.take();
        let tiles = product.p.cin as usize / TILE;
        packed.0.resize(packed.0.len().max(tiles * TILE_STRIDE), 0.0);
        packed.1.resize(packed.1.len().max(panels * PANEL_STRIDE), 0.0);
        let mut first = rows.0;
        while first < rows.1 {
            let count = CHUNK.min(rows.1 - first);
            product.pack_inputs::<V::Half>(first, count, &mut packed.0);
            product.pack_gradients::<V::Half>(first, count, panel, panels, &mut packed.1);
            let cout = product.p.cout as usize - panel * PANEL;
            let mut chunk = Chunk { x: &packed.0, dz: &packed.1, count, tiles, stored, out: &mut *out };
            chunk.panels::<V>(cout.min(panels * PANEL));
            first += count;
        }
        PACKED.set(packed);
    }
}

impl Product<'_> {
    /// Inputs of `count` rows by tiles of 8 channels.
    #[inline(always)]
    fn pack_inputs<V: Vector>(&self, first: usize, count: usize, to: &mut [f32]) {
        let (cin, pixels) = (self.p.cin as usize, self.p.pixels());
        for row in 0..count {
            let x = &self.x[self.p.input_row(first + row) * cin..][..cin];
            let to = &mut to[row * TILE..];
            match self.gate {
                None => {
                    for tile in 0..cin / TILE {
                        V::load(&x[tile * TILE..]).store(&mut to[tile * TILE_STRIDE..]);
                    }
                }
                Some(gate) => {
                    let gate = &gate[(first + row) / pixels * cin..][..cin];
                    for tile in 0..cin / TILE {
                        let gated = V::load(&x[tile * TILE..]).mul(V::load(&gate[tile * TILE..]));
                        gated.store(&mut to[tile * TILE_STRIDE..]);
                    }
                }
            }
        }
    }

    /// Gradients of `count` rows by panels; half of the last one may be left as it is.
    #[inline(always)]
    fn pack_gradients<V: Vector>(
        &self,
        first: usize,
        count: usize,
        panel: usize,
        panels: usize,
        to: &mut [f32],
    ) {
        let cout = self.p.cout as usize;
        let halves = (2 * panels).min((cout - panel * PANEL) / 8);
        for row in 0..count {
            let dz = &self.dz[(first + row) * cout + panel * PANEL..][..halves * 8];
            let to = &mut to[row * PANEL..];
            for half in 0..halves {
                V::load(&dz[half * 8..]).store(&mut to[half / 2 * PANEL_STRIDE + half % 2 * 8..]);
            }
        }
    }
}

/// Packed rows, and where their product goes.
struct Chunk<'a> {
    x: &'a [f32],
    dz: &'a [f32],
    count: usize,
    tiles: usize,
    stored: usize,
    out: &'a mut [f32],
}

impl Chunk<'_> {
    #[inline(always)]
    fn panels<V: Vector>(&mut self, cout: usize) {
        let whole = cout / PANEL;
        let mut panel = 0;
        while panel < whole {
            let left = whole - panel;
            let step = match (V::LANES == PANEL, left) {
                (true, 1) => 1,
                // Four left are two and two: no thin last tile.
                (true, 2 | 4) => 2,
                (true, _) => 3,
                (false, _) => 1,
            };
            match (V::LANES == PANEL, step) {
                (true, 3) => self.inputs::<V, 8, 3>(panel),
                (true, 2) => self.inputs::<V, 8, 2>(panel),
                (true, _) => self.inputs::<V, 16, 1>(panel),
                (false, _) => self.inputs::<V, 4, 2>(panel),
            }
            panel += step;
        }
        if !cout.is_multiple_of(PANEL) {
            self.inputs::<V::Half, 8, 1>(whole);
        }
    }

    /// All input channels, `K` at a time, by `VECTORS` vectors of output channels.
    #[inline(always)]
    fn inputs<V: Vector, const K: usize, const VECTORS: usize>(&mut self, panel: usize) {
        let cin = self.tiles * TILE;
        let mut k = 0;
        while k + K <= cin {
            self.tile::<V, K, VECTORS>(panel, k);
            k += K;
        }
        if k < cin {
            self.tile::<V, 8, VECTORS>(panel, k);
        }
    }

    #[inline(always)]
    fn tile<V: Vector, const K: usize, const VECTORS: usize>(&mut self, panel: usize, k: usize) {
        let per_panel = PANEL / V::LANES;
        let (mut x, mut dz) = ([std::ptr::null::<f32>(); K], [std::ptr::null::<f32>(); VECTORS]);
        for i in 0..K {
            let at = (k + i) / TILE * TILE_STRIDE + (k + i) % TILE;
            x[i] = self.x[at..][..(self.count - 1) * TILE + 1].as_ptr();
        }
        for j in 0..VECTORS {
            let at = (panel + j / per_panel) * PANEL_STRIDE + j % per_panel * V::LANES;
            dz[j] = self.dz[at..][..(self.count - 1) * PANEL + V::LANES].as_ptr();
        }
        let mut sums = [[V::splat(0.0); VECTORS]; K];
        for i in 0..K {
            for j in 0..VECTORS {
                sums[i][j] = V::load(&self.out[self.place::<V>(panel, k + i, j)..]);
            }
        }
        for row in 0..self.count {
            let mut z = [V::splat(0.0); VECTORS];
            for j in 0..VECTORS {
                // SAFETY: the pointer was taken from a slice that ends with the last row's vector.
                z[j] = unsafe { V::load_at(dz[j].add(row * PANEL)) };
            }
            for i in 0..K {
                // SAFETY: as above, that ends with the last row's element.
                let value = V::splat(unsafe { *x[i].add(row * TILE) });
                for j in 0..VECTORS {
                    sums[i][j] = value.mul_add(z[j], sums[i][j]);
                }
            }
        }
        for i in 0..K {
            for j in 0..VECTORS {
                let at = self.place::<V>(panel, k + i, j);
                sums[i][j].store(&mut self.out[at..]);
            }
        }
    }

    /// Where vector `j` from `panel` on has its products with input channel `k`.
    #[inline(always)]
    fn place<V: Vector>(&self, panel: usize, k: usize, j: usize) -> usize {
        let per_panel = PANEL / V::LANES;
        ((panel + j / per_panel) * self.stored + k) * PANEL + j % per_panel * V::LANES
    }
}

/// The transposed matrix.
pub fn transpose(p: &TransposeParams, a: TransposeArgs<'_, f32>, threads: Threads) {
    let (cout, cin) = (p.cout as usize, p.cin as usize);
    let w = a.w;
    pieces(threads, &mut a.t[..panelled_len(cin, cout)], cout * PANEL, |panel, t| {
        let inputs = PANEL.min(cin - panel * PANEL);
        for (n, t) in t.chunks_exact_mut(PANEL).enumerate() {
            let w = &w[(n / PANEL * cin + panel * PANEL) * PANEL + n % PANEL..];
            t[..inputs].iter_mut().enumerate().for_each(|(k, t)| *t = w[k * PANEL]);
            t[inputs..].fill(0.0);
        }
    });
}

/// Pixels put back to their places.
pub fn scatter(p: &ScatterParams, a: ScatterArgs<'_, f32>, threads: Threads) {
    let [images, side_in, side_out, channels, stride] =
        [p.images, p.side_in, p.side_out, p.channels, p.stride].map(|v| v as usize);
    let row_len = side_in * channels;
    let (x, residual) = (a.x, a.residual);
    pieces(threads, &mut a.y[..images * side_in * row_len], side_in * row_len, |image, y| {
        for (iy, y) in y.chunks_exact_mut(row_len).enumerate() {
            match residual {
                Some(residual) => {
                    y.copy_from_slice(&residual[(image * side_in + iy) * row_len..][..row_len]);
                }
                None => y.fill(0.0),
            }
            if iy.is_multiple_of(stride) {
                let x = &x[(image * side_out + iy / stride) * side_out * channels..];
                for (y, x) in y.chunks_mut(stride * channels).zip(x.chunks_exact(channels)) {
                    y[..channels].iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
        }
    });
}
