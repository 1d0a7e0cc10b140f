//! The second half of lowering: calls for what was chosen, on an arena, for a number of images.
//!
//! An [`Emitter`] is the [`Visitor`] of inference and recalibration. In *inference* a batch norm is a scale and a shift
//! in the epilogue of its convolution. In *recalibration* each convolution writes its raw output, whose batch
//! statistics are reduced, averaged over batches, and used to normalise this batch.
//!
//! In 16 bits 1x1 convolutions are calls of their own operator on the rows behind the packed weights, and so are
//! parallel branches, one by one, and the layers of a head: its first leaves pooled features and no map, its last
//! logits in f32. `fuse.rs` has whole MBConvs, `passes.rs` those of recalibration, `parallel.rs` the branches beside
//! them, and `heads.rs` what is read.

use super::arena::Arena;
use super::build::{Builder, Epilogue, Map};
use super::choose::{Choice, How, Why};
use super::heads::{self, Outputs};
use super::lowering::{Lowering, Mode};
use super::mbconv::{Fused, MbconvParts};
use super::norms::{Norm, Norms};
use super::program::{Program, Reads};
use super::tree::Tree;
use super::{fuse, parallel, passes};
use crate::ops::halves::Format;
use crate::ops::{Call, Slot};
use crate::space::visit::{Convolution, Linear, Path, Squeeze, Visitor};
use crate::space::walk::{Exit, First, Layer, Part};
use crate::supernet::Layout;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The visitor of inference and recalibration.
struct Emitter<'a> {
    to: Lowering<'a>,
    tree: &'a Tree,
    norms: &'a Norms,
    outputs: Outputs,
    /// The node that runs, and how.
    node: usize,
    how: How,
    /// The leaves whose head runs.
    leaves: Vec<usize>,
}

/// What programs are made of.
pub(super) struct Source<'a> {
    pub layout: &'a Layout,
    pub tree: &'a Tree,
    pub norms: &'a Norms,
    pub choices: &'a [Choice],
    pub format: Option<Format>,
}

impl Source<'_> {
    /// The program for so many images.
    pub(super) fn program(&self, images: usize, mode: Mode, reads: Reads) -> Program {
        // Of a layer that is an MBConv, three; with their statistics, nine.
        let calls = self.choices.len() * if mode == Mode::Inference { 4 } else { 9 };
        self.emit(images, Some(Vec::with_capacity(calls)), mode, reads)
    }

    /// Elements of that program's arena. It makes no calls.
    pub(super) fn arena_len(&self, images: usize, mode: Mode, reads: Reads) -> usize {
        self.emit(images, None, mode, reads).arena_len
    }

    fn emit(&self, images: usize, calls: Option<Vec<Call>>, mode: Mode, reads: Reads) -> Program {
        let &Source { layout, tree, norms, choices, format } = self;
        let (arena, side) = (Arena::with_reserved(norms.reserved(mode)), tree.side);
        let mut build = Builder::new(layout, images, format, arena).with_calls(calls);
        let input = build.arena.take(images * side * side * 3);
        let outputs = Outputs::new(&mut build.arena, tree, images, layout.classes(), (mode, reads));
        let labels = outputs.labels;
        let (to, node, how, leaves) = (Lowering { build, mode }, 0, How::Operators, Vec::new());
        let mut emitter = Emitter { to, tree, norms, outputs, node, how, leaves };
        emitter.run(choices, Map::images(input, side));
        let Emitter { to: Lowering { mut build, .. }, outputs, .. } = emitter;
        if let Some(averages) = norms.averages(mode) {
            build.push(averages);
        }
        let (results, logits, scores) = outputs.finish();
        Program {
            logit_stride: logits.first().map_or(0, |slot| slot.len / images),
            calls: Arc::new(build.take_calls()),
            arena_len: build.arena.len(),
            images,
            side,
            input,
            labels,
            results,
            logits,
            scores,
        }
    }
}

