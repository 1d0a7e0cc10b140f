//! A sub-network lowered to calls.
//!
//! The lowering follows the walk of the architecture and writes each layer down as calls on the
//! arena. It exists in two modes. In *inference* a batch norm is a scale and a shift in the epilogue
//! of its convolution. In *recalibration* each convolution writes its raw output, whose batch
//! statistics are reduced, averaged over batches, and used to normalise this batch.
//!
//! A network's batch norms share one *section*: for each, in walk order, the averaged mean and
//! variance and the folded scale and shift. The section is at the start of the arena of the pass
//! that fills it (recalibration, or folding the stored statistics), and inference reads it there
//! as [`Region::Network`].

use super::arena::Arena;
use crate::ops::batch_norm::{ApplyParams, BnApply, BnFold, BnStatistics, FoldParams, StatisticsParams};
use crate::ops::branches::{self, Branch, Branches};
use crate::ops::depthwise::{self, Depthwise};
use crate::ops::pointwise::{self, Pointwise};
use crate::ops::pool::{self, GlobalPool, MaxPool};
use crate::ops::score::{self, Score};
use crate::ops::squeeze_excite::{self, SqueezeExcite};
use crate::ops::stem::{self, Stem};
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Region, Slot, Work};
use crate::space::Arch;
use crate::space::backbone::strided;
use crate::space::walk::{Exits, Layer, dense_terms, walk};
use crate::supernet::{BatchNorm, Block, HeadLayout, Layout, Panels, Transform};

/// Added to variances, as everywhere in this family of networks.
pub const BN_EPSILON: f32 = 1e-5;

/// What a list of calls is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Batch norms are folded; reads the section of an earlier pass.
    Inference,
    /// Batch statistics, averaged over this many batches; fills the section.
    Recalibration {
        /// Batches that will be run.
        batches: usize,
    },
}

/// A list of calls on one arena, for a fixed number of images.
#[derive(Debug, Clone)]
pub struct Program {
    /// What to run.
    pub calls: Vec<Call>,
    /// Scoring of every exit, to be run behind `calls` where there are labels.
    pub scoring: Vec<Call>,
    /// Elements of the arena.
    pub arena_len: usize,
    /// Images of a run.
    pub images: usize,
    /// Side of the images.
    pub side: usize,
    /// Where the images go: `[images, side, side, 3]`.
    pub input: Slot,
    /// Where labels go: `[images]`.
    pub labels: Slot,
    /// Logits of every exit read, `[images, stride]` with [`Program::logit_stride`].
    pub logits: Vec<Slot>,
    /// Scores of every exit read, `[images, 2]`.
    pub scores: Vec<Slot>,
    /// Elements from one image's logits to the next's.
    pub logit_stride: usize,
}

impl Program {
    /// Bytes and FLOPs of one run.
    pub fn work(&self) -> Work {
        self.calls.iter().map(Call::work).fold(Work::default(), |sum, work| Work {
            bytes: sum.bytes + work.bytes,
            flops: sum.flops + work.flops,
        })
    }
}

/// The batch norms of a network: the size of their section and how it is filled at the end.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Elements.
    pub len: usize,
    /// Folds the checkpoint's running statistics; the section is the arena.
    pub stored: Vec<Call>,
    /// Folds the averages that recalibration has left; its arena is the arena.
    pub averaged: Vec<Call>,
}

/// Lowers `arch`, read at `exits`, for `images` images at a time.
///
/// The last exit bounds the network. The layout must have the parts that the architecture's family
/// needs, which a [`Supernet`](crate::supernet::Supernet) of that family does.
pub fn lower(layout: &Layout, arch: &Arch, exits: Exits, images: usize, mode: Mode) -> (Program, Section) {
    let section = match mode {
        Mode::Inference => 0,
        // Inference lays out the same section, so its length is known before anything is placed.
        Mode::Recalibration { .. } => lower(layout, arch, exits, 1, Mode::Inference).1.len,
    };
    let mut lowering = Lowering {
        layout,
        mode,
        images,
        arena: Arena::with_reserved(section),
        calls: Vec::new(),
        section: Section::default(),
    };
    let program = lowering.network(arch, exits);
    (program, lowering.section)
}

struct Lowering<'a> {
    layout: &'a Layout,
    mode: Mode,
    images: usize,
    arena: Arena,
    calls: Vec<Call>,
    section: Section,
}

