//! Heads of a plan: pooled features, logits, and what is read of them.
//!
//! The heads of one stage have the same weights behind the batch norms of their own. Where many networks
//! run together, their features lie behind one another, and what comes next runs once for all.

use super::emit::{Folded, Product};
use super::plan::{Lowering, Map, Mode, Reads};
use super::tree::{Step, Tree};
use crate::ops::pool::GlobalPool;
use crate::ops::score::{self, Score};
use crate::ops::{Activation, Call, Slot, halves};
use crate::supernet::HeadLayout;

/// Heads of one stage: they have the same weights behind the batch norms of their own.
pub(super) struct Heads {
    head: HeadLayout,
    /// `[leaves, images, channels]`
    features: Slot,
    /// Their numbers among the heads of the tree.
    leaves: Vec<usize>,
}

impl Lowering<'_> {
    /// A head, and what is read of it.
    pub(super) fn read(&mut self, head: &HeadLayout, x: Map, leaf: usize) {
        if let Some(logits) = self.head(head, x) {
            self.outputs[leaf] = self.found(logits, head.classifier.cout);
        }
    }

    /// What is read of logits `[n images, stride]`.
    fn found(&mut self, logits: Slot, stride: usize) -> Slot {
        if self.reads == Reads::Logits {
            return logits;
        }
        let images = logits.len / stride;
        let out = self.results.take(images * score::PER_IMAGE);
        let params = score::Params {
            images: images as u32,
            classes: self.layout.classes() as u32,
            stride: stride as u32,
            labelled: self.images as u32,
        };
        self.calls.push(Call::from(Score { params, logits, labels: self.labels, out }));
        self.arena.give_back(logits);
        out
    }

    /// A head's features beside those of its stage's other heads: from there on all have the same weights.
    pub(super) fn collect(&mut self, tree: &Tree, stage: usize, head: &HeadLayout, x: Map, leaf: usize) {
        let channels = head.head.expand;
        let len = halves::elements(self.format, self.images * channels);
        let of_stage = |step: &Step| matches!(step, Step::Head { stage: other, .. } if *other == stage);
        let arena = &mut self.arena;
        let heads = self.heads.entry(stage).or_insert_with(|| {
            let count = tree.nodes.iter().filter(|node| of_stage(&node.step)).count();
            Heads { head: *head, features: arena.take(count * len), leaves: Vec::new() }
        });
        let slot = heads.features.part(heads.leaves.len() * len, len);
        heads.leaves.push(leaf);
        let features = Map { slot, side: 1, channels, format: self.format };
        self.pooled_pointwise(x, &head.expand, &head.expand_bn, Activation::HSwish, features);
    }

    /// What is read of the heads whose features were collected: stage by stage, all at once.
    pub(super) fn read_collected(&mut self) {
        for Heads { head, features, leaves } in std::mem::take(&mut self.heads).into_values() {
            let features = Map { slot: features, side: 1, channels: head.head.expand, format: self.format };
            let one = self.images;
            self.images = leaves.len() * one;
            let logits = self.logits(&head, features);
            self.images = one;
            let found = self.found(logits, head.classifier.cout);
            let len = found.len / leaves.len();
            for (index, leaf) in leaves.into_iter().enumerate() {
                self.outputs[leaf] = found.part(index * len, len);
            }
        }
    }

    /// The logits of a head. Recalibration ends with the statistics of its batch norm: what lies
    /// behind has none.
    fn head(&mut self, head: &HeadLayout, x: Map) -> Option<Slot> {
        let shape = head.head;
        let bn = &head.expand_bn;
        if let Mode::Recalibration { batches, .. } = self.mode {
            let wide = self.map(x.side, shape.expand);
            let norm = self.norm(bn, shape.expand, None);
            let product =
                Product { x, w: &head.expand, y: wide, stride: 1, bias: None, gate: None, pooled: false };
            self.calls.push(product.call(self.layout, self.images as u32, Folded::raw()));
            self.batch_statistics(wide, &norm, batches, None);
            self.free(wide);
            return None;
        }
        let (w, activation) = (&head.expand, Activation::HSwish);
        let pooled = match self.format {
            Some(_) => {
                let pooled = self.map(1, shape.expand);
                self.pooled_pointwise(x, w, bn, activation, pooled);
                pooled
            }
            None => {
                let wide = self.pointwise(x, w, shape.expand, 1, bn, activation, None, None);
                let pooled = self.features(shape.expand);
                self.calls.push(Call::from(GlobalPool {
                    params: self.pool_params(wide, pooled),
                    x: wide.slot,
                    y: pooled.slot,
                }));
                self.free(wide);
                pooled
            }
        };
        Some(self.logits(head, pooled))
    }

    /// The logits of pooled features, which it consumes.
    fn logits(&mut self, head: &HeadLayout, pooled: Map) -> Slot {
        let mixed = self.map(1, head.head.mix);
        self.linear(pooled, &head.mix, None, Activation::HSwish, mixed);
        self.free(pooled);
        let logits = head.classifier.cout;
        let bias = Slot::weights(head.classifier_bias, logits);
        // In f32 always: they are ranked.
        let out = match self.reads {
            Reads::Logits => {
                let slot = self.results.take(self.images * logits);
                Map { slot, side: 1, channels: logits, format: None }
            }
            Reads::Scores => self.features(logits),
        };
        self.linear(mixed, &head.classifier, Some(bias), Activation::None, out);
        self.free(mixed);
        out.slot
    }
}