impl Emitter<'_> {
    fn run(&mut self, choices: &[Choice], image: Map) {
        // Where the walk to each node stands, until it has run; and the outputs of those that ran together.
        let mut paths: Vec<Option<Path<Map>>> = vec![None; self.tree.nodes.len()];
        let mut ran: BTreeMap<usize, Map> = BTreeMap::new();
        self.tree.roots.iter().for_each(|&root| paths[root] = Some(Path::new(image)));
        for choice in choices {
            match choice {
                Choice::Layers(ids) => ran.extend(self.layers_together(ids, &paths)),
                Choice::Heads(ids) => {
                    let head = |&(id, _): &(usize, Why)| match (self.tree.nodes[id].part, paths[id]) {
                        (Part::Exit(exit), Some(path)) => Some((exit, path.x, self.norm(id, &exit.expand()))),
                        _ => None,
                    };
                    let heads: Vec<(Exit, Map, Norm)> = ids.iter().filter_map(head).collect();
                    passes::statistics_of_heads(&mut self.to, &heads);
                }
                Choice::Collected => {
                    for (exit, features, leaves) in self.outputs.take_collected(self.to.build.format) {
                        self.leaves = leaves;
                        self.behind_pool(&exit, features);
                    }
                }
                Choice::Node { id, .. } | Choice::Rest(id) => {
                    let Some(mut path) = paths[*id].take() else { continue };
                    match choice {
                        Choice::Node { how, .. } => self.step(*id, *how, &mut path),
                        _ => self.behind(*id, &mut path, ran.remove(id)),
                    }
                    self.keep(*id, &path);
                    let children = &self.tree.nodes[*id].children;
                    children.iter().for_each(|&child| paths[child] = Some(path));
                }
            }
        }
    }

    /// All that a node runs.
    fn step(&mut self, id: usize, how: How, path: &mut Path<Map>) {
        let node = &self.tree.nodes[id];
        (self.node, self.how, self.leaves) = (id, how, node.leaf.into_iter().collect());
        path.step(&node.part, self.tree.family, self);
    }

    /// What is left of a node whose layer has run, or whose head.
    fn behind(&mut self, id: usize, path: &mut Path<Map>, output: Option<Map>) {
        if let (Part::Layer(layer), Some(y)) = (self.tree.nodes[id].part, output) {
            path.enter(&layer, self);
            path.behind(&layer, y, self.tree.family.dense, self);
        }
    }

    /// Keeps the maps behind a node for all that grows from it; frees them where nothing does.
    fn keep(&mut self, id: usize, path: &Path<Map>) {
        let arena = &mut self.to.build.arena;
        match self.tree.nodes[id].children.len() {
            0 => path.maps().for_each(|map| arena.give_back(map.slot)),
            count => path.maps().for_each(|map| arena.share(map.slot, count - 1)),
        }
    }

    /// The outputs of layers whose MBConvs are one call.
    fn layers_together(&mut self, ids: &[(usize, Why)], paths: &[Option<Path<Map>>]) -> Vec<(usize, Map)> {
        let fused = ids.iter().filter_map(|&(id, _)| match (self.tree.nodes[id].part, paths[id]) {
            (Part::Layer(layer), Some(Path { x, .. })) => {
                Some(self.fused(id, MbconvParts::of(&layer), x, layer.shortcut.then_some(x)))
            }
            _ => None,
        });
        let fused: Vec<_> = fused.collect();
        let outputs = fuse::whole(&mut self.to, &fused);
        ids.iter().map(|&(id, _)| id).zip(outputs).collect()
    }

    /// The MBConv of the node that runs, as was chosen.
    fn mbconv_at_once(&mut self, parts: MbconvParts, x: Map, residual: Option<Map>) -> Map {
        let fused = self.fused(self.node, parts, x, residual);
        match self.how {
            How::Pair => fuse::pair(&mut self.to, &fused),
            _ => fuse::whole(&mut self.to, std::slice::from_ref(&fused)).remove(0),
        }
    }

    /// An MBConv that is to run on `x`, of a node.
    fn fused(&self, node: usize, parts: MbconvParts, x: Map, residual: Option<Map>) -> Fused {
        let norm = |what: &Convolution| self.norm(node, what);
        Fused {
            params: parts.params(self.to.build.layout, self.to.build.images, self.to.block_format()),
            source: parts.source.as_ref().map(norm),
            filter: norm(&parts.filter),
            project: norm(&parts.project),
            parts,
            x,
            residual,
        }
    }

    /// The batch norm behind a convolution of a node.
    fn norm(&self, node: usize, what: &Convolution) -> Norm {
        self.norms.of(self.to.build.layout, node, what, self.to.mode)
    }
}