/// A feature map: where it is and its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Map {
    slot: Slot,
    side: usize,
    channels: usize,
}

/// A batch norm of the network being lowered.
struct Norm {
    channels: usize,
    gamma: Slot,
    beta: Slot,
    /// Average in the arena of recalibration: mean and variance.
    average: Slot,
    /// Scale and shift as inference reads them.
    scale: Slot,
    shift: Slot,
}

impl Lowering<'_> {
    fn network(&mut self, arch: &Arch, exits: Exits) -> Program {
        let channels = *self.layout.channels();
        let side = arch.r as usize;
        let input = self.arena.take(self.images * side * side * 3);
        let labels = self.arena.take(self.images);
        let image = Map { slot: input, side, channels: 3 };
        let mut x = self.first_layers(image);
        let (mut logits, mut scores, mut scoring) = (Vec::new(), Vec::new(), Vec::new());
        let layers: Vec<Layer> = walk(&channels, arch).filter(|l| l.stage <= exits.last()).collect();
        for stage in layers.chunk_by(|a, b| a.stage == b.stage) {
            x = self.stage(stage, x, arch.family.dense);
            if exits.contains(stage[0].stage) {
                let head = match arch.family.early_exits {
                    true => self.layout.exits[stage[0].stage],
                    false => self.layout.head.expect("a super-network of an SE family has its head"),
                };
                let out = self.head(&head, x);
                let score = self.arena.take(self.images * 2);
                let params = score::Params {
                    images: self.images as u32,
                    classes: self.layout.classes() as u32,
                    stride: (out.len / self.images) as u32,
                };
                scoring.push(Call::from(Score { params, logits: out, labels, out: score }));
                logits.push(out);
                scores.push(score);
            }
        }
        Program {
            calls: std::mem::take(&mut self.calls),
            scoring,
            arena_len: self.arena.len(),
            images: self.images,
            side,
            input,
            labels,
            logit_stride: logits.first().map_or(0, |slot| slot.len / self.images),
            logits,
            scores,
        }
    }

    fn map(&mut self, side: usize, channels: usize) -> Map {
        debug_assert!(channels.is_multiple_of(8), "kernels vectorise over groups of 8 channels");
        Map { slot: self.arena.take(self.images * side * side * channels), side, channels }
    }

    fn free(&mut self, map: Map) {
        self.arena.give_back(map.slot);
    }

    /// Stem and the fixed first block.
    fn first_layers(&mut self, image: Map) -> Map {
        let (layout, channels) = (self.layout, *self.layout.channels());
        let stem = self.map(strided(image.side, 2), channels.stem);
        let norm = self.norm(&layout.first.stem_bn, channels.stem, None);
        self.normalised(stem, &norm, Activation::HSwish, None, |folded, images| {
            Call::from(Stem {
                params: stem::Params {
                    images,
                    side_in: image.side as u32,
                    side_out: stem.side as u32,
                    cout: channels.stem as u32,
                    activation: folded.activation as u32,
                },
                x: image.slot,
                w: Slot::weights(layout.first.stem, 27 * channels.stem),
                scale: folded.scale,
                shift: folded.shift,
                y: stem.slot,
            })
        });
        let weights = Slot::weights(layout.first.depthwise, 9 * channels.stem);
        let hidden = self.depthwise(
            stem,
            weights,
            channels.stem,
            (3, 1),
            &layout.first.depthwise_bn,
            Activation::Relu,
        );
        let shortcut = (channels.stem == channels.first).then_some(stem);
        let (panels, bn) = (&layout.first.project, &layout.first.project_bn);
        let out = self.pointwise(hidden, panels, channels.first, 1, bn, Activation::None, None, shortcut);
        self.free(hidden);
        self.free(stem);
        out
    }

    /// The layers of a stage, with dense skips where the family has them. Consumes `x`.
    fn stage(&mut self, layers: &[Layer], x: Map, dense: bool) -> Map {
        let mut outputs: Vec<Map> = Vec::new();
        let mut input = x;
        for (position, layer) in layers.iter().enumerate() {
            let y = self.layer(layer, input);
            // The input is needed no more, unless it is an output that a later skip adds.
            let kept = dense && position > 0 && position <= 2;
            if !kept {
                self.free(input);
            }
            input = y;
            let k = position + 1;
            if dense && k >= 3 {
                let sum = self.map(y.side, y.channels);
                let terms: Vec<Slot> =
                    std::iter::once(y.slot).chain(dense_terms(k).map(|j| outputs[j - 1].slot)).collect();
                let params = sum::Params { len: y.slot.len as u32, terms: terms.len() as u32 };
                self.calls.push(Call::from(Sum { params, x: terms, y: sum.slot }));
                self.free(y);
                input = sum;
            }
            outputs.push(input);
        }
        if dense {
            // y1 and y2 where they were kept for skips and are not the stage's output.
            for &output in outputs.iter().take(layers.len().saturating_sub(1).min(2)) {
                self.free(output);
            }
        }
        input
    }

    /// One elastic layer: the sum of its branches.
    fn layer(&mut self, layer: &Layer, x: Map) -> Map {
        let block = self.layout.blocks[layer.index];
        let branches = layer.branches;
        let shortcut = layer.shortcut.then_some(x);
        let running = [branches.mbconv, branches.pointwise, branches.transform];
        match &block.parallel {
            Some(parallel) if running.iter().filter(|&&runs| runs).count() > 1 => {
                let (wide, sum) = self.branches(layer, &block, parallel, x);
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
            Some((_, transform)) if branches.transform => {
                let pooled = (layer.stride > 1).then(|| self.max_pool(x));
                let from = pooled.unwrap_or(x);
                let y = match &transform.conv {
                    Some((panels, bias)) => {
                        let bias = Slot::weights(*bias, layer.cout);
                        self.biased_pointwise(from, panels, bias, &transform.bn, layer.activation)
                    }
                    None => self.normalise_copy(from, &transform.bn, layer.activation),
                };
                pooled.into_iter().for_each(|map| self.free(map));
                y
            }
            _ => {
                let (panels, bn) = (&block.expand, &block.expand_bn);
                let wide = self.pointwise(x, panels, layer.mid, 1, bn, layer.activation, None, None);
                self.mbconv(layer, &block, wide, shortcut)
            }
        }
    }

    /// An MBConv behind its expansion, which it consumes.
    fn mbconv(&mut self, layer: &Layer, block: &Block, wide: Map, residual: Option<Map>) -> Map {
        let size = layer.kernel * layer.kernel;
        let filter = Slot::weights(block.depthwise[(layer.kernel - 3) / 2], size * block.channels);
        let shape = (layer.kernel, layer.stride);
        let deep = self.depthwise(wide, filter, block.channels, shape, &block.depthwise_bn, layer.activation);
        self.free(wide);
        let gate = match (block.squeeze, layer.squeeze) {
            (Some(squeeze), Some(hidden)) => Some(self.gate(deep, &squeeze, hidden)),
            _ => None,
        };
        let (panels, bn) = (&block.project, &block.project_bn);
        let y = self.pointwise(deep, panels, layer.cout, 1, bn, Activation::None, gate, residual);
        gate.into_iter().for_each(|gate| self.arena.give_back(gate));
        self.free(deep);
        y
    }

    /// The branches that read the layer's input, from one pass over it: the map that the expansion
    /// makes, where the MBConv runs, and the sum of the others with the MBConv's shortcut. The map of
    /// the sum is there even where nothing goes into it but one branch.
    fn branches(
        &mut self,
        layer: &Layer,
        block: &Block,
        ((panels, bn), transform): &((Panels, BatchNorm), Transform),
        x: Map,
    ) -> (Option<Map>, Map) {
        let Layer { mid, cout, stride, .. } = *layer;
        let side_out = strided(x.side, stride);
        let shortcut = layer.branches.mbconv && layer.shortcut;
        let expand = layer.branches.mbconv.then(|| {
            (
                self.map(x.side, mid),
                self.norm(&block.expand_bn, mid, None),
                Some(block.expand.prefix(mid)),
                None,
            )
        });
        let inference = self.mode == Mode::Inference;
        let sum = inference.then(|| self.map(side_out, cout));
        // In recalibration a branch has a place of its own, for its statistics.
        let mut place = || sum.unwrap_or_else(|| self.map(side_out, cout));
        let places = [layer.branches.pointwise, layer.branches.transform].map(|runs| runs.then(&mut place));
        let pointwise = places[0].map(|y| (y, self.norm(bn, cout, None), Some(panels.prefix(cout)), None));
        let transform = places[1].map(|y| {
            let bias = transform.conv.map(|(_, bias)| Slot::weights(bias, cout));
            let w = transform.conv.map(|(panels, _)| panels.prefix(cout));
            (y, self.norm(&transform.bn, cout, bias), w, bias)
        });
        let branch = |(y, norm, w, bias): &(Map, Norm, Option<Slot>, Option<Slot>)| Branch {
            w: *w,
            scale: inference.then_some(norm.scale),
            // Folding has put the bias into the shift; a raw output has it here.
            shift: if inference { Some(norm.shift) } else { *bias },
            y: (Some(*y) != sum).then_some(y.slot),
        };
        // Raw, and with nothing to pool or to convolve, the branch's output is the input.
        let as_it_is =
            |(_, _, w, _): &(Map, Norm, Option<Slot>, Option<Slot>)| !inference && w.is_none() && stride == 1;
        let activation = if inference { layer.activation } else { Activation::None };
        self.calls.push(Call::from(Branches {
            params: branches::Params {
                images: self.images as u32,
                side_in: x.side as u32,
                side_out: side_out as u32,
                cin: x.channels as u32,
                mid: mid as u32,
                cout: cout as u32,
                stride: stride as u32,
                activation: activation as u32,
                shortcut: u32::from(shortcut && inference),
            },
            x: x.slot,
            expand: expand.as_ref().map(branch),
            pointwise: pointwise.as_ref().map(branch),
            transform: transform.as_ref().filter(|parts| !as_it_is(parts)).map(branch),
            sum: sum.map(|map| map.slot),
        }));
        let wide = expand.as_ref().map(|(wide, ..)| *wide);
        let Mode::Recalibration { batches } = self.mode else {
            return (wide, sum.expect("inference has the sum's place"));
        };
        if let Some((y, norm, ..)) = &expand {
            let (scale, shift) = self.batch_fold(*y, norm, batches);
            self.apply(y.slot, *y, scale, shift, layer.activation, None);
        }
        let mut sum = if shortcut { Some(x) } else { None };
        for parts in pointwise.iter().chain(&transform) {
            let (y, norm, ..) = parts;
            let raw = if as_it_is(parts) { x } else { *y };
            let (scale, shift) = self.batch_fold(raw, norm, batches);
            self.apply(raw.slot, *y, scale, shift, layer.activation, sum.map(|map| map.slot));
            sum.replace(*y).filter(|before| *before != x).into_iter().for_each(|before| self.free(before));
        }
        (wide, sum.expect("a branch beside the MBConv"))
    }

    fn head(&mut self, head: &HeadLayout, x: Map) -> Slot {
        let shape = head.head;
        let bn = &head.expand_bn;
        let wide = self.pointwise(x, &head.expand, shape.expand, 1, bn, Activation::HSwish, None, None);
        let pooled = self.map(1, shape.expand);
        self.calls.push(Call::from(GlobalPool {
            params: self.pool_params(wide, pooled),
            x: wide.slot,
            y: pooled.slot,
        }));
        self.free(wide);
        let mixed = self.linear(pooled, &head.mix, shape.mix, None, Activation::HSwish);
        self.free(pooled);
        let logits = head.classifier.cout;
        let bias = Slot::weights(head.classifier_bias, logits);
        let out = self.linear(mixed, &head.classifier, logits, Some(bias), Activation::None);
        self.free(mixed);
        out.slot
    }

    /// A matrix product on pooled features, without batch norm.
    fn linear(
        &mut self,
        x: Map,
        w: &Panels,
        cout: usize,
        shift: Option<Slot>,
        activation: Activation,
    ) -> Map {
        let y = self.map(1, cout);
        self.calls.push(Call::from(Pointwise {
            params: self.pointwise_params(x, y, w, 1, activation),
            x: x.slot,
            w: w.prefix(cout),
            scale: None,
            shift,
            gate: None,
            residual: None,
            y: y.slot,
        }));
        y
    }

    fn gate(&mut self, x: Map, squeeze: &crate::supernet::Squeeze, hidden: usize) -> Slot {
        let gate = self.arena.take(self.images * x.channels);
        self.calls.push(Call::from(SqueezeExcite {
            params: squeeze_excite::Params {
                images: self.images as u32,
                pixels: (x.side * x.side) as u32,
                channels: x.channels as u32,
                hidden: hidden as u32,
                weight_channels: squeeze.reduce.cin as u32,
                weight_hidden: squeeze.expand.cin as u32,
            },
            x: x.slot,
            reduce: squeeze.reduce.prefix(hidden),
            reduce_bias: Slot::weights(squeeze.reduce_bias, hidden),
            expand: squeeze.expand.prefix(x.channels),
            expand_bias: Slot::weights(squeeze.expand_bias, x.channels),
            gate,
        }));
        gate
    }

    fn max_pool(&mut self, x: Map) -> Map {
        let y = self.map(strided(x.side, 2), x.channels);
        self.calls.push(Call::from(MaxPool { params: self.pool_params(x, y), x: x.slot, y: y.slot }));
        y
    }

    fn pool_params(&self, x: Map, y: Map) -> pool::Params {
        pool::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: y.side as u32,
            channels: x.channels as u32,
        }
    }

    fn pointwise_params(
        &self,
        x: Map,
        y: Map,
        w: &Panels,
        stride: usize,
        act: Activation,
    ) -> pointwise::Params {
        pointwise::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: y.side as u32,
            cin: x.channels as u32,
            cout: y.channels as u32,
            weight_cin: w.cin as u32,
            stride: stride as u32,
            activation: act as u32,
        }
    }

    /// 1x1 convolution, batch norm, activation, sum.
    #[allow(clippy::too_many_arguments)]
    fn pointwise(
        &mut self,
        x: Map,
        w: &Panels,
        cout: usize,
        stride: usize,
        bn: &BatchNorm,
        activation: Activation,
        gate: Option<Slot>,
        residual: Option<Map>,
    ) -> Map {
        let y = self.map(strided(x.side, stride), cout);
        let norm = self.norm(bn, cout, None);
        let params = self.pointwise_params(x, y, w, stride, activation);
        self.normalised(y, &norm, activation, residual.map(|map| map.slot), |folded, _| {
            Call::from(Pointwise {
                params: pointwise::Params { activation: folded.activation as u32, ..params },
                x: x.slot,
                w: w.prefix(cout),
                scale: folded.scale,
                shift: folded.shift,
                gate,
                residual: folded.residual,
                y: y.slot,
            })
        });
        y
    }

    /// The transform branch's convolution, which has a bias in front of its batch norm.
    fn biased_pointwise(
        &mut self,
        x: Map,
        w: &Panels,
        bias: Slot,
        bn: &BatchNorm,
        activation: Activation,
    ) -> Map {
        let y = self.map(x.side, w.cout);
        let norm = self.norm(bn, w.cout, Some(bias));
        let params = self.pointwise_params(x, y, w, 1, activation);
        self.normalised(y, &norm, activation, None, |folded, _| {
            Call::from(Pointwise {
                params: pointwise::Params { activation: folded.activation as u32, ..params },
                x: x.slot,
                w: w.prefix(w.cout),
                scale: folded.scale,
                // Folding has put the bias into the shift; a raw output has it here.
                shift: folded.shift.or(Some(bias)),
                gate: None,
                residual: folded.residual,
                y: y.slot,
            })
        });
        y
    }

    fn depthwise(
        &mut self,
        x: Map,
        w: Slot,
        stored: usize,
        (kernel, stride): (usize, usize),
        bn: &BatchNorm,
        activation: Activation,
    ) -> Map {
        let y = self.map(strided(x.side, stride), x.channels);
        let norm = self.norm(bn, x.channels, None);
        self.normalised(y, &norm, activation, None, |folded, images| {
            Call::from(Depthwise {
                params: depthwise::Params {
                    images,
                    side_in: x.side as u32,
                    side_out: y.side as u32,
                    channels: x.channels as u32,
                    weight_channels: stored as u32,
                    kernel: kernel as u32,
                    stride: stride as u32,
                    activation: folded.activation as u32,
                },
                x: x.slot,
                w,
                scale: folded.scale,
                shift: folded.shift,
                y: y.slot,
            })
        });
        y
    }

    /// The transform branch where there is nothing to convolve: batch norm and activation of `x`.
    fn normalise_copy(&mut self, x: Map, bn: &BatchNorm, activation: Activation) -> Map {
        let y = self.map(x.side, x.channels);
        let norm = self.norm(bn, x.channels, None);
        let (scale, shift) = match self.mode {
            Mode::Inference => (norm.scale, norm.shift),
            Mode::Recalibration { batches } => self.batch_fold(x, &norm, batches),
        };
        self.apply(x.slot, y, scale, shift, activation, None);
        y
    }

    /// Registers a batch norm: its place in the section, and how both kinds of statistics are folded
    /// into it. `bias` is that of the convolution before.
    fn norm(&mut self, bn: &BatchNorm, channels: usize, bias: Option<Slot>) -> Norm {
        let base = self.section.len;
        self.section.len += 4 * channels;
        let place = |region: Region, index: usize, len: usize| Slot {
            region,
            offset: base + index * channels,
            len: len * channels,
        };
        let weights = |offset: usize| Slot::weights(offset, channels);
        let fold = |mean: Slot, variance: Slot| {
            Call::from(BnFold {
                params: FoldParams { channels: channels as u32, epsilon: BN_EPSILON },
                gamma: weights(bn.gamma),
                beta: weights(bn.beta),
                mean,
                variance,
                bias,
                scale: place(Region::Arena, 2, 1),
                shift: place(Region::Arena, 3, 1),
            })
        };
        self.section.stored.push(fold(weights(bn.mean), weights(bn.variance)));
        self.section.averaged.push(fold(place(Region::Arena, 0, 1), place(Region::Arena, 1, 1)));
        Norm {
            channels,
            gamma: weights(bn.gamma),
            beta: weights(bn.beta),
            average: place(Region::Arena, 0, 2),
            scale: place(Region::Network, 2, 1),
            shift: place(Region::Network, 3, 1),
        }
    }

    /// A convolution with its batch norm: folded into its epilogue in inference; in recalibration the
    /// raw convolution, and statistics and application behind it.
    fn normalised(
        &mut self,
        y: Map,
        norm: &Norm,
        activation: Activation,
        residual: Option<Slot>,
        convolution: impl FnOnce(Folded, u32) -> Call,
    ) {
        let images = self.images as u32;
        match self.mode {
            Mode::Inference => {
                let folded =
                    Folded { activation, scale: Some(norm.scale), shift: Some(norm.shift), residual };
                self.calls.push(convolution(folded, images));
            }
            Mode::Recalibration { batches } => {
                let raw = Folded { activation: Activation::None, scale: None, shift: None, residual: None };
                self.calls.push(convolution(raw, images));
                let (scale, shift) = self.batch_fold(y, norm, batches);
                self.apply(y.slot, y, scale, shift, activation, residual);
            }
        }
    }

    /// Statistics of `x`, averaged into the section, and the scale and shift of this batch. The
    /// scratch places are given back at once: calls run in order, and the next to take them comes
    /// behind the application.
    fn batch_fold(&mut self, x: Map, norm: &Norm, batches: usize) -> (Slot, Slot) {
        let (rows, channels) = (self.images * x.side * x.side, norm.channels);
        let partials = self.arena.take(BnStatistics::partials_len(rows, channels));
        let batch = self.arena.take(2 * channels);
        let folded = self.arena.take(2 * channels);
        self.calls.push(Call::from(BnStatistics {
            params: StatisticsParams {
                rows: rows as u32,
                channels: channels as u32,
                weight: 1.0 / batches as f32,
            },
            x: x.slot,
            partials,
            batch,
            average: norm.average,
        }));
        let (scale, shift) = (folded.part(0, channels), folded.part(channels, channels));
        self.calls.push(Call::from(BnFold {
            params: FoldParams { channels: channels as u32, epsilon: BN_EPSILON },
            gamma: norm.gamma,
            beta: norm.beta,
            mean: batch.part(0, channels),
            variance: batch.part(channels, channels),
            bias: None,
            scale,
            shift,
        }));
        [partials, batch, folded].into_iter().for_each(|slot| self.arena.give_back(slot));
        (scale, shift)
    }

    fn apply(
        &mut self,
        x: Slot,
        y: Map,
        scale: Slot,
        shift: Slot,
        activation: Activation,
        residual: Option<Slot>,
    ) {
        self.calls.push(Call::from(BnApply {
            params: ApplyParams {
                rows: (self.images * y.side * y.side) as u32,
                channels: y.channels as u32,
                activation: activation as u32,
            },
            x,
            scale,
            shift,
            residual,
            y: y.slot,
        }));
    }
}

/// What a convolution's epilogue does.
struct Folded {
    activation: Activation,
    scale: Option<Slot>,
    shift: Option<Slot>,
    residual: Option<Slot>,
}
