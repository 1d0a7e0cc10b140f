//! The backward pass of a recorded forward pass.
//!
//! Nodes are taken from the end. A map's gradient is complete when its node is reached, since all
//! that read the map came later. Operators that produce a gradient take what has already arrived at
//! that map as a residual, so sums of gradients cost no pass of their own; where two maps share a
//! gradient (a sum passes it on as it is), its place is counted and given back with the last of them.
//!
//! The gradient of a map is stored as the map is, those of weights and of all per-channel numbers in f32.

use super::slots::{TrainingSlots, gradient};
use super::tape::{Node, Normalised, Tape};
use crate::engine::build::{BN_EPSILON, Builder, Map, Operator};
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
use crate::ops::squeeze_excite::SqueezeExcite;
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Slot};
use crate::supernet::Panels;
use std::collections::{BTreeMap, BTreeSet};

/// Lowers the backward pass of a tape.
pub(super) struct Backward<'a, 't> {
    builder: &'t mut Builder<'a>,
    places: &'t TrainingSlots,
    /// The gradient of the map at an offset, so far.
    gradients: BTreeMap<usize, Slot>,
    /// How many maps share the gradient at an offset.
    shared: BTreeMap<usize, usize>,
    /// Places of the packed super-network whose gradient was added to.
    touched: BTreeSet<usize>,
}

