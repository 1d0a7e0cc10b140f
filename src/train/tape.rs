//! A network's forward pass with batch statistics, and a record of it that the backward pass reads
//! from its end.
//!
//! The walk is that of inference ([`crate::engine::plan`]), but nothing is folded and nothing given
//! back: every convolution leaves its raw output and its normalised one.
//!
//! Maps are f32 or a 16-bit format, as in inference: then 1x1 convolutions are calls of their own operator
//! on 16-bit rows, and pooled features with all that follows them, gates, and per-channel numbers are f32.

use super::slots::TrainingSlots;
use crate::engine::arena::Arena;
use crate::engine::plan::BN_EPSILON;
use crate::ops::batch_norm::{ApplyParams, BatchFold, BnApply, BnStatistics, StatisticsParams};
use crate::ops::depthwise::{self, Depthwise};
use crate::ops::grad::activation::{self, Activate};
use crate::ops::halves::{self, Format, number};
use crate::ops::pointwise::{self, Pointwise};
use crate::ops::pointwise_half::{self, PointwiseHalf};
use crate::ops::pool::{self, GlobalPool, MaxPool};
use crate::ops::squeeze_excite::{self, SqueezeExcite};
use crate::ops::stem::{self, Stem};
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Slot};
use crate::space::Arch;
use crate::space::backbone::strided;
use crate::space::walk::{Exits, Layer, dense_terms, walk};
use crate::supernet::{BatchNorm, HeadLayout, Layout, Panels, Squeeze};
use std::collections::VecDeque;

/// A feature map: where it is and its shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub slot: Slot,
    pub side: usize,
    pub channels: usize,
    /// What it is stored as, unless it is f32.
    pub format: Option<Format>,
}

impl Map {
    /// Its numbers.
    pub(super) fn numbers(&self) -> usize {
        self.slot.len * if self.format.is_some() { halves::PER_ELEMENT } else { 1 }
    }
}

/// A batch norm of the pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub bn: BatchNorm,
    pub channels: usize,
    pub rows: usize,
    /// Mean and biased variance of the batch.
    pub batch: Slot,
    pub scale: Slot,
    pub shift: Slot,
}

/// What a batch norm normalises.
#[derive(Debug, Clone, Copy)]
pub(super) enum Convolution {
    Stem {
        weights: Slot,
        params: stem::Params,
    },
    Pointwise {
        panels: Panels,
        params: pointwise::Params,
        bias: Option<Slot>,
        gate: Option<Gate>,
    },
    Depthwise {
        weights: Slot,
        params: depthwise::Params,
    },
    /// Nothing: the input itself.
    None,
}

/// The squeeze-and-excitation of a convolution's input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate {
    pub slot: Slot,
    pub squeeze: Squeeze,
    pub params: squeeze_excite::Params,
}

/// One recorded step. A tape has a hundred or so, nearly all of the large kind.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// `y = activation(norm(convolution(x))) + residual`
    Normalised {
        convolution: Convolution,
        x: Map,
        z: Map,
        norm: Norm,
        activation: Activation,
        residual: Option<Map>,
        y: Map,
    },
    /// A linear layer.
    Linear {
        panels: Panels,
        params: pointwise::Params,
        bias: Option<Slot>,
        x: Map,
        y: Map,
    },
    /// An activation on its own, with dropout.
    Activated {
        params: activation::Params,
        mask: Option<Slot>,
        x: Map,
        y: Map,
    },
    GlobalPool {
        params: pool::Params,
        x: Map,
        y: Map,
    },
    MaxPool {
        params: pool::Params,
        x: Map,
        y: Map,
    },
    Sum {
        terms: Vec<Map>,
        y: Map,
    },
}

/// The pass and its record.
pub(super) struct Tape<'a> {
    pub layout: &'a Layout,
    pub places: &'a TrainingSlots,
    pub images: usize,
    /// What maps are stored as, unless it is f32.
    pub format: Option<Format>,
    pub arena: Arena,
    pub calls: Vec<Call>,
    pub nodes: Vec<Node>,
    /// Batch norms in the order in which they ran.
    pub norms: Vec<Norm>,
    /// Logits of every exit read.
    pub logits: Vec<Map>,
    /// Dropout masks of the exits that are still to come; none without dropout.
    pub masks: VecDeque<Slot>,
}

