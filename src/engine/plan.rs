//! A sub-network lowered to calls.
//!
//! The lowering follows the walk of the architecture, or of a [`Tree`] of many, depth-first, and
//! writes each layer down as calls on the arena. Where a tree branches, the output is kept in its
//! place until the last branch has read it. It exists in two modes. In *inference* a batch norm is a scale and a shift in the epilogue
//! of its convolution. In *recalibration* each convolution writes its raw output, whose batch
//! statistics are reduced, averaged over batches, and used to normalise this batch.
//!
//! A network's batch norms share one *section*: for each, in walk order, the averaged mean and
//! variance and the folded scale and shift. The section is at the start of the arena of the pass
//! that fills it (recalibration, or folding the stored statistics), and inference reads it there
//! as [`Region::Network`].
//!
//! Maps are stored in a [`Precision`]. In 16 bits 1x1 convolutions are calls of their own operator on the
//! rows behind the packed weights, and so are parallel branches, one by one, and the layers of a head: its
//! first leaves pooled features and no map, its last logits in f32. Inference for a device whose blocks hold
//! images has whole MBConvs as one call, the first one from the images on (`fuse.rs`). In f32 nothing of that is
//! there.

use super::Precision;
use super::arena::Arena;
use super::fuse::{MbconvParts, Source};
use super::heads::Heads;
use super::tree::{Step, Tree, section_len};
use crate::ops::batch_norm::{BnAverage, BnFold};
use crate::ops::halves::{self, Format};
use crate::ops::score;
use crate::ops::stem::{self, Stem};
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Region, Slot, Work};
use crate::space::Arch;
use crate::space::backbone::strided;
use crate::space::walk::{Exits, Layer, dense_terms};
use crate::supernet::{Block, HeadLayout, Layout};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Added to variances, as everywhere in this family of networks.
pub const BN_EPSILON: f32 = 1e-5;

/// What plans are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What maps are stored as.
    pub precision: Precision,
    /// Bytes of shared memory that a block of the device can have: in 16 bits, MBConvs of inference of
    /// which an image fits are one call. 0 where nothing is gained by it, as on a CPU.
    pub block_bytes: u32,
}

/// A target without blocks.
impl From<Precision> for Target {
    fn from(precision: Precision) -> Target {
        Target { precision, block_bytes: 0 }
    }
}

/// What a list of calls is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Batch norms are folded; reads the section of an earlier pass.
    Inference,
    /// Batch statistics, averaged over this many batches; fills the section.
    Recalibration {
        /// Batches that will be run.
        batches: usize,
        /// Batches of one run, behind one another: so many go into a program's images.
        at_once: usize,
    },
}

impl Mode {
    fn at_once(self) -> usize {
        match self {
            Mode::Inference => 1,
            Mode::Recalibration { at_once, .. } => at_once,
        }
    }
}

/// A list of calls on one arena, for a fixed number of images.
#[derive(Debug, Clone)]
pub struct Program {
    /// What to run; shared with what is recorded of it.
    pub calls: Arc<Vec<Call>>,
    /// Elements of the arena.
    pub arena_len: usize,
    /// Images of a run.
    pub images: usize,
    /// Side of the images.
    pub side: usize,
    /// Where the images go: `[images, side, side, 3]`.
    pub input: Slot,
    /// Where labels go, before a run that gives scores: `[images]`.
    pub labels: Slot,
    /// What a run leaves to be read: the logits or scores of all heads of the tree, and gaps between them.
    pub results: Slot,
    /// Logits of every head of the tree, `[images, stride]` with [`Program::logit_stride`]; or none.
    pub logits: Vec<Slot>,
    /// Scores of every head of the tree, `[images, 2]`; or none.
    pub scores: Vec<Slot>,
    /// Elements from one image's logits to the next's.
    pub logit_stride: usize,
}

impl Program {
    /// Bytes and FLOPs of one run.
    pub fn work(&self) -> Work {
        self.calls.iter().map(Call::work).sum()
    }
}

/// The batch norms of a network: the size of their section and how it is filled at the end.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Elements.
    pub len: usize,
    /// Folds the checkpoint's running statistics; the section is the arena.
    pub stored: BnFold,
    /// Folds the averages that recalibration has left; its arena is the arena.
    pub averaged: BnFold,
}

