//! The backward pass of a recorded forward pass.
//!
//! Nodes are taken from the end. A map's gradient is complete when its node is reached, since all
//! that read the map came later. Operators that produce a gradient take what has already arrived at
//! that map as a residual, so sums of gradients cost no pass of their own; where two maps share a
//! gradient (a sum passes it on as it is), its place is counted and given back with the last of them.
//!
//! The gradient of a map is stored as the map is, those of weights and of all per-channel numbers in f32.

use super::slots::gradient;
use super::tape::{Convolution, Gate, Map, Node, Norm, Tape};
use crate::engine::plan::BN_EPSILON;
use crate::ops::grad::activation::{ActivateGrad, ColumnSum, ColumnsParams};
use crate::ops::grad::batch_norm::{self, BnGradInput, BnGradSums};
use crate::ops::grad::depthwise::{DepthwiseInput, DepthwiseWeights};
use crate::ops::grad::pointwise::{PointwiseWeights, Scatter, ScatterParams};
use crate::ops::grad::pointwise_half::{self as half_gradient, PointwiseHalfWeights};
use crate::ops::grad::pool::{GlobalPoolGrad, MaxPoolGrad};
use crate::ops::grad::squeeze_excite::SqueezeExciteGrad;
use crate::ops::grad::stem::StemWeights;
use crate::ops::halves::{Format, elements, number};
use crate::ops::pointwise::{self, Pointwise};
use crate::ops::pointwise_half::{self, PointwiseHalf};
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Slot};
use crate::supernet::Panels;
use std::collections::{BTreeMap, BTreeSet};

/// Lowers the backward pass of a tape.
pub(super) struct Backward<'a, 't> {
    tape: &'t mut Tape<'a>,
    calls: Vec<Call>,
    /// The gradient of the map at an offset, so far.
    gradients: BTreeMap<usize, Slot>,
    /// How many maps share the gradient at an offset.
    shared: BTreeMap<usize, usize>,
    /// Places of the packed super-network whose gradient was added to.
    touched: BTreeSet<usize>,
}

