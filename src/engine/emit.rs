//! Single calls of a plan: shapes to parameters, and batch norms folded or measured.

use super::plan::{BN_EPSILON, Lowering, Map, Mode};
use crate::ops::batch_norm::{
    ApplyParams, Average, AverageParams, BatchFold, BnApply, BnStatistics, Fold, FoldParams, StatisticsParams,
};
use crate::ops::depthwise::{self, Depthwise};
use crate::ops::halves::{Format, number};
use crate::ops::pointwise::{self, Pointwise};
use crate::ops::pointwise_half::{self, PointwiseHalf};
use crate::ops::pool::{self, MaxPool};
use crate::ops::squeeze_excite::{self, SqueezeExcite};
use crate::ops::{Activation, Call, Region, Slot};
use crate::space::backbone::strided;
use crate::supernet::{BatchNorm, Layout, Panels, Squeeze};

/// A batch norm of the network being lowered.
pub(super) struct Norm {
    channels: usize,
    pub(super) gamma: Slot,
    pub(super) beta: Slot,
    /// Average in the arena of recalibration: mean and variance.
    average: Slot,
    /// There too, of each batch.
    pub(super) batch: Slot,
    /// Scale and shift as inference reads them.
    pub(super) scale: Slot,
    pub(super) shift: Slot,
}