/// What a program gives of every head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Its logits.
    Logits,
    /// Cross entropy and correctness, for which it takes labels.
    Scores,
}

/// Lowers `arch`, read at `exits`, for `images` images at a time; inference gives logits.
///
/// The last exit bounds the network. The layout must have the parts that the architecture's family
/// needs, which a [`Supernet`](crate::supernet::Supernet) of that family does.
pub fn lower(
    layout: &Layout,
    arch: &Arch,
    exits: Exits,
    images: usize,
    mode: Mode,
    target: impl Into<Target>,
) -> (Program, Section) {
    let tree = Tree::new(layout.channels(), &[(arch, exits)]);
    lower_tree(layout, &tree, images, mode, Reads::Logits, target)
}

/// Lowers all networks of a tree, for `images` images at a time. Recalibration gives neither logits
/// nor scores.
pub fn lower_tree(
    layout: &Layout,
    tree: &Tree,
    images: usize,
    mode: Mode,
    reads: Reads,
    target: impl Into<Target>,
) -> (Program, Section) {
    let target = target.into();
    let section = match mode {
        Mode::Inference => 0,
        // Inference lays out the same section, so its length is known before anything is placed.
        Mode::Recalibration { .. } => lower_tree(layout, tree, 1, Mode::Inference, reads, target).1.len,
    };
    let none = Slot { region: Region::Arena, offset: 0, len: 0 };
    let mut lowering = Lowering {
        layout,
        mode,
        reads,
        format: target.precision.format(),
        block_bytes: target.block_bytes,
        images,
        // Half of a section are averages, and each batch has its own of these.
        arena: Arena::with_reserved(section + section / 2 * mode.at_once()),
        batches_at: section,
        averages: BnAverage::default(),
        norms_at: norm_places(layout, tree),
        next_norm: 0,
        calls: Vec::new(),
        section: Section::default(),
        shared: BTreeMap::new(),
        heads: BTreeMap::new(),
        labels: none,
        results: Arena::default(),
        outputs: vec![none; tree.leaves],
    };
    let program = lowering.tree(tree);
    (program, lowering.section)
}

/// Where in a section the batch norms of each node begin: depth-first.
fn norm_places(layout: &Layout, tree: &Tree) -> Vec<usize> {
    let (mut places, mut len) = (vec![0; tree.nodes.len()], 0);
    let mut left: Vec<usize> = tree.roots.iter().rev().copied().collect();
    while let Some(id) = left.pop() {
        let node = &tree.nodes[id];
        places[id] = len;
        len += section_len(layout.channels(), tree.family, &node.step);
        left.extend(node.children.iter().rev());
    }
    places
}

pub(super) struct Lowering<'a> {
    pub(super) layout: &'a Layout,
    pub(super) mode: Mode,
    pub(super) reads: Reads,
    /// What maps are stored as, unless it is f32.
    pub(super) format: Option<Format>,
    /// As [`Target::block_bytes`].
    pub(super) block_bytes: u32,
    pub(super) images: usize,
    pub(super) arena: Arena,
    /// Where in the arena the batches' own statistics begin.
    pub(super) batches_at: usize,
    /// How they are averaged, in the end.
    pub(super) averages: BnAverage,
    /// By nodes of the tree, where in the section their batch norms begin.
    pub(super) norms_at: Vec<usize>,
    /// Where that of the next batch norm begins.
    pub(super) next_norm: usize,
    pub(super) calls: Vec<Call>,
    pub(super) section: Section,
    /// By their places, maps that more than one branch reads: how many beside one.
    shared: BTreeMap<usize, usize>,
    /// Heads whose features are collected, by stage.
    pub(super) heads: BTreeMap<usize, Heads>,
    pub(super) labels: Slot,
    /// Places for logits or scores: a range of the arena of their own, so that one copy reads them all.
    pub(super) results: Arena,
    /// Logits or scores, by leaf.
    pub(super) outputs: Vec<Slot>,
}

/// A feature map: where it is and its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Map {
    pub(super) slot: Slot,
    pub(super) side: usize,
    pub(super) channels: usize,
    /// What it is stored as, unless it is f32.
    pub(super) format: Option<Format>,
}

/// Where a walk stands: the newest output, and the outputs of the stage's first two layers where
/// later layers add them.
#[derive(Debug, Clone, Copy)]
struct Path {
    x: Map,
    earlier: [Option<Map>; 2],
}