impl Visitor for Emitter<'_> {
    type Map = Map;
    type Gate = Slot;

    fn classes(&self) -> usize {
        self.to.build.layout.classes()
    }

    fn convolution(&mut self, what: &Convolution, x: &Map, gate: Option<&Slot>, added: Option<&Map>) -> Map {
        let y = self.to.build.output(what);
        let norm = self.norm(self.node, what);
        let (gate, residual) = (gate.copied(), added.map(|map| map.slot));
        self.to.normalised(
            what,
            &norm,
            *x,
            y,
            Epilogue { gate, residual, activated: true, ..Epilogue::default() },
        );
        y
    }

    fn squeeze(&mut self, what: &Squeeze, x: &Map) -> Slot {
        self.to.build.squeeze((x.slot, x.format), x.side * x.side, what).gate
    }

    fn max_pool(&mut self, _layer: &Layer, x: &Map) -> Map {
        self.to.build.max_pool(*x).1
    }

    fn sum(&mut self, _layer: &Layer, terms: &[Map]) -> Map {
        self.to.build.sum(terms)
    }

    fn mean(&mut self, _exit: &Exit, x: &Map) -> Map {
        self.to.build.mean(*x).1
    }

    fn linear(&mut self, _exit: &Exit, what: &Linear, x: &Map) -> Map {
        let y = self.outputs.linear_place(&mut self.to.build, what, x.numbers() / x.channels);
        let (_, call) = self.to.build.linear(what, *x, y, true);
        self.to.build.push(call);
        y
    }

    fn logits(&mut self, _exit: &Exit, logits: Map) {
        self.outputs.found(&mut self.to.build, logits, &self.leaves);
    }

    fn release(&mut self, map: Map) {
        self.to.build.free(map);
    }

    fn release_gate(&mut self, gate: Slot) {
        self.to.build.give_back(gate);
    }

    fn first(&mut self, first: &First, image: &Map) -> Map {
        if self.how == How::Whole {
            return self.mbconv_at_once(MbconvParts::with_stem(first), *image, None);
        }
        let stem = self.convolution(&first.convolution(), image, None, None);
        let shortcut = first.shortcut().then_some(stem);
        let y = if self.how == How::BehindStem {
            self.mbconv_at_once(MbconvParts::behind_stem(first), stem, shortcut)
        } else {
            self.first_block(first, &stem)
        };
        self.to.build.free(stem);
        y
    }

    fn layer(&mut self, layer: &Layer, x: &Map) -> Map {
        let at_once = matches!(self.how, How::Whole | How::Pair);
        if layer.branches.count() == 1 {
            if !at_once {
                return self.branch_by_branch(layer, x);
            }
            return self.mbconv_at_once(MbconvParts::of(layer), *x, layer.shortcut.then_some(*x));
        }
        // What comes behind the expansion adds the sum of the branches beside it.
        let (wide, sum) = if self.how == How::Branches {
            let (norms, mode, layout, node) = (self.norms, self.to.mode, self.to.build.layout, self.node);
            let norm = |what: &Convolution| norms.of(layout, node, what, mode);
            parallel::branches(&mut self.to, layer, &norm, *x)
        } else {
            let expands = layer.branches.mbconv && !at_once;
            let wide = expands.then(|| self.convolution(&layer.expand(), x, None, None));
            let shortcut = (layer.branches.mbconv && layer.shortcut).then_some(x);
            (wide, self.beside(layer, x, shortcut).expect("a branch beside the MBConv"))
        };
        let y = match wide {
            Some(wide) => self.behind_expansion(layer, wide, Some(&sum)),
            None if at_once => self.mbconv_at_once(MbconvParts::of(layer), *x, Some(sum)),
            None => return sum,
        };
        self.to.build.free(sum);
        y
    }

    fn filtered(&mut self, layer: &Layer, wide: Map) -> (Map, Option<Slot>) {
        let (what, squeeze) = (layer.filter(), layer.squeeze_excite());
        // Means of what recalibration makes here, the raw output, would be of no use.
        let wanted = squeeze.is_some() && self.to.mode == Mode::Inference;
        let means = wanted.then(|| self.to.build.features(wide.channels));
        let deep = self.to.build.output(&what);
        let norm = self.norm(self.node, &what);
        let then = Epilogue { means: means.map(|means| means.slot), activated: true, ..Epilogue::default() };
        self.to.normalised(&what, &norm, wide, deep, then);
        self.to.build.free(wide);
        let gate = squeeze.map(|what| self.squeeze(&what, &means.unwrap_or(deep)));
        means.into_iter().for_each(|means| self.to.build.free(means));
        (deep, gate)
    }

    fn exit(&mut self, exit: &Exit, x: &Map) {
        let norm = self.norm(self.node, &exit.expand());
        let head = (exit, &norm);
        match (self.to.mode, self.how, &self.leaves[..]) {
            (Mode::Recalibration { .. }, ..) => heads::statistics(&mut self.to, head, *x),
            (_, How::Collected, &[leaf]) => self.outputs.collect(&mut self.to, self.tree, head, *x, leaf),
            _ if self.to.build.format.is_none() => self.head(exit, x),
            _ => {
                let pooled = self.to.build.map(1, exit.head.expand);
                heads::pooled(&mut self.to, head, *x, pooled);
                self.behind_pool(exit, pooled);
            }
        }
    }
}
