//! The batch norms of a tree: where their numbers lie, and how they are filled in.
//!
//! The batch norms of a tree share one *section*. It has four vectors for each: the averaged mean and variance, and
//! the folded scale and shift. The nodes follow one another depth-first, and in a node the convolutions as
//! [`Part::convolutions`](crate::space::walk::Part::convolutions) has them. The section is the start of the arena of the pass that fills it (recalibration, or
//! folding the stored statistics), and inference reads it there as [`Region::Network`].

use super::build::BN_EPSILON;
use super::lowering::Mode;
use super::tree::{Tree, VECTORS};
use crate::ops::batch_norm::{Average, AverageParams, BnAverage, BnFold, Fold, FoldParams};
use crate::ops::{Region, Slot};
use crate::space::visit::Convolution;
use crate::supernet::Layout;

/// The batch norms of a tree: the size of their section and how it is filled at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Elements.
    pub len: usize,
    /// Folds the checkpoint's running statistics; the section is the arena.
    pub stored: BnFold,
    /// Folds the averages that recalibration has left; its arena is the arena.
    pub averaged: BnFold,
}

/// Where the batch norms of each node lie in the section.
#[derive(Debug, Clone)]
pub(super) struct Norms {
    /// All of them, in order.
    places: Vec<NormPlace>,
    /// By nodes, the first of theirs.
    firsts: Vec<usize>,
    len: usize,
}

/// The place of a batch norm.
#[derive(Debug, Clone, Copy)]
struct NormPlace {
    /// The convolution before it.
    what: Convolution,
    /// Its first element in the section.
    base: usize,
}

/// A batch norm in a pass over a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub(super) channels: usize,
    pub(super) gamma: Slot,
    pub(super) beta: Slot,
    /// Statistics of each batch, in the arena of recalibration.
    pub(super) batch: Slot,
    /// Scale and shift as inference reads them.
    pub(super) scale: Slot,
    pub(super) shift: Slot,
}

/// One of the vectors of a batch norm whose first element is there: mean, variance, scale, shift.
fn vector(region: Region, base: usize, index: usize, channels: usize) -> Slot {
    Slot { region, offset: base + index * channels, len: channels }
}

impl Norms {
    pub(super) fn new(tree: &Tree) -> Norms {
        let mut norms = Norms { places: Vec::new(), firsts: vec![0; tree.nodes.len()], len: 0 };
        norms.places.reserve(3 * tree.nodes.len());
        let mut left: Vec<usize> = tree.roots.iter().rev().copied().collect();
        while let Some(id) = left.pop() {
            let node = &tree.nodes[id];
            norms.firsts[id] = norms.places.len();
            for what in node.part.convolutions() {
                norms.places.push(NormPlace { what, base: norms.len });
                norms.len += VECTORS * what.cout;
            }
            left.extend(node.children.iter().rev());
        }
        norms
    }

    /// The section, and how it is filled.
    pub(super) fn section(&self, layout: &Layout) -> Section {
        let mut section = Section { len: self.len, ..Section::default() };
        section.stored.calls.reserve(self.places.len());
        section.averaged.calls.reserve(self.places.len());
        for &NormPlace { ref what, base } in &self.places {
            let (of, channels) = (layout.convolution(what), what.cout);
            let weights = |offset: usize| Slot::weights(offset, channels);
            let own = |index| vector(Region::Arena, base, index, channels);
            let fold = |mean: Slot, variance: Slot| Fold {
                params: FoldParams { channels: channels as u32, epsilon: BN_EPSILON },
                gamma: weights(of.bn.gamma),
                beta: weights(of.bn.beta),
                mean,
                variance,
                bias: of.bias,
                scale: own(2),
                shift: own(3),
            };
            section.stored.calls.push(fold(weights(of.bn.mean), weights(of.bn.variance)));
            section.averaged.calls.push(fold(own(0), own(1)));
        }
        section
    }

    /// The batch norm behind a convolution of a node.
    pub(super) fn of(&self, layout: &Layout, node: usize, what: &Convolution, mode: Mode) -> Norm {
        let mut from_node = self.places[self.firsts[node]..].iter();
        let place = from_node.find(|place| place.what.place == what.place);
        let base = place.expect("a node has the batch norms of its convolutions").base;
        let (bn, channels) = (layout.convolution(what).bn, what.cout);
        Norm {
            channels,
            gamma: Slot::weights(bn.gamma, channels),
            beta: Slot::weights(bn.beta, channels),
            batch: self.of_batches(base, channels, mode),
            scale: vector(Region::Network, base, 2, channels),
            shift: vector(Region::Network, base, 3, channels),
        }
    }

    /// Elements that recalibration keeps at the start of its arena: half of a section are averages, and each batch
    /// of a run has its own of these.
    pub(super) fn reserved(&self, mode: Mode) -> usize {
        match mode {
            Mode::Inference => 0,
            Mode::Recalibration { at_once, .. } => self.len + self.len / 2 * at_once,
        }
    }

    /// Mean and variance of each batch of a run.
    fn of_batches(&self, base: usize, channels: usize, mode: Mode) -> Slot {
        let at_once = mode.at_once();
        Slot { region: Region::Arena, offset: self.len + base / 2 * at_once, len: 2 * channels * at_once }
    }

    /// Averages the statistics of all batches of a run into the section; `None` in inference.
    pub(super) fn averages(&self, mode: Mode) -> Option<BnAverage> {
        let Mode::Recalibration { batches, at_once } = mode else { return None };
        let average = |&NormPlace { ref what, base }: &NormPlace| Average {
            params: AverageParams {
                length: 2 * what.cout as u32,
                batches: at_once as u32,
                weight: 1.0 / batches as f32,
            },
            batch: self.of_batches(base, what.cout, mode),
            average: Slot { region: Region::Arena, offset: base, len: 2 * what.cout },
        };
        Some(BnAverage { calls: self.places.iter().map(average).collect() })
    }
}