impl Backward<'_, '_> {
    /// Adds the calls, and says the offsets of the tensors that they add gradients to. The gradients of
    /// the logits are at `dlogits`, in the order of the exits read.
    pub(super) fn lower(tape: &mut Tape<'_>, places: &TrainingSlots, dlogits: &[Slot]) -> BTreeSet<usize> {
        let mut pass = Backward {
            builder: &mut tape.builder,
            places,
            gradients: BTreeMap::new(),
            shared: BTreeMap::new(),
            touched: BTreeSet::new(),
        };
        for (map, &slot) in tape.logits.iter().zip(dlogits) {
            pass.arrive(*map, slot);
        }
        tape.nodes.iter().rev().for_each(|node| pass.node(node));
        pass.touched
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Normalised(node) => {
                let dy = self.depart(node.y);
                node.residual.iter().for_each(|map| self.arrive(*map, dy));
                self.normalised(node, dy);
                self.release(dy);
            }
            Node::Linear { what, params, x, y } => {
                let dy = self.depart(*y);
                let (panels, bias) = self.builder.layout.linear(what);
                if let Some(bias) = bias {
                    self.bias(bias, dy, params.rows(), x.format);
                }
                self.pointwise_weights(&panels, params, *x, None, dy);
                self.pointwise_input(&panels, params, *x, dy);
                self.release(dy);
            }
            Node::Activated { params, mask, x, y } => {
                let dy = self.depart(*y);
                let dx = self.builder.arena.take(x.slot.len);
                self.builder.push(ActivateGrad { params: *params, x: x.slot, dy, mask: *mask, dx });
                self.arrive(*x, dx);
                self.release(dx);
                self.release(dy);
            }
            Node::GlobalPool { params, x, y } => {
                let dy = self.depart(*y);
                let dx = self.builder.arena.take(x.slot.len);
                self.builder.push(GlobalPoolGrad { params: *params, dy, dx });
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

    fn normalised(&mut self, node: &Normalised, dy: Slot) {
        let Normalised { what, x, .. } = *node;
        let sums = self.sums(node, dy);
        let operator = self.builder.operator(&what, x, Activation::None);
        if matches!(operator, Operator::None) {
            self.produce(x, |residual, dz| bn_input(node, (dy, sums), residual, dz));
            return self.free(sums);
        }
        let dz = self.builder.arena.take(node.z.slot.len);
        self.builder.push(bn_input(node, (dy, sums), None, dz));
        self.free(sums);
        match operator {
            Operator::Stem(weights, params) => {
                let partials = self.builder.arena.take(StemWeights::partials_len(&params));
                let dw = self.touch(weights);
                self.builder.push(StemWeights { params, x: x.slot, dz, partials, dw });
                self.free(partials);
            }
            Operator::Depthwise(w, params) => {
                let partials = self.builder.arena.take(DepthwiseWeights::partials_len(&params));
                let dw = self.touch(w);
                self.builder.push(DepthwiseWeights { params, x: x.slot, dz, partials, dw });
                self.free(partials);
                self.produce(x, |residual, dx| Call::from(DepthwiseInput { params, dz, w, residual, dx }));
            }
            Operator::Pointwise(panels, params, bias) => {
                if let Some(bias) = bias {
                    self.bias(bias, dz, params.rows(), x.format);
                }
                let gate = node.gate.as_ref();
                self.pointwise_weights(&panels, &params, x, gate.map(|gate| gate.gate), dz);
                match gate {
                    None => self.pointwise_input(&panels, &params, x, dz),
                    Some(gate) => self.gated_input(&panels, &params, x, gate, dz),
                }
            }
            Operator::None => {}
        }
        self.free(dz);
    }

    /// The sums of a batch norm's gradient, which also add to the gradients of its weight and bias.
    fn sums(&mut self, node: &Normalised, dy: Slot) -> Slot {
        let norm = &node.norm;
        let partials = self.builder.arena.take(BnGradSums::partials_len(norm.rows, norm.channels));
        let sums = self.builder.arena.take(2 * norm.channels);
        let dgamma = self.touch(Slot::weights(norm.bn.gamma, norm.channels));
        let dbeta = self.touch(Slot::weights(norm.bn.beta, norm.channels));
        self.builder.push(BnGradSums {
            params: bn_params(node),
            z: node.z.slot,
            dy,
            batch: norm.batch,
            scale: norm.scale,
            shift: norm.shift,
            partials,
            sums,
            dgamma,
            dbeta,
        });
        self.free(partials);
        sums
    }

    fn bias(&mut self, bias: Slot, dz: Slot, rows: usize, format: Option<Format>) {
        let partials = self.builder.arena.take(ColumnSum::partials_len(rows, bias.len));
        let y = self.touch(bias);
        let (columns, format) = (bias.len as u32, number(format));
        let params = ColumnsParams { rows: rows as u32, columns, format };
        self.builder.push(ColumnSum { params, x: dz, partials, y });
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
        let partials = self.builder.arena.take(PointwiseWeights::partials_len(shape));
        let dw = self.touch(panels.prefix(shape.cout as usize));
        let (params, x, format) = (*shape, x.slot, x.format);
        self.builder.push(match format {
            None => Call::from(PointwiseWeights { params, x, dz, gate, partials, dw }),
            Some(format) => {
                let params = half_gradient::Params { shape: params, format: format as u32 };
                Call::from(PointwiseHalfWeights { params, x, dz, gate, partials, dw })
            }
        });
        self.free(partials);
    }

    fn pointwise_input(&mut self, panels: &Panels, params: &pointwise::Params, x: Map, dz: Slot) {
        let dz = (dz, x.format);
        if params.stride == 1 {
            let places = self.places;
            return self.produce(x, |residual, dx| transposed(places, panels, params, dz, residual, dx));
        }
        let small = self.builder.arena.take(elements(x.format, params.rows() * params.cin as usize));
        self.builder.push(transposed(self.places, panels, params, dz, None, small));
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
    fn gated_input(
        &mut self,
        panels: &Panels,
        shape: &pointwise::Params,
        x: Map,
        squeeze: &SqueezeExcite,
        dz: Slot,
    ) {
        let &SqueezeExcite { params, x: map, reduce, reduce_bias, expand, expand_bias, gate } = squeeze;
        let dxg = self.builder.arena.take(map.len);
        self.builder.push(transposed(self.places, panels, shape, (dz, x.format), None, dxg));
        let scratch = self.builder.arena.take(SqueezeExciteGrad::scratch_len(&params));
        let dx = self.builder.arena.take(map.len);
        let call = SqueezeExciteGrad {
            params,
            x: map,
            gate,
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
        self.builder.push(call);
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
                let y = self.builder.arena.take(map.slot.len);
                let (len, format) = (map.numbers() as u32, number(map.format));
                let params = sum::Params { len, terms: 2, format };
                self.builder.push(Sum { params, x: vec![before, slot], y });
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
        let before = self.gradients.get(&map.slot.offset).copied();
        let out = self.builder.arena.take(map.slot.len);
        self.builder.push(call(before, out));
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
        self.builder.arena.give_back(slot);
    }
}

/// The product of `dz` and the transposed weights, at the resolution of `dz`.
fn transposed(
    places: &TrainingSlots,
    panels: &Panels,
    params: &pointwise::Params,
    (dz, format): (Slot, Option<Format>),
    residual: Option<Slot>,
    y: Slot,
) -> Call {
    let cin = params.cin as usize;
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

fn bn_params(node: &Normalised) -> batch_norm::Params {
    batch_norm::Params {
        rows: node.norm.rows as u32,
        channels: node.norm.channels as u32,
        activation: node.what.activation as u32,
        epsilon: BN_EPSILON,
        format: number(node.z.format),
    }
}

fn bn_input(node: &Normalised, (dy, sums): (Slot, Slot), residual: Option<Slot>, dz: Slot) -> Call {
    let norm = &node.norm;
    Call::from(BnGradInput {
        params: bn_params(node),
        z: node.z.slot,
        dy,
        batch: norm.batch,
        scale: norm.scale,
        shift: norm.shift,
        sums,
        residual,
        dz,
    })
}