impl Tape<'_> {
    /// Lowers the whole pass, from images at `input`.
    pub(super) fn network(&mut self, arch: &Arch, exits: Exits, input: Slot) {
        let channels = *self.layout.channels();
        let mut x = self.first_layers(Map { slot: input, side: arch.r as usize, channels: 3, format: None });
        let layers: Vec<Layer> = walk(&channels, arch).filter(|l| l.stage <= exits.last()).collect();
        for stage in layers.chunk_by(|a, b| a.stage == b.stage) {
            x = self.stage(stage, x, arch.family.dense);
            if exits.contains(stage[0].stage) {
                let head = if arch.family.early_exits {
                    self.layout.exits[stage[0].stage]
                } else {
                    self.layout.head.unwrap()
                };
                let logits = self.head(&head, x);
                self.logits.push(logits);
            }
        }
    }

    pub(super) fn map(&mut self, side: usize, channels: usize) -> Map {
        let len = halves::elements(self.format, self.images * side * side * channels);
        Map { slot: self.arena.take(len), side, channels, format: self.format }
    }

    /// Features of every image, in f32.
    fn features(&mut self, channels: usize) -> Map {
        Map { slot: self.arena.take(self.images * channels), side: 1, channels, format: None }
    }

    fn first_layers(&mut self, image: Map) -> Map {
        let (first, channels) = (self.layout.first, *self.layout.channels());
        let side = strided(image.side, 2);
        let params = stem::Params {
            images: self.images as u32,
            side_in: image.side as u32,
            side_out: side as u32,
            cout: channels.stem as u32,
            activation: Activation::None as u32,
            format: number(self.format),
        };
        let weights = Slot::weights(first.stem, 27 * channels.stem);
        let convolution = Convolution::Stem { weights, params };
        let stem = self.normalised(
            convolution,
            image,
            (side, channels.stem),
            first.stem_bn,
            Activation::HSwish,
            None,
        );
        let weights = Slot::weights(first.depthwise, 9 * channels.stem);
        let hidden =
            self.depthwise(stem, weights, channels.stem, (3, 1), first.depthwise_bn, Activation::Relu);
        let shortcut = (channels.stem == channels.first).then_some(stem);
        let project = (first.project, first.project_bn);
        self.pointwise(hidden, project, channels.first, 1, Activation::None, None, shortcut)
    }

    fn stage(&mut self, layers: &[Layer], x: Map, dense: bool) -> Map {
        let mut outputs: Vec<Map> = Vec::new();
        let mut input = x;
        for (position, layer) in layers.iter().enumerate() {
            input = self.layer(layer, input);
            let k = position + 1;
            if dense && k >= 3 {
                let skips = dense_terms(k).map(|j| outputs[j - 1]);
                let terms: Vec<Map> = std::iter::once(input).chain(skips).collect();
                input = self.sum(terms);
            }
            outputs.push(input);
        }
        input
    }

    fn layer(&mut self, layer: &Layer, x: Map) -> Map {
        let block = self.layout.blocks[layer.index];
        let act = layer.activation;
        let mut sum: Option<Map> = None;
        if layer.branches.mbconv {
            let wide = self.pointwise(x, (block.expand, block.expand_bn), layer.mid, 1, act, None, None);
            let filter = block.filter(layer.kernel);
            let shape = (layer.kernel, layer.stride);
            let deep = self.depthwise(wide, filter, block.channels, shape, block.depthwise_bn, act);
            let gate =
                block.squeeze.zip(layer.squeeze).map(|(squeeze, hidden)| self.gate(deep, squeeze, hidden));
            let project = (block.project, block.project_bn);
            let shortcut = layer.shortcut.then_some(x);
            sum = Some(self.pointwise(deep, project, layer.cout, 1, Activation::None, gate, shortcut));
        }
        if let Some((branch, transform)) = block.parallel {
            if layer.branches.pointwise {
                sum = Some(self.pointwise(x, branch, layer.cout, layer.stride, act, None, sum));
            }
            if layer.branches.transform {
                let from = if layer.stride > 1 { self.max_pool(x) } else { x };
                let shape = (from.side, layer.cout);
                let convolution = match transform.conv {
                    Some((panels, bias)) => Convolution::Pointwise {
                        panels,
                        params: self.pointwise_params(from, shape, &panels, 1),
                        bias: Some(Slot::weights(bias, layer.cout)),
                        gate: None,
                    },
                    None => Convolution::None,
                };
                sum = Some(self.normalised(convolution, from, shape, transform.bn, act, sum));
            }
        }
        sum.expect("a layer has at least one branch")
    }

    fn head(&mut self, head: &HeadLayout, x: Map) -> Map {
        let shape = head.head;
        let expand = (head.expand, head.expand_bn);
        let wide = self.pointwise(x, expand, shape.expand, 1, Activation::HSwish, None, None);
        let pooled = self.features(shape.expand);
        let params = self.pool_params(wide, pooled);
        self.calls.push(Call::from(GlobalPool { params, x: wide.slot, y: pooled.slot }));
        self.nodes.push(Node::GlobalPool { params, x: wide, y: pooled });
        let mixed = self.linear(pooled, head.mix, shape.mix, None);
        let mask = self.masks.pop_front();
        debug_assert!(mask.is_none_or(|mask| mask.len == mixed.slot.len));
        let active = self.features(shape.mix);
        let params = activation::Params {
            len: mixed.slot.len as u32,
            activation: Activation::HSwish as u32,
            format: 0,
        };
        self.calls.push(Call::from(Activate { params, x: mixed.slot, mask, y: active.slot }));
        self.nodes.push(Node::Activated { params, mask, x: mixed, y: active });
        let bias = Slot::weights(head.classifier_bias, head.classifier.cout);
        self.linear(active, head.classifier, head.classifier.cout, Some(bias))
    }

    fn linear(&mut self, x: Map, panels: Panels, cout: usize, bias: Option<Slot>) -> Map {
        let y = self.features(cout);
        let params = self.pointwise_params(x, (1, cout), &panels, 1);
        self.calls.push(Call::from(Pointwise {
            params,
            x: x.slot,
            w: panels.prefix(cout),
            scale: None,
            shift: bias,
            gate: None,
            residual: None,
            y: y.slot,
        }));
        self.nodes.push(Node::Linear { panels, params, bias, x, y });
        y
    }

    fn gate(&mut self, x: Map, squeeze: Squeeze, hidden: usize) -> Gate {
        let slot = self.arena.take(self.images * x.channels);
        let params = squeeze_excite::Params {
            images: self.images as u32,
            pixels: (x.side * x.side) as u32,
            channels: x.channels as u32,
            hidden: hidden as u32,
            weight_channels: squeeze.reduce.cin as u32,
            weight_hidden: squeeze.expand.cin as u32,
            format: number(x.format),
        };
        self.calls.push(Call::from(SqueezeExcite {
            params,
            x: x.slot,
            reduce: squeeze.reduce.prefix(hidden),
            reduce_bias: Slot::weights(squeeze.reduce_bias, hidden),
            expand: squeeze.expand.prefix(x.channels),
            expand_bias: Slot::weights(squeeze.expand_bias, x.channels),
            gate: slot,
        }));
        Gate { slot, squeeze, params }
    }

    fn max_pool(&mut self, x: Map) -> Map {
        let y = self.map(strided(x.side, 2), x.channels);
        let params = self.pool_params(x, y);
        self.calls.push(Call::from(MaxPool { params, x: x.slot, y: y.slot }));
        self.nodes.push(Node::MaxPool { params, x, y });
        y
    }

    fn sum(&mut self, terms: Vec<Map>) -> Map {
        let y = self.map(terms[0].side, terms[0].channels);
        let (len, format) = (y.numbers() as u32, number(y.format));
        let params = sum::Params { len, terms: terms.len() as u32, format };
        let x = terms.iter().map(|map| map.slot).collect();
        self.calls.push(Call::from(Sum { params, x, y: y.slot }));
        self.nodes.push(Node::Sum { terms, y });
        y
    }

    fn pool_params(&self, x: Map, y: Map) -> pool::Params {
        pool::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: y.side as u32,
            channels: x.channels as u32,
            format: number(x.format),
        }
    }

    fn pointwise_params(
        &self,
        x: Map,
        (side, cout): (usize, usize),
        panels: &Panels,
        stride: usize,
    ) -> pointwise::Params {
        pointwise::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: side as u32,
            cin: x.channels as u32,
            cout: cout as u32,
            weight_cin: panels.cin as u32,
            stride: stride as u32,
            activation: Activation::None as u32,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn pointwise(
        &mut self,
        x: Map,
        (panels, bn): (Panels, BatchNorm),
        cout: usize,
        stride: usize,
        activation: Activation,
        gate: Option<Gate>,
        residual: Option<Map>,
    ) -> Map {
        let shape = (strided(x.side, stride), cout);
        let params = self.pointwise_params(x, shape, &panels, stride);
        let convolution = Convolution::Pointwise { panels, params, bias: None, gate };
        self.normalised(convolution, x, shape, bn, activation, residual)
    }

    fn depthwise(
        &mut self,
        x: Map,
        weights: Slot,
        stored: usize,
        (kernel, stride): (usize, usize),
        bn: BatchNorm,
        activation: Activation,
    ) -> Map {
        let side = strided(x.side, stride);
        let params = depthwise::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: side as u32,
            channels: x.channels as u32,
            weight_channels: stored as u32,
            kernel: kernel as u32,
            stride: stride as u32,
            activation: Activation::None as u32,
            format: number(x.format),
        };
        let convolution = Convolution::Depthwise { weights, params };
        self.normalised(convolution, x, (side, x.channels), bn, activation, None)
    }

    /// A convolution, the batch's statistics of its output, and what they normalise it to.
    fn normalised(
        &mut self,
        convolution: Convolution,
        x: Map,
        (side, channels): (usize, usize),
        bn: BatchNorm,
        activation: Activation,
        residual: Option<Map>,
    ) -> Map {
        let z = match convolution {
            Convolution::None => x,
            _ => self.map(side, channels),
        };
        match convolution {
            Convolution::Stem { weights, params } => self.calls.push(Call::from(Stem {
                params,
                x: x.slot,
                w: weights,
                scale: None,
                shift: None,
                y: z.slot,
            })),
            Convolution::Pointwise { panels, params: shape, bias, gate } => {
                let (scale, shift, gate, residual) = (None, bias, gate.map(|gate| gate.slot), None);
                let (x, y) = (x.slot, z.slot);
                self.calls.push(match z.format {
                    None => {
                        let (params, w) = (shape, panels.prefix(channels));
                        Call::from(Pointwise { params, x, w, scale, shift, gate, residual, y })
                    }
                    Some(format) => {
                        let format = format as u32;
                        let params = pointwise_half::Params { shape, output: format, pooled: 0, format };
                        let w = self.layout.rows(&panels, channels);
                        Call::from(PointwiseHalf { params, x, w, scale, shift, gate, residual, y })
                    }
                });
            }
            Convolution::Depthwise { weights, params } => self.calls.push(Call::from(Depthwise {
                params,
                x: x.slot,
                w: weights,
                scale: None,
                shift: None,
                y: z.slot,
                pool: None,
            })),
            Convolution::None => {}
        }
        let norm = self.norm(z, bn);
        let y = self.map(side, channels);
        self.calls.push(Call::from(BnApply {
            params: ApplyParams {
                rows: norm.rows as u32,
                batch_rows: norm.rows as u32,
                channels: channels as u32,
                activation: activation as u32,
                format: number(z.format),
            },
            x: z.slot,
            scale: norm.scale,
            shift: norm.shift,
            residual: residual.map(|map| map.slot),
            y: y.slot,
        }));
        self.nodes.push(Node::Normalised { convolution, x, z, norm, activation, residual, y });
        y
    }

    /// Statistics of `z`, and the scale and shift that they make.
    fn norm(&mut self, z: Map, bn: BatchNorm) -> Norm {
        let (rows, channels) = (self.images * z.side * z.side, z.channels);
        let vectors = self.arena.take(4 * channels);
        let norm = Norm {
            bn,
            channels,
            rows,
            batch: vectors.part(0, 2 * channels),
            scale: vectors.part(2 * channels, channels),
            shift: vectors.part(3 * channels, channels),
        };
        let partials = self.arena.take(BnStatistics::partials_len(1, rows, channels));
        self.calls.push(Call::from(BnStatistics {
            params: StatisticsParams {
                rows: rows as u32,
                channels: channels as u32,
                batches: 1,
                epsilon: BN_EPSILON,
                format: number(z.format),
            },
            x: z.slot,
            partials,
            batch: norm.batch,
            fold: Some(BatchFold {
                gamma: Slot::weights(bn.gamma, channels),
                beta: Slot::weights(bn.beta, channels),
                scale: norm.scale,
                shift: norm.shift,
            }),
        }));
        self.arena.give_back(partials);
        self.norms.push(norm);
        norm
    }
}