impl Lowering<'_> {
    /// A matrix product on pooled features, to `y`, without batch norm.
    pub(super) fn linear(&mut self, x: Map, w: &Panels, shift: Option<Slot>, activation: Activation, y: Map) {
        let product = Product { x, w, y, stride: 1, bias: shift, gate: None, pooled: false };
        let folded = Folded { activation, ..Folded::raw() };
        self.calls.push(product.call(self.layout, self.images as u32, folded));
    }

    /// 1x1 convolution of a 16-bit map in inference, batch norm, activation, and of all that its means.
    pub(super) fn pooled_pointwise(
        &mut self,
        x: Map,
        w: &Panels,
        bn: &BatchNorm,
        activation: Activation,
        y: Map,
    ) {
        let norm = self.norm(bn, y.channels, None);
        let product = Product { x, w, y, stride: 1, bias: None, gate: None, pooled: true };
        let folded = Folded { activation, scale: Some(norm.scale), shift: Some(norm.shift), residual: None };
        self.calls.push(product.call(self.layout, self.images as u32, folded));
    }

    /// The gate of a map's channels, from the map, or from its means: a map of one pixel.
    pub(super) fn gate(&mut self, x: Map, squeeze: &Squeeze, hidden: usize) -> Slot {
        self.gate_of((x.slot, x.format), (x.side * x.side, x.channels), squeeze, hidden)
    }

    /// The gate of a map of so many pixels and channels, which need not be square.
    pub(super) fn gate_of(
        &mut self,
        (x, format): (Slot, Option<Format>),
        (pixels, channels): (usize, usize),
        squeeze: &Squeeze,
        hidden: usize,
    ) -> Slot {
        let gate = self.arena.take(self.images * channels);
        self.calls.push(Call::from(SqueezeExcite {
            params: squeeze_excite::Params {
                images: self.images as u32,
                pixels: pixels as u32,
                channels: channels as u32,
                hidden: hidden as u32,
                weight_channels: squeeze.reduce.cin as u32,
                weight_hidden: squeeze.expand.cin as u32,
                format: number(format),
            },
            x,
            reduce: squeeze.reduce.prefix(hidden),
            reduce_bias: Slot::weights(squeeze.reduce_bias, hidden),
            expand: squeeze.expand.prefix(channels),
            expand_bias: Slot::weights(squeeze.expand_bias, channels),
            gate,
        }));
        gate
    }

    pub(super) fn max_pool(&mut self, x: Map) -> Map {
        let y = self.map(strided(x.side, 2), x.channels);
        self.calls.push(Call::from(MaxPool { params: self.pool_params(x, y), x: x.slot, y: y.slot }));
        y
    }

    pub(super) fn pool_params(&self, x: Map, y: Map) -> pool::Params {
        pool::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: y.side as u32,
            channels: x.channels as u32,
            format: number(x.format),
        }
    }

    /// 1x1 convolution, batch norm, activation, sum.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn pointwise(
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
        let (layout, product) = (self.layout, Product { x, w, y, stride, bias: None, gate, pooled: false });
        let residual = residual.map(|map| map.slot);
        self.normalised(y, &norm, activation, residual, |folded, images| {
            product.call(layout, images, folded)
        });
        y
    }

    /// The transform branch's convolution, which has a bias in front of its batch norm.
    pub(super) fn biased_pointwise(
        &mut self,
        x: Map,
        w: &Panels,
        bias: Slot,
        bn: &BatchNorm,
        activation: Activation,
        residual: Option<Map>,
    ) -> Map {
        let y = self.map(x.side, w.cout);
        let norm = self.norm(bn, w.cout, Some(bias));
        let product = Product { x, w, y, stride: 1, bias: Some(bias), gate: None, pooled: false };
        let layout = self.layout;
        let residual = residual.map(|map| map.slot);
        self.normalised(y, &norm, activation, residual, |folded, images| {
            product.call(layout, images, folded)
        });
        y
    }

    /// Depthwise convolution with filters of `stored` channels, batch norm, activation; the means of
    /// its channels to `pool`.
    pub(super) fn depthwise(
        &mut self,
        x: Map,
        (w, stored): (Slot, usize),
        (kernel, stride): (usize, usize),
        bn: &BatchNorm,
        activation: Activation,
        pool: Option<Slot>,
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
                    format: number(y.format),
                },
                x: x.slot,
                w,
                scale: folded.scale,
                shift: folded.shift,
                y: y.slot,
                pool,
            })
        });
        y
    }

    /// The transform branch where there is nothing to convolve: batch norm and activation of `x`.
    pub(super) fn normalise_copy(
        &mut self,
        x: Map,
        bn: &BatchNorm,
        activation: Activation,
        residual: Option<Map>,
    ) -> Map {
        let y = self.map(x.side, x.channels);
        let norm = self.norm(bn, x.channels, None);
        let (scale, shift) = match self.mode {
            Mode::Inference => (norm.scale, norm.shift),
            Mode::Recalibration { batches, .. } => self.batch_fold(x, &norm, batches),
        };
        self.apply(x.slot, y, scale, shift, activation, residual.map(|map| map.slot));
        y
    }

    /// Registers a batch norm: its place in the section, and how both kinds of statistics are folded
    /// into it. `bias` is that of the convolution before.
    pub(super) fn norm(&mut self, bn: &BatchNorm, channels: usize, bias: Option<Slot>) -> Norm {
        let base = self.next_norm;
        self.next_norm += 4 * channels;
        self.section.len = self.section.len.max(self.next_norm);
        let place = |region: Region, index: usize, len: usize| Slot {
            region,
            offset: base + index * channels,
            len: len * channels,
        };
        let weights = |offset: usize| Slot::weights(offset, channels);
        let fold = |mean: Slot, variance: Slot| Fold {
            params: FoldParams { channels: channels as u32, epsilon: BN_EPSILON },
            gamma: weights(bn.gamma),
            beta: weights(bn.beta),
            mean,
            variance,
            bias,
            scale: place(Region::Arena, 2, 1),
            shift: place(Region::Arena, 3, 1),
        };
        self.section.stored.calls.push(fold(weights(bn.mean), weights(bn.variance)));
        self.section.averaged.calls.push(fold(place(Region::Arena, 0, 1), place(Region::Arena, 1, 1)));
        Norm {
            channels,
            gamma: weights(bn.gamma),
            beta: weights(bn.beta),
            average: place(Region::Arena, 0, 2),
            batch: Slot {
                region: Region::Arena,
                offset: self.batches_at + base / 2 * self.at_once(),
                len: 2 * channels * self.at_once(),
            },
            scale: place(Region::Network, 2, 1),
            shift: place(Region::Network, 3, 1),
        }
    }

    /// A convolution with its batch norm: folded into its epilogue in inference; in recalibration the
    /// raw convolution, and statistics and application behind it.
    pub(super) fn normalised(
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
            Mode::Recalibration { batches, .. } => {
                self.calls.push(convolution(Folded::raw(), images));
                let (scale, shift) = self.batch_fold(y, norm, batches);
                self.apply(y.slot, y, scale, shift, activation, residual);
            }
        }
    }

    /// Statistics of `x`, averaged into the section: all that a batch norm needs of whose output
    /// nothing else is made. The scratch places are given back at once: calls run in order.
    pub(super) fn batch_statistics(&mut self, x: Map, norm: &Norm, batches: usize, fold: Option<BatchFold>) {
        let (rows, channels) = (self.batch_rows(x), norm.channels);
        let partials = self.arena.take(BnStatistics::partials_len(self.at_once(), rows, channels));
        self.calls.push(Call::from(BnStatistics {
            params: StatisticsParams {
                rows: rows as u32,
                channels: channels as u32,
                batches: self.at_once() as u32,
                epsilon: BN_EPSILON,
                format: number(x.format),
            },
            x: x.slot,
            partials,
            batch: norm.batch,
            fold,
        }));
        self.arena.give_back(partials);
        self.average(norm, batches);
    }

    /// Averages the batches' statistics into the section, in the end.
    pub(super) fn average(&mut self, norm: &Norm, batches: usize) {
        let params = AverageParams {
            length: 2 * norm.channels as u32,
            batches: self.at_once() as u32,
            weight: 1.0 / batches as f32,
        };
        self.averages.calls.push(Average { params, batch: norm.batch, average: norm.average });
    }

    /// Images of a batch.
    pub(super) fn batch_images(&self) -> u32 {
        (self.images / self.at_once()) as u32
    }

    /// Rows of a batch of a map.
    fn batch_rows(&self, x: Map) -> usize {
        self.batch_images() as usize * x.side * x.side
    }

    /// Calls that run together: one call of them all, or the only one itself.
    pub(super) fn push_together<C, G>(&mut self, mut calls: Vec<C>, group: impl FnOnce(Vec<C>) -> G)
    where
        Call: From<C> + From<G>,
    {
        self.calls.push(match calls.len() {
            1 => Call::from(calls.remove(0)),
            _ => Call::from(group(calls)),
        });
    }

    /// Statistics of `x`, averaged into the section, and the scale and shift of each batch. Their
    /// places are given back at once: calls run in order, and the next to take them comes behind the
    /// application.
    pub(super) fn batch_fold(&mut self, x: Map, norm: &Norm, batches: usize) -> (Slot, Slot) {
        let len = self.at_once() * norm.channels;
        let folded = self.arena.take(2 * len);
        let (scale, shift) = (folded.part(0, len), folded.part(len, len));
        let fold = BatchFold { gamma: norm.gamma, beta: norm.beta, scale, shift };
        self.batch_statistics(x, norm, batches, Some(fold));
        self.arena.give_back(folded);
        (scale, shift)
    }

    pub(super) fn apply(
        &mut self,
        x: Slot,
        y: Map,
        scale: Slot,
        shift: Slot,
        activation: Activation,
        residual: Option<Slot>,
    ) {
        let call = self.application(x, y, scale, shift, activation, residual);
        self.calls.push(Call::from(call));
    }

    /// The call that applies a batch norm.
    pub(super) fn application(
        &self,
        x: Slot,
        y: Map,
        scale: Slot,
        shift: Slot,
        activation: Activation,
        residual: Option<Slot>,
    ) -> BnApply {
        BnApply {
            params: ApplyParams {
                rows: (self.images * y.side * y.side) as u32,
                batch_rows: self.batch_rows(y) as u32,
                channels: y.channels as u32,
                activation: activation as u32,
                format: number(y.format),
            },
            x,
            scale,
            shift,
            residual,
            y: y.slot,
        }
    }
}

