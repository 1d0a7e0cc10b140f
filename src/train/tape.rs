//! A network's forward pass with batch statistics, and a record of it that the backward pass reads
//! from its end.
//!
//! The operators are those of inference, but nothing is folded and nothing given back: every convolution
//! leaves its raw output and its normalised one.
//!
//! Maps are f32 or a 16-bit format, as in inference: then 1x1 convolutions are calls of their own operator
//! on 16-bit rows, and pooled features with all that follows them, gates, and per-channel numbers are f32.

use crate::engine::build::{Builder, Epilogue, Map};
use crate::ops::batch_norm::BatchFold;
use crate::ops::grad::activation::{self, Activate};
use crate::ops::squeeze_excite::SqueezeExcite;
use crate::ops::{Activation, Slot, pointwise, pool};
use crate::space::Arch;
use crate::space::visit::{Convolution, Kind, Linear, Squeeze, Visitor, visit};
use crate::space::walk::{Exit, Exits, Layer};
use crate::supernet::BatchNorm;

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

/// `y = activation(norm(convolution(x))) + residual`
#[derive(Debug)]
pub(super) struct Normalised {
    pub what: Convolution,
    pub x: Map,
    /// What made the gates of `x`.
    pub gate: Option<SqueezeExcite>,
    /// The raw output: `x` itself where there is nothing to convolve.
    pub z: Map,
    pub norm: Norm,
    pub residual: Option<Map>,
    pub y: Map,
}

/// One recorded step. A tape has a hundred or so, nearly all of the large kind.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Node {
    Normalised(Normalised),
    /// A linear layer, without its activation.
    Linear {
        what: Linear,
        params: pointwise::Params,
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
    pub builder: Builder<'a>,
    /// Dropout masks of the exits read; none without dropout.
    masks: &'a [Slot],
    pub nodes: Vec<Node>,
    /// Logits of every exit read.
    pub logits: Vec<Map>,
}

impl<'a> Tape<'a> {
    /// The whole pass, from images at `input`.
    pub(super) fn record(
        builder: Builder<'a>,
        (arch, exits): (&Arch, Exits),
        input: Slot,
        masks: &'a [Slot],
    ) -> Tape<'a> {
        let channels = builder.layout.channels();
        let mut tape = Tape { builder, masks, nodes: Vec::new(), logits: Vec::new() };
        visit(&mut tape, channels, arch, exits, Map::images(input, arch.r as usize));
        tape
    }

    /// Batch norms in the order in which they ran.
    pub(super) fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Normalised(node) => Some(&node.norm),
            _ => None,
        })
    }

    /// Statistics of `z`, and the scale and shift that they make.
    fn norm(&mut self, bn: BatchNorm, z: Map) -> Norm {
        let (rows, channels) = (self.builder.images * z.side * z.side, z.channels);
        let vectors = self.builder.arena.take(4 * channels);
        let norm = Norm {
            bn,
            channels,
            rows,
            batch: vectors.part(0, 2 * channels),
            scale: vectors.part(2 * channels, channels),
            shift: vectors.part(3 * channels, channels),
        };
        let fold = BatchFold {
            gamma: Slot::weights(bn.gamma, channels),
            beta: Slot::weights(bn.beta, channels),
            scale: norm.scale,
            shift: norm.shift,
        };
        self.builder.statistics(z, 1, norm.batch, Some(fold));
        norm
    }

    /// The activation of a linear layer, with the dropout of the exit that comes next.
    fn activated(&mut self, x: Map, activation: Activation) -> Map {
        let mask = self.masks.get(self.logits.len()).copied();
        debug_assert!(mask.is_none_or(|mask| mask.len == x.slot.len));
        let y = self.builder.features(x.channels);
        let params = activation::Params { len: x.slot.len as u32, activation: activation as u32, format: 0 };
        self.builder.push(Activate { params, x: x.slot, mask, y: y.slot });
        self.nodes.push(Node::Activated { params, mask, x, y });
        y
    }
}

impl Visitor for Tape<'_> {
    type Map = Map;
    type Gate = SqueezeExcite;

    fn classes(&self) -> usize {
        self.builder.layout.classes()
    }

    fn convolution(
        &mut self,
        what: &Convolution,
        &x: &Map,
        gate: Option<&SqueezeExcite>,
        residual: Option<&Map>,
    ) -> Map {
        let z = if what.kind == Kind::Identity { x } else { self.builder.output(what) };
        let raw = Epilogue { gate: gate.map(|gate| gate.gate), ..Epilogue::default() };
        self.builder.convolve(what, x, z, raw);
        let norm = self.norm(self.builder.layout.convolution(what).bn, z);
        let y = self.builder.output(what);
        let added = residual.map(|map| map.slot);
        let folded = (norm.scale, norm.shift);
        let call = self.builder.apply((z.slot, y), 1, folded, what.activation, added);
        self.builder.push(call);
        let (what, gate, residual) = (*what, gate.cloned(), residual.copied());
        self.nodes.push(Node::Normalised(Normalised { what, x, gate, z, norm, residual, y }));
        y
    }

    fn squeeze(&mut self, what: &Squeeze, x: &Map) -> SqueezeExcite {
        self.builder.squeeze((x.slot, x.format), what.side * what.side, what)
    }

    fn max_pool(&mut self, _: &Layer, &x: &Map) -> Map {
        let (params, y) = self.builder.max_pool(x);
        self.nodes.push(Node::MaxPool { params, x, y });
        y
    }

    fn sum(&mut self, _: &Layer, terms: &[Map]) -> Map {
        let y = self.builder.sum(terms);
        self.nodes.push(Node::Sum { terms: terms.to_vec(), y });
        y
    }

    fn mean(&mut self, _: &Exit, &x: &Map) -> Map {
        let (params, y) = self.builder.mean(x);
        self.nodes.push(Node::GlobalPool { params, x, y });
        y
    }

    fn linear(&mut self, _: &Exit, what: &Linear, &x: &Map) -> Map {
        let y = self.builder.features(what.stored());
        let (params, call) = self.builder.linear(what, x, y, false);
        self.builder.push(call);
        self.nodes.push(Node::Linear { what: *what, params, x, y });
        match what.activation {
            Activation::None => y,
            activation => self.activated(y, activation),
        }
    }

    fn logits(&mut self, _: &Exit, logits: Map) {
        self.logits.push(logits);
    }
}
