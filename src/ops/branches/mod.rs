//! The parallel branches of a layer, from one pass over their common input (OFAv2).
//!
//! ```text
//! wide[m, n]      = f(expand, sum_k x[m, k] * expand.w[n, k])
//! pointwise[m, n] = f(pointwise, sum_k x[row(m), k] * pointwise.w[n, k])
//! transform[m, n] = f(transform, sum_k pooled[m, k] * transform.w[n, k])      or pooled[m, n] without weights
//! pooled[m, k]    = the maximum of the up to four pixels of x at twice m's place; x itself at stride 1
//! f(branch, v)    = activation(branch.scale[n] * v + branch.shift[n])
//! sum[m, n]       = transform[m, n] + (pointwise[m, n] + x[m, n])             x only with a shortcut
//! ```
//!
//! `wide` is the map that the MBConv's expansion makes, and `sum` what its projection adds: the
//! branches beside it, and its own shortcut. Any of the three branches may be missing. In inference
//! the two static branches meet in `sum`; where their raw outputs are needed, for their statistics,
//! each has a place of its own and there is no `sum`.
//!
//! The separate calls read `x` once a branch, and the sum of each branch with the ones before it
//! twice. Here a tile of `x` stays in the cache, or in shared memory, while the weights of all
//! branches pass over it. Every output is the same chain of operations as in
//! [`Branches::separate`], so the results are equal to the bit.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::batch_norm::{ApplyParams, BnApply};
use super::operator::{Cost, Operands, operand_set, operator, params};
use super::pointwise::{self, Pointwise};
use super::pool::{self, MaxPool};
use super::{Call, Slot, Work};

/// The most input channels that a tile of the GPU's shared memory holds.
pub const MAX_CIN: usize = 256;

params! {
    /// Shape of a call, shared with the kernels.
    #[derive(Eq)]
    Params = "BranchesParams" {
        /// Images.
        images: u32,
        /// Side of the input map, in pixels.
        side_in: u32,
        /// Side of the static branches' map: `ceil(side_in / stride)`.
        side_out: u32,
        /// Input channels, of the stored panels too; at most [`MAX_CIN`].
        cin: u32,
        /// Channels of the expanded map.
        mid: u32,
        /// Channels of the static branches.
        cout: u32,
        /// Stride of the static branches: 1 or 2.
        stride: u32,
        /// An [`Activation`](super::Activation), of every branch.
        activation: u32,
        /// 1 where `x` is added to the sum; needs stride 1 and as many outputs as inputs.
        shortcut: u32,
    }
}

impl Params {
    /// Pixels of the input.
    pub fn rows_in(&self) -> usize {
        self.images as usize * (self.side_in * self.side_in) as usize
    }

    /// Pixels of the static branches' outputs.
    pub fn rows_out(&self) -> usize {
        self.images as usize * (self.side_out * self.side_out) as usize
    }

    /// The 1x1 convolution of a branch, with `stride`.
    fn pointwise(&self, (side_in, side_out): (u32, u32), cout: u32, stride: u32) -> pointwise::Params {
        pointwise::Params {
            images: self.images,
            side_in,
            side_out,
            cin: self.cin,
            cout,
            weight_cin: self.cin,
            stride,
            activation: self.activation,
        }
    }
}

operand_set! {
    /// One branch.
    Branch => host BranchArgs, gpu BranchAddresses = "BranchArgs" {
        /// Panels `[ceil(outputs / 16)][cin][16]`; a transform branch may have none.
        optional w,
        /// `[outputs]`
        optional scale,
        /// `[outputs]`
        optional shift,
        /// Its own output, where it does not go to the sum.
        optional_write y,
    }
}

operator! {
    /// A call for the branches of a layer.
    Branches(Params) as run => host Args, gpu Addresses = "BranchesArgs" {
        /// Input map `[images, side_in, side_in, cin]`.
        read x,
        /// The MBConv's expansion, to a map `[images, side_in, side_in, mid]` of its own.
        set(Branch => BranchArgs, BranchAddresses) expand,
        /// The 1x1 branch.
        set(Branch => BranchArgs, BranchAddresses) pointwise,
        /// The transform branch.
        set(Branch => BranchArgs, BranchAddresses) transform,
        /// `[images, side_out, side_out, cout]`
        optional_write sum,
    } with {
        parts: u32,
    }
}