impl Path {
    fn maps(&self) -> impl Iterator<Item = Map> {
        std::iter::once(self.x).chain(self.earlier.into_iter().flatten())
    }
}

impl Lowering<'_> {
    fn tree(&mut self, tree: &Tree) -> Program {
        let side = tree.side;
        let input = self.arena.take(self.images * side * side * 3);
        self.labels = self.arena.take(self.images);
        let results = self.arena.take(self.results_len(tree));
        self.results = Arena::with_reserved(results.offset);
        let image = Map { slot: input, side, channels: 3, format: None };
        let roots = tree.roots.iter().map(|&root| (root, Path { x: image, earlier: [None; 2] }));
        if self.groups() {
            self.levels(tree, roots.collect())
        } else {
            roots.for_each(|(root, path)| self.node(tree, root, path))
        }
        if !self.averages.calls.is_empty() {
            self.calls.push(Call::from(std::mem::take(&mut self.averages)));
        }
        let outputs = match self.mode {
            Mode::Inference => std::mem::take(&mut self.outputs),
            Mode::Recalibration { .. } => Vec::new(),
        };
        let results = results.part(0, self.results.len() - results.offset);
        let stride = match self.reads {
            Reads::Logits => outputs.first().map_or(0, |slot| slot.len / self.images),
            Reads::Scores => 0,
        };
        let (logits, scores) = match self.reads {
            Reads::Logits => (outputs, Vec::new()),
            Reads::Scores => (Vec::new(), outputs),
        };
        Program {
            calls: Arc::new(std::mem::take(&mut self.calls)),
            arena_len: self.arena.len(),
            images: self.images,
            side,
            input,
            labels: self.labels,
            results,
            logits,
            scores,
            logit_stride: stride,
        }
    }

    /// Elements that what is read of a tree's heads takes at most.
    fn results_len(&self, tree: &Tree) -> usize {
        let of_image = match (self.mode, self.reads) {
            (Mode::Recalibration { .. }, _) => 0,
            (Mode::Inference, Reads::Logits) => self.layout.classes().next_multiple_of(8),
            (Mode::Inference, Reads::Scores) => score::PER_IMAGE,
        };
        tree.leaves * Arena::size(self.images * of_image)
    }

    /// Whether whole MBConvs are single calls here, or passes, so that those of many nodes can be one.
    fn groups(&self) -> bool {
        self.format.is_some() && self.block_bytes > 0
    }

    /// A node and all that grows from it. Consumes the maps of `path`, but for the images.
    fn node(&mut self, tree: &Tree, id: usize, path: Path) {
        let path = self.step(tree, id, path, None);
        self.keep(tree, id, path);
        tree.nodes[id].children.iter().for_each(|&child| self.node(tree, child, path));
    }

    /// Nodes of one depth and all that grows from them, depth after depth: more maps at a time than
    /// [`Lowering::node`] keeps, in far fewer launches.
    fn levels(&mut self, tree: &Tree, mut level: Vec<(usize, Path)>) {
        while !level.is_empty() {
            let maps = || level.iter().map(|(id, path)| (*id, path.x));
            let outputs = self.together(tree, maps());
            let read = self.heads_together(tree, maps());
            let mut next = Vec::new();
            for (id, path) in level {
                let path = if read.contains(&id) {
                    path
                } else {
                    self.step(tree, id, path, outputs.get(&id).copied())
                };
                self.keep(tree, id, path);
                next.extend(tree.nodes[id].children.iter().map(|&child| (child, path)));
            }
            level = next;
        }
        self.read_collected();
    }

    /// What a node runs; `output` is there if its layer has run.
    fn step(&mut self, tree: &Tree, id: usize, mut path: Path, output: Option<Map>) -> Path {
        let node = &tree.nodes[id];
        self.next_norm = self.norms_at[id];
        match node.step {
            Step::First => path.x = self.first_layers(path.x),
            Step::Layer(layer) => {
                if layer.position == 0 {
                    // The maps kept of the stage before are of no more use.
                    path.earlier.iter_mut().filter_map(Option::take).for_each(|map| self.free(map));
                }
                let y = output.unwrap_or_else(|| self.layer(&layer, path.x));
                path = self.behind(&layer, y, path, tree.family.dense);
            }
            Step::Head { stage, leaf } => {
                let head = self.head_of(tree, stage);
                if self.groups() && self.mode == Mode::Inference {
                    self.collect(tree, stage, &head, path.x, leaf)
                } else {
                    self.read(&head, path.x, leaf)
                }
            }
        }
        let ends = self.norms_at[id] + section_len(self.layout.channels(), tree.family, &node.step);
        debug_assert!(output.is_some() || self.next_norm == ends, "{:?}", node.step);
        path
    }

    /// The head behind a stage.
    pub(super) fn head_of(&self, tree: &Tree, stage: usize) -> HeadLayout {
        self.layout.head_behind(tree.family, stage)
    }

    /// Keeps the maps behind a node for all that grows from it; frees them where nothing does.
    fn keep(&mut self, tree: &Tree, id: usize, path: Path) {
        match tree.nodes[id].children.len() {
            0 => path.maps().for_each(|map| self.free(map)),
            count => {
                for map in path.maps().filter(|_| count > 1) {
                    *self.shared.entry(map.slot.offset).or_default() += count - 1;
                }
            }
        }
    }

    /// Batches of a run.
    pub(super) fn at_once(&self) -> usize {
        self.mode.at_once()
    }

    pub(super) fn map(&mut self, side: usize, channels: usize) -> Map {
        debug_assert!(channels.is_multiple_of(8), "kernels vectorise over groups of 8 channels");
        let numbers = self.images * side * side * channels;
        Map {
            slot: self.arena.take(halves::elements(self.format, numbers)),
            side,
            channels,
            format: self.format,
        }
    }

    /// Features of every image, in f32.
    pub(super) fn features(&mut self, channels: usize) -> Map {
        Map { slot: self.arena.take(self.images * channels), side: 1, channels, format: None }
    }

    /// Gives a map back, once all that share it have.
    pub(super) fn free(&mut self, map: Map) {
        match self.shared.get_mut(&map.slot.offset) {
            Some(0) | None => self.arena.give_back(map.slot),
            Some(others) => {
                *others -= 1;
                return;
            }
        }
        self.shared.remove(&map.slot.offset);
    }

    /// Stem and the fixed first block.
    fn first_layers(&mut self, image: Map) -> Map {
        let (layout, channels) = (self.layout, *self.layout.channels());
        let weights = Slot::weights(layout.first.depthwise, 9 * channels.stem);
        let filters = Slot::weights(layout.first.stem, 27 * channels.stem);
        let block = |source| MbconvParts {
            source,
            filter: (weights, channels.stem),
            filter_bn: &layout.first.depthwise_bn,
            squeeze: None,
            project: (layout.first.project, &layout.first.project_bn),
            mid: channels.stem,
            cout: channels.first,
            kernel: 3,
            stride: 1,
            activation: Activation::Relu,
        };
        let (bn, activation) = (&layout.first.stem_bn, Activation::HSwish);
        let shortcut = channels.stem == channels.first;
        let both = block(Source::Stem { filters, bn, activation, shortcut });
        if let Some(fusing) = self.fusing(&both, image) {
            let norm = self.source_norm(&both);
            return self.fused(fusing, &both, norm, image, None);
        }
        let stem = self.map(strided(image.side, 2), channels.stem);
        let norm = self.norm(bn, channels.stem, None);
        self.normalised(stem, &norm, activation, None, |folded, images| {
            Call::from(Stem {
                params: stem::Params {
                    images,
                    side_in: image.side as u32,
                    side_out: stem.side as u32,
                    cout: channels.stem as u32,
                    activation: folded.activation as u32,
                    format: halves::number(stem.format),
                },
                x: image.slot,
                w: filters,
                scale: folded.scale,
                shift: folded.shift,
                y: stem.slot,
            })
        });
        let shortcut = shortcut.then_some(stem);
        let alone = block(Source::Input);
        if let Some(fusing) = self.fusing(&alone, stem) {
            let out = self.fused(fusing, &alone, None, stem, shortcut);
            self.free(stem);
            return out;
        }
        let hidden = self.depthwise(
            stem,
            (weights, channels.stem),
            (3, 1),
            &layout.first.depthwise_bn,
            Activation::Relu,
            None,
        );
        let (panels, bn) = (&layout.first.project, &layout.first.project_bn);
        let out = self.pointwise(hidden, panels, channels.first, 1, bn, Activation::None, None, shortcut);
        self.free(hidden);
        self.free(stem);
        out
    }

    /// The dense skips that end at a layer, where the family has them, behind its output `y`. Consumes
    /// `path`.
    fn behind(&mut self, layer: &Layer, y: Map, path: Path, dense: bool) -> Path {
        let Path { x: input, mut earlier } = path;
        // The input is needed no more, unless it is an output that a later skip adds.
        match layer.position {
            position @ (1 | 2) if dense => earlier[position - 1] = Some(input),
            _ => self.free(input),
        }
        let added: Vec<Slot> = if dense {
            dense_terms(layer.position + 1).filter_map(|j| earlier[j - 1]).map(|map| map.slot).collect()
        } else {
            Vec::new()
        };
        if added.is_empty() {
            return Path { x: y, earlier };
        }
        let sum = self.map(y.side, y.channels);
        let terms: Vec<Slot> = std::iter::once(y.slot).chain(added).collect();
        let params = sum::Params {
            len: (self.images * y.side * y.side * y.channels) as u32,
            terms: terms.len() as u32,
            format: halves::number(y.format),
        };
        self.calls.push(Call::from(Sum { params, x: terms, y: sum.slot }));
        self.free(y);
        Path { x: sum, earlier }
    }

    /// One elastic layer: the sum of its branches.
    fn layer(&mut self, layer: &Layer, x: Map) -> Map {
        let block = self.layout.blocks[layer.index];
        let branches = layer.branches;
        let shortcut = layer.shortcut.then_some(x);
        let running = [branches.mbconv, branches.pointwise, branches.transform];
        let parts = branches.mbconv.then(|| MbconvParts::of(layer, &block));
        let fusing = parts.and_then(|parts| Some((self.fusing(&parts, x)?, parts)));
        match &block.parallel {
            Some(parallel) if running.iter().filter(|&&runs| runs).count() > 1 => {
                if let Some((fusing, parts)) = fusing {
                    let source = self.source_norm(&parts);
                    let sum = self.branches_beside(layer, parallel, x);
                    let y = self.fused(fusing, &parts, source, x, Some(sum));
                    self.free(sum);
                    return y;
                }
                let (wide, sum) = match self.format {
                    None => self.branches(layer, &block, parallel, x),
                    Some(_) => self.separate_branches(layer, &block, parallel, x),
                };
                match wide {
                    Some(wide) => {
                        let y = self.mbconv(layer, &block, wide, Some(sum));
                        self.free(sum);
                        y
                    }
                    None => sum,
                }
            }
            Some(((panels, bn), _)) if branches.pointwise => {
                self.pointwise(x, panels, layer.cout, layer.stride, bn, layer.activation, None, None)
            }
            Some((_, transform)) if branches.transform => self.transform(layer, transform, x, None),
            _ => {
                if let Some((fusing, parts)) = fusing {
                    let source = self.source_norm(&parts);
                    return self.fused(fusing, &parts, source, x, shortcut);
                }
                let (panels, bn) = (&block.expand, &block.expand_bn);
                let wide = self.pointwise(x, panels, layer.mid, 1, bn, layer.activation, None, None);
                self.mbconv(layer, &block, wide, shortcut)
            }
        }
    }

    /// An MBConv behind its expansion, which it consumes.
    fn mbconv(&mut self, layer: &Layer, block: &Block, wide: Map, residual: Option<Map>) -> Map {
        let shape = (layer.kernel, layer.stride);
        let squeeze = block.squeeze.zip(layer.squeeze);
        // Means of what recalibration makes here, the raw output, would be of no use.
        let means = (squeeze.is_some() && self.mode == Mode::Inference).then(|| self.features(wide.channels));
        let deep = self.depthwise(
            wide,
            (block.filter(layer.kernel), block.channels),
            shape,
            &block.depthwise_bn,
            layer.activation,
            means.map(|means| means.slot),
        );
        self.free(wide);
        let gate = squeeze.map(|(squeeze, hidden)| self.gate(means.unwrap_or(deep), &squeeze, hidden));
        means.into_iter().for_each(|means| self.free(means));
        let (panels, bn) = (&block.project, &block.project_bn);
        let y = self.pointwise(deep, panels, layer.cout, 1, bn, Activation::None, gate, residual);
        gate.into_iter().for_each(|gate| self.arena.give_back(gate));
        self.free(deep);
        y
    }
}
