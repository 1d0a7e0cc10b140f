//! Heads of a plan: pooled features, logits, and what is read of them.
//!
//! The heads of one stage have the same weights behind the batch norms of their own. Where many networks
//! run together, their features lie behind one another, and what comes next runs once for all.

use super::arena::Arena;
use super::build::{Builder, Epilogue, Map};
use super::lowering::{Lowering, Mode};
use super::norms::Norm;
use super::program::Reads;
use super::tree::Tree;
use crate::ops::halves::{self, Format};
use crate::ops::score::{self, Score};
use crate::ops::{Region, Slot};
use crate::space::visit::{Linear, LinearPlace};
use crate::space::walk::{Exit, Part};
use std::collections::BTreeMap;

/// What is read of the heads of a tree.
pub(super) struct Outputs {
    reads: Reads,
    /// Where labels go.
    pub(super) labels: Slot,
    /// Places for logits or scores: a range of the arena of their own, so that one copy reads them all.
    range: Slot,
    results: Arena,
    /// Logits or scores, by leaf.
    leaves: Vec<Slot>,
    /// Heads whose features are collected, by stage.
    collected: BTreeMap<usize, Features>,
}

/// Features of heads of one stage.
struct Features {
    exit: Exit,
    /// `[leaves, images, channels]`
    slot: Slot,
    /// Their numbers among the heads of the tree.
    leaves: Vec<usize>,
}

impl Outputs {
    /// Takes room for labels, and for what is read of the heads of a tree, if anything is.
    pub(super) fn new(
        arena: &mut Arena,
        tree: &Tree,
        images: usize,
        classes: usize,
        (mode, reads): (Mode, Reads),
    ) -> Outputs {
        let labels = arena.take(images);
        let of_image = match (mode, reads) {
            (Mode::Recalibration { .. }, _) => 0,
            (Mode::Inference, Reads::Logits) => classes.next_multiple_of(8),
            (Mode::Inference, Reads::Scores) => score::PER_IMAGE,
        };
        let range = arena.take(tree.leaves * Arena::size(images * of_image));
        let none = Slot { region: Region::Arena, offset: 0, len: 0 };
        Outputs {
            reads,
            labels,
            range,
            results: Arena::with_reserved(range.offset),
            leaves: vec![none; if mode == Mode::Inference { tree.leaves } else { 0 }],
            collected: BTreeMap::new(),
        }
    }

    /// The range of all results, and the logits and scores of every leaf, of which one is there.
    pub(super) fn finish(self) -> (Slot, Vec<Slot>, Vec<Slot>) {
        let range = self.range.part(0, self.results.len() - self.range.offset);
        match self.reads {
            Reads::Logits => (range, self.leaves, Vec::new()),
            Reads::Scores => (range, Vec::new(), self.leaves),
        }
    }

    /// A head's features beside those of its stage's other heads: from there on all have the same weights.
    pub(super) fn collect(
        &mut self,
        to: &mut Lowering<'_>,
        tree: &Tree,
        (exit, norm): (&Exit, &Norm),
        x: Map,
        leaf: usize,
    ) {
        let (channels, format) = (exit.head.expand, to.build.format);
        let len = halves::elements(format, to.build.images * channels);
        let features = self.collected.entry(exit.stage).or_insert_with(|| {
            let of_stage = |part: &Part| matches!(part, Part::Exit(other) if other.stage == exit.stage);
            let count = tree.nodes.iter().filter(|node| of_stage(&node.part)).count();
            Features { exit: *exit, slot: to.build.take(count * len), leaves: Vec::new() }
        });
        let slot = features.slot.part(features.leaves.len() * len, len);
        features.leaves.push(leaf);
        pooled(to, (exit, norm), x, Map { slot, side: 1, channels, format });
    }

    /// Features of heads that were collected, stage by stage, and their leaves.
    pub(super) fn take_collected(&mut self, format: Option<Format>) -> Vec<(Exit, Map, Vec<usize>)> {
        let collected = std::mem::take(&mut self.collected).into_values();
        let features = collected.map(|Features { exit, slot, leaves }| {
            (exit, Map { slot, side: 1, channels: exit.head.expand, format }, leaves)
        });
        features.collect()
    }

    /// A place for what a linear layer leaves of so many rows of features. Logits are in f32 always: they are ranked.
    pub(super) fn linear_place(&mut self, build: &mut Builder<'_>, what: &Linear, rows: usize) -> Map {
        let channels = what.stored();
        match (what.place, self.reads) {
            (LinearPlace::Mix, _) => build.rows(rows, channels, build.format),
            (LinearPlace::Classifier, Reads::Scores) => build.rows(rows, channels, None),
            (LinearPlace::Classifier, Reads::Logits) => {
                let slot = self.results.take(rows * channels);
                Map { slot, side: 1, channels, format: None }
            }
        }
    }

    /// What is read of the logits of some leaves, which lie behind one another.
    pub(super) fn found(&mut self, build: &mut Builder<'_>, logits: Map, leaves: &[usize]) {
        let all = match self.reads {
            Reads::Logits => logits.slot,
            Reads::Scores => {
                let images = logits.slot.len / logits.channels;
                let out = self.results.take(images * score::PER_IMAGE);
                let params = score::Params {
                    images: images as u32,
                    classes: build.layout.classes() as u32,
                    stride: logits.channels as u32,
                    labelled: build.images as u32,
                };
                build.push(Score { params, logits: logits.slot, labels: self.labels, out });
                build.free(logits);
                out
            }
        };
        let len = all.len / leaves.len().max(1);
        for (index, &leaf) in leaves.iter().enumerate() {
            self.leaves[leaf] = all.part(index * len, len);
        }
    }
}

/// The first convolution of a head on a 16-bit map in inference, and of all that its means.
pub(super) fn pooled(to: &mut Lowering<'_>, (exit, norm): (&Exit, &Norm), x: Map, y: Map) {
    let folded = Some((norm.scale, norm.shift));
    let then = Epilogue { folded, activated: true, pooled: true, ..Epilogue::default() };
    to.build.convolve(&exit.expand(), x, y, then);
}

/// The statistics of the first convolution of a head: recalibration wants no more, since what lies behind has no batch
/// norm.
pub(super) fn statistics(to: &mut Lowering<'_>, (exit, norm): (&Exit, &Norm), x: Map) {
    let what = exit.expand();
    let wide = to.build.output(&what);
    to.build.convolve(&what, x, wide, Epilogue::default());
    to.build.statistics(wide, to.mode.at_once(), norm.batch, None);
    to.build.free(wide);
}