impl Branches {
    /// Elements of scratch that [`Branches::separate`] needs.
    pub fn scratch_len(&self) -> usize {
        self.params.rows_out() * (self.params.cin + self.params.cout) as usize
    }

    /// The same as calls of one branch each, in `scratch` of [`Branches::scratch_len`] elements: what
    /// this call is checked and measured against. Raw and without weights, a transform branch needs a
    /// stride: without one its output is the input, and no operator copies.
    pub fn separate(&self, scratch: Slot) -> Vec<Call> {
        let p = &self.params;
        let pooled = scratch.part(0, p.rows_out() * p.cin as usize);
        let partial = scratch.part(pooled.len, p.rows_out() * p.cout as usize);
        let mut calls = Vec::new();
        let product = |params, x, branch: &Branch, w, residual, y| {
            let Branch { scale, shift, .. } = *branch;
            Call::from(Pointwise { params, x, w, scale, shift, gate: None, residual, y })
        };
        if let Some(Branch { w: Some(w), y: Some(y), .. }) = self.expand {
            let params = p.pointwise((p.side_in, p.side_in), p.mid, 1);
            calls.extend(self.expand.map(|branch| product(params, self.x, &branch, w, None, y)));
        }
        let mut residual = (p.shortcut == 1).then_some(self.x);
        if let Some(branch @ Branch { w: Some(w), .. }) = self.pointwise {
            // The sum of both branches is made from the one's own output.
            let place = if self.transform.is_some() { Some(partial) } else { self.sum };
            if let Some(y) = branch.y.or(place) {
                let params = p.pointwise((p.side_in, p.side_out), p.cout, p.stride);
                calls.push(product(params, self.x, &branch, w, residual, y));
                residual = branch.y.is_none().then_some(y);
            }
        }
        let Some((branch, y)) = self.transform.and_then(|b| Some((b, b.y.or(self.sum)?))) else {
            return calls;
        };
        // Raw and without weights, the pooled map is the output.
        let raw_copy = branch.w.is_none() && branch.scale.is_none();
        let from = match p.stride {
            1 => self.x,
            _ if raw_copy => y,
            _ => pooled,
        };
        if p.stride > 1 {
            let Params { images, side_in, side_out, cin: channels, .. } = *p;
            let params = pool::Params { images, side_in, side_out, channels, format: 0 };
            calls.push(Call::from(MaxPool { params, x: self.x, y: from }));
        }
        match (branch.w, branch.scale, branch.shift) {
            (Some(w), ..) => {
                let params = p.pointwise((p.side_out, p.side_out), p.cout, 1);
                calls.push(product(params, from, &branch, w, residual, y));
            }
            (None, Some(scale), Some(shift)) => {
                let params = ApplyParams {
                    rows: p.rows_out() as u32,
                    batch_rows: p.rows_out() as u32,
                    channels: p.cout,
                    activation: p.activation,
                    format: 0,
                };
                calls.push(Call::from(BnApply { params, x: from, scale, shift, residual, y }));
            }
            _ => {}
        }
        calls
    }
}

impl Cost for Branches {
    fn work(&self) -> Work {
        let p = &self.params;
        let (cin, mid, cout) = (u64::from(p.cin), u64::from(p.mid), u64::from(p.cout));
        let (inputs, outputs) = (p.rows_in() as u64, p.rows_out() as u64);
        let product = |branch: &Option<Branch>, rows: u64, cout: u64| match branch.and_then(|b| b.w) {
            Some(_) => Work { bytes: 4 * cin * cout, flops: 2 * rows * cin * cout },
            None => Work::default(),
        };
        let products = [
            product(&self.expand, inputs, mid),
            product(&self.pointwise, outputs, cout),
            product(&self.transform, outputs, cout),
        ];
        let pooling = if self.transform.is_some() && p.stride > 1 { inputs * cin } else { 0 };
        let written: u64 = self.writes().iter().map(|slot| slot.len as u64).sum();
        Work {
            bytes: 4 * (inputs * cin + written) + products.iter().map(|work| work.bytes).sum::<u64>(),
            flops: pooling + products.iter().map(|work| work.flops).sum::<u64>(),
        }
    }
}