/// What a convolution's epilogue does.
pub(super) struct Folded {
    pub(super) activation: Activation,
    pub(super) scale: Option<Slot>,
    pub(super) shift: Option<Slot>,
    pub(super) residual: Option<Slot>,
}

impl Folded {
    /// The output as the convolution makes it.
    pub(super) fn raw() -> Folded {
        Folded { activation: Activation::None, scale: None, shift: None, residual: None }
    }
}

/// A 1x1 convolution, or a linear layer, without what is folded into it.
pub(super) struct Product<'a> {
    pub(super) x: Map,
    pub(super) w: &'a Panels,
    pub(super) y: Map,
    pub(super) stride: usize,
    /// The bias of the convolution itself. Folding adds it to the shift; a raw output takes it from here.
    pub(super) bias: Option<Slot>,
    pub(super) gate: Option<Slot>,
    /// Whether the output is the mean over the pixels of each image (in 16 bits).
    pub(super) pooled: bool,
}

impl Product<'_> {
    /// The call: of the operator for the input's numbers.
    pub(super) fn call(&self, layout: &Layout, images: u32, folded: Folded) -> Call {
        let &Product { x, w, y, stride, gate, .. } = self;
        let shape = pointwise::Params {
            images,
            side_in: x.side as u32,
            side_out: if self.pooled { x.side } else { y.side } as u32,
            cin: x.channels as u32,
            cout: y.channels as u32,
            weight_cin: w.cin as u32,
            stride: stride as u32,
            activation: folded.activation as u32,
        };
        let Folded { scale, residual, .. } = folded;
        let shift = folded.shift.or(self.bias);
        let (x, y, outputs) = (x.slot, y.slot, y.channels);
        match self.x.format {
            None => {
                let w = w.prefix(outputs);
                Call::from(Pointwise { params: shape, x, w, scale, shift, gate, residual, y })
            }
            Some(format) => {
                let params = pointwise_half::Params {
                    shape,
                    output: number(self.y.format),
                    pooled: u32::from(self.pooled),
                    format: format as u32,
                };
                let w = layout.rows(w, outputs);
                Call::from(PointwiseHalf { params, x, w, scale, shift, gate, residual, y })
            }
        }
    }
}
