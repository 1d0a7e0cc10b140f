//! The batch norms of a tree: where their numbers lie, and how they are filled in.
//!
//! The batch norms of a tree share one *section*. It has four vectors for each: the averaged mean and variance, and
//! the folded scale and shift. The nodes follow one another depth-first, and in a node the convolutions as
//! [`Part::convolutions`] has them. The section is the start of the arena of the pass that fills it (recalibration, or
//! folding the stored statistics), and inference reads it there as [`Region::Network`].

use super::build::BN_EPSILON;
use super::lowering::Mode;
use super::tree::{Tree, section_len};
use crate::ops::batch_norm::{Average, AverageParams, BnAverage, BnFold, Fold, FoldParams};
use crate::ops::{Region, Slot};
use crate::space::visit::Convolution;
use crate::space::walk::Part;
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
    /// By nodes, first elements.
    starts: Vec<usize>,
    /// The nodes depth-first.
    order: Vec<usize>,
    len: usize,
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
        let (mut starts, mut order, mut len) = (vec![0; tree.nodes.len()], Vec::new(), 0);
        let mut left: Vec<usize> = tree.roots.iter().rev().copied().collect();
        while let Some(id) = left.pop() {
            let node = &tree.nodes[id];
            starts[id] = len;
            order.push(id);
            len += section_len(&node.part);
            left.extend(node.children.iter().rev());
        }
        Norms { starts, order, len }
    }

    /// Elements of the section.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Every batch norm in order: its convolution, and its first element in the section.
    fn all<'a>(&'a self, tree: &'a Tree) -> impl Iterator<Item = (Convolution, usize)> {
        self.order.iter().flat_map(|&id| {
            let mut base = self.starts[id];
            let of_node = tree.nodes[id].part.convolutions();
            of_node.map(move |what| {
                let first = base;
                base += 4 * what.cout;
                (what, first)
            })
        })
    }

    /// The section, and how it is filled.
    pub(super) fn section(&self, layout: &Layout, tree: &Tree) -> Section {
        let mut section = Section { len: self.len, ..Section::default() };
        for (what, base) in self.all(tree) {
            let (of, channels) = (layout.convolution(&what), what.cout);
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
    pub(super) fn of(&self, layout: &Layout, node: (usize, &Part), what: &Convolution, mode: Mode) -> Norm {
        let (id, part) = node;
        let before = part.convolutions().take_while(|other| other.place != what.place);
        let base = self.starts[id] + before.map(|other| 4 * other.cout).sum::<usize>();
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
    pub(super) fn averages(&self, tree: &Tree, mode: Mode) -> Option<BnAverage> {
        let Mode::Recalibration { batches, at_once } = mode else { return None };
        let average = |(what, base): (Convolution, usize)| Average {
            params: AverageParams {
                length: 2 * what.cout as u32,
                batches: at_once as u32,
                weight: 1.0 / batches as f32,
            },
            batch: self.of_batches(base, what.cout, mode),
            average: Slot { region: Region::Arena, offset: base, len: 2 * what.cout },
        };
        Some(BnAverage { calls: self.all(tree).map(average).collect() })
    }
}