impl<'a, 't> Backward<'a, 't> {
    /// The calls, and the offsets of the tensors that they add gradients to. The gradients of the
    /// logits are at `dlogits`, in the order of the exits read.
    pub(super) fn lower(tape: &'t mut Tape<'a>, dlogits: &[Slot]) -> (Vec<Call>, BTreeSet<usize>) {
        let mut pass = Backward {
            gradients: BTreeMap::new(),
            shared: BTreeMap::new(),
            touched: BTreeSet::new(),
            calls: Vec::new(),
            tape,
        };
        let logits = pass.tape.logits.clone();
        for (map, &slot) in logits.iter().zip(dlogits) {
            pass.arrive(*map, slot);
        }
        let nodes = std::mem::take(&mut pass.tape.nodes);
        nodes.iter().rev().for_each(|node| pass.node(node));
        (pass.calls, pass.touched)
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Normalised { convolution, x, z, norm, activation, residual, y } => {
                let dy = self.depart(*y);
                residual.iter().for_each(|map| self.arrive(*map, dy));
                self.normalised(convolution, *x, *z, norm, *activation, dy);
                self.release(dy);
            }
            Node::Linear { panels, params, bias, x, y } => {
                let dy = self.depart(*y);
                if let Some(bias) = bias {
                    self.bias(*bias, dy, params.rows(), x.format);
                }
                self.pointwise_weights(panels, params, *x, None, dy);
                self.pointwise_input(panels, params, *x, dy);
                self.release(dy);
            }
            Node::Activated { params, mask, x, y } => {
                let dy = self.depart(*y);
                let dx = self.tape.arena.take(x.slot.len);
                self.calls.push(Call::from(ActivateGrad { params: *params, x: x.slot, dy, mask: *mask, dx }));
                self.arrive(*x, dx);
                self.release(dx);
                self.release(dy);
            }
            Node::GlobalPool { params, x, y } => {
                let dy = self.depart(*y);
                let dx = self.tape.arena.take(x.slot.len);
                self.calls.push(Call::from(GlobalPoolGrad { params: *params, dy, dx }));
                self.arrive(*x, dx);
                self.release(dx);
                self.release(dy);
            }
            Node::MaxPool { params, x, y } => {
                let dy = self.depart(*y);
                self.produce(*x, |residual, dx| {
                    Call::from(MaxPoolGrad { params: *params, x: x.slot, dy, residual, dx })
                });
                self.release(dy);
            }
            Node::Sum { terms, y } => {
                let dy = self.depart(*y);
                terms.iter().for_each(|map| self.arrive(*map, dy));
                self.release(dy);
            }
        }
    }

    fn normalised(
        &mut self,
        convolution: &Convolution,
        x: Map,
        z: Map,
        norm: &Norm,
        activation: Activation,
        dy: Slot,
    ) {
        let sums = self.sums(z, norm, activation, dy);
        if matches!(convolution, Convolution::None) {
            self.produce(x, |residual, dz| bn_input(z, norm, activation, (dy, sums), residual, dz));
            return self.free(sums);
        }
        let dz = self.tape.arena.take(z.slot.len);
        self.calls.push(bn_input(z, norm, activation, (dy, sums), None, dz));
        self.free(sums);
        match *convolution {
            Convolution::Stem { weights, params } => {
                let partials = self.tape.arena.take(StemWeights::partials_len(&params));
                let dw = self.touch(weights);
                self.calls.push(Call::from(StemWeights { params, x: x.slot, dz, partials, dw }));
                self.free(partials);
            }
            Convolution::Depthwise { weights, params } => {
                let partials = self.tape.arena.take(DepthwiseWeights::partials_len(&params));
                let dw = self.touch(weights);
                self.calls.push(Call::from(DepthwiseWeights { params, x: x.slot, dz, partials, dw }));
                self.free(partials);
                self.produce(x, |residual, dx| {
                    Call::from(DepthwiseInput { params, dz, w: weights, residual, dx })
                });
            }
            Convolution::Pointwise { panels, params, bias, gate } => {
                if let Some(bias) = bias {
                    self.bias(bias, dz, params.rows(), x.format);
                }
                self.pointwise_weights(&panels, &params, x, gate.map(|gate| gate.slot), dz);
                match gate {
                    None => self.pointwise_input(&panels, &params, x, dz),
                    Some(gate) => self.gated_input(&panels, &params, x, &gate, dz),
                }
            }
            Convolution::None => {}
        }
        self.free(dz);
    }

    /// The sums of a batch norm's gradient, which also add to the gradients of its weight and bias.
    fn sums(&mut self, z: Map, norm: &Norm, activation: Activation, dy: Slot) -> Slot {
        let partials = self.tape.arena.take(BnGradSums::partials_len(norm.rows, norm.channels));
        let sums = self.tape.arena.take(2 * norm.channels);
        let (dgamma, dbeta) = (
            self.touch(Slot::weights(norm.bn.gamma, norm.channels)),
            self.touch(Slot::weights(norm.bn.beta, norm.channels)),
        );
        self.calls.push(Call::from(BnGradSums {
            params: bn_params(norm, activation, z.format),
            z: z.slot,
            dy,
            batch: norm.batch,
            scale: norm.scale,
            shift: norm.shift,
            partials,
            sums,
            dgamma,
            dbeta,
        }));
        self.free(partials);
        sums
    }

    fn bias(&mut self, bias: Slot, dz: Slot, rows: usize, format: Option<Format>) {
        let partials = self.tape.arena.take(ColumnSum::partials_len(rows, bias.len));
        let y = self.touch(bias);
        let (columns, format) = (bias.len as u32, number(format));
        let params = ColumnsParams { rows: rows as u32, columns, format };
        self.calls.push(Call::from(ColumnSum { params, x: dz, partials, y }));
        self.free(partials);
    }

    fn pointwise_weights(
        &mut self,
        panels: &Panels,
        shape: &pointwise::Params,
        x: Map,
        gate: Option<Slot>,
        dz: Slot,
    ) {
        let partials = self.tape.arena.take(PointwiseWeights::partials_len(shape));
        let dw = self.touch(panels.prefix(shape.cout as usize));
        let (params, x, format) = (*shape, x.slot, x.format);
        self.calls.push(match format {
            None => Call::from(PointwiseWeights { params, x, dz, gate, partials, dw }),
            Some(format) => {
                let params = half_gradient::Params { shape: params, format: format as u32 };
                Call::from(PointwiseHalfWeights { params, x, dz, gate, partials, dw })
            }
        });
        self.free(partials);
    }

    /// The product of `dz` and the transposed weights, at the resolution of `dz`.
    fn transposed(
        &self,
        panels: &Panels,
        params: &pointwise::Params,
        (dz, format): (Slot, Option<Format>),
        residual: Option<Slot>,
        y: Slot,
    ) -> Call {
        let (places, cin) = (self.tape.places, params.cin as usize);
        let shape = |stored: usize| pointwise::Params {
            side_in: params.side_out,
            cin: params.cout,
            cout: params.cin,
            weight_cin: stored as u32,
            stride: 1,
            activation: Activation::None as u32,
            ..*params
        };
        let (x, scale, shift, gate) = (dz, None, None, None);
        match format {
            None => {
                let (w, stored) = places.transposed(panels, cin);
                Call::from(Pointwise { params: shape(stored), x, w, scale, shift, gate, residual, y })
            }
            Some(format) => {
                let (w, stored) = places.transposed_rows(panels, cin);
                let params = pointwise_half::Params {
                    output: format as u32,
                    pooled: 0,
                    format: format as u32,
                    shape: shape(stored),
                };
                Call::from(PointwiseHalf { params, x, w, scale, shift, gate, residual, y })
            }
        }
    }

    fn pointwise_input(&mut self, panels: &Panels, params: &pointwise::Params, x: Map, dz: Slot) {
        let dz = (dz, x.format);
        if params.stride == 1 {
            return self
                .produce_with(x, |pass, residual, dx| pass.transposed(panels, params, dz, residual, dx));
        }
        let small = self.tape.arena.take(elements(x.format, params.rows() * params.cin as usize));
        let call = self.transposed(panels, params, dz, None, small);
        self.calls.push(call);
        let scatter = ScatterParams {
            images: params.images,
            side_in: params.side_in,
            side_out: params.side_out,
            channels: params.cin,
            stride: params.stride,
            format: number(x.format),
        };
        self.produce(x, |residual, y| Call::from(Scatter { params: scatter, x: small, residual, y }));
        self.free(small);
    }

    /// Through the squeeze-and-excitation gate of the input, which nothing else reads.
    fn gated_input(&mut self, panels: &Panels, params: &pointwise::Params, x: Map, gate: &Gate, dz: Slot) {
        let dxg = self.tape.arena.take(x.slot.len);
        let call = self.transposed(panels, params, (dz, x.format), None, dxg);
        self.calls.push(call);
        let scratch = self.tape.arena.take(SqueezeExciteGrad::scratch_len(&gate.params));
        let dx = self.tape.arena.take(x.slot.len);
        let (squeeze, hidden) = (gate.squeeze, gate.params.hidden as usize);
        let reduce = squeeze.reduce.prefix(hidden);
        let expand = squeeze.expand.prefix(x.channels);
        let reduce_bias = Slot::weights(squeeze.reduce_bias, hidden);
        let expand_bias = Slot::weights(squeeze.expand_bias, x.channels);
        let call = SqueezeExciteGrad {
            params: gate.params,
            x: x.slot,
            gate: gate.slot,
            dxg,
            reduce,
            reduce_bias,
            expand,
            expand_bias,
            scratch,
            dx,
            dreduce: self.touch(reduce),
            dreduce_bias: self.touch(reduce_bias),
            dexpand: self.touch(expand),
            dexpand_bias: self.touch(expand_bias),
        };
        self.calls.push(Call::from(call));
        self.free(scratch);
        self.free(dxg);
        self.arrive(x, dx);
        self.release(dx);
    }

    /// The gradient of what lies at `weights`, noted as used.
    fn touch(&mut self, weights: Slot) -> Slot {
        self.touched.insert(weights.offset);
        gradient(weights)
    }

    /// Adds a gradient to what has arrived at a map. The map shares the place.
    fn arrive(&mut self, map: Map, slot: Slot) {
        match self.gradients.get(&map.slot.offset).copied() {
            None => {
                *self.shared.entry(slot.offset).or_insert(1) += 1;
                self.gradients.insert(map.slot.offset, slot);
            }
            Some(before) => {
                let y = self.tape.arena.take(map.slot.len);
                let (len, format) = (map.numbers() as u32, number(map.format));
                let params = sum::Params { len, terms: 2, format };
                self.calls.push(Call::from(Sum { params, x: vec![before, slot], y }));
                self.gradients.insert(map.slot.offset, y);
                self.release(before);
            }
        }
    }

    /// The complete gradient of a map, to be released.
    fn depart(&mut self, map: Map) -> Slot {
        self.gradients.remove(&map.slot.offset).expect("everything recorded leads to a loss")
    }

    /// A call that writes a map's gradient, given what has arrived so far.
    fn produce(&mut self, map: Map, call: impl FnOnce(Option<Slot>, Slot) -> Call) {
        self.produce_with(map, |_, residual, out| call(residual, out));
    }

    fn produce_with(&mut self, map: Map, call: impl FnOnce(&Self, Option<Slot>, Slot) -> Call) {
        let before = self.gradients.get(&map.slot.offset).copied();
        let out = self.tape.arena.take(map.slot.len);
        let call = call(self, before, out);
        self.calls.push(call);
        self.gradients.insert(map.slot.offset, out);
        before.into_iter().for_each(|slot| self.release(slot));
    }

    /// One holder less of a gradient's place.
    fn release(&mut self, slot: Slot) {
        match self.shared.get_mut(&slot.offset) {
            Some(holders) if *holders > 1 => *holders -= 1,
            _ => {
                self.shared.remove(&slot.offset);
                self.free(slot);
            }
        }
    }

    fn free(&mut self, slot: Slot) {
        self.tape.arena.give_back(slot);
    }
}

fn bn_params(norm: &Norm, activation: Activation, format: Option<Format>) -> batch_norm::Params {
    batch_norm::Params {
        rows: norm.rows as u32,
        channels: norm.channels as u32,
        activation: activation as u32,
        epsilon: BN_EPSILON,
        format: number(format),
    }
}

fn bn_input(
    z: Map,
    norm: &Norm,
    activation: Activation,
    (dy, sums): (Slot, Slot),
    residual: Option<Slot>,
    dz: Slot,
) -> Call {
    Call::from(BnGradInput {
        params: bn_params(norm, activation, z.format),
        z: z.slot,
        dy,
        batch: norm.batch,
        scale: norm.scale,
        shift: norm.shift,
        sums,
        residual,
        dz,
    })
}
