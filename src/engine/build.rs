//! Calls of single operators: shapes to parameters, and places in the layout to weights.
//!
//! Whoever lowers a network, for inference, recalibration or training, makes its calls here. A [`Builder`] has the
//! list of calls so far and the arena that their maps lie in.

use super::arena::Arena;
use crate::ops::batch_norm::{ApplyParams, BatchFold, BnApply, BnStatistics, StatisticsParams};
use crate::ops::depthwise::{self, Depthwise};
use crate::ops::halves::{self, Format, number};
use crate::ops::pointwise::{self, Pointwise};
use crate::ops::pointwise_half::{self, PointwiseHalf};
use crate::ops::pool::{self, GlobalPool, MaxPool};
use crate::ops::squeeze_excite::{self, SqueezeExcite};
use crate::ops::stem::{self, Stem};
use crate::ops::sum::{self, Sum};
use crate::ops::{Activation, Call, Slot};
use crate::space::backbone::strided;
use crate::space::visit::{Convolution, Linear, Squeeze};
use crate::supernet::{ConvolutionLayout, Filters, Layout, Panels};

/// Added to variances, as everywhere in this family of networks.
pub const BN_EPSILON: f32 = 1e-5;

/// A feature map: where it is and its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Map {
    pub slot: Slot,
    pub side: usize,
    pub channels: usize,
    /// What it is stored as, unless it is f32.
    pub format: Option<Format>,
}

impl Map {
    /// Images of side `side`, in f32.
    pub(crate) fn images(slot: Slot, side: usize) -> Map {
        Map { slot, side, channels: 3, format: None }
    }

    /// Its numbers.
    pub(crate) fn numbers(&self) -> usize {
        self.slot.len * if self.format.is_some() { halves::PER_ELEMENT } else { 1 }
    }
}

/// What a convolution does besides convolving. The default leaves its raw output, with its own bias.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Epilogue {
    /// The folded batch norm; what its shift holds includes the convolution's bias.
    pub folded: Option<(Slot, Slot)>,
    /// Whether the activation follows.
    pub activated: bool,
    /// Gates of the input's channels.
    pub gate: Option<Slot>,
    /// Added to the output.
    pub residual: Option<Slot>,
    /// Where a filter leaves the means of its output's channels.
    pub means: Option<Slot>,
    /// Whether the output is the mean over the pixels of each image (of 1x1 convolutions in 16 bits).
    pub pooled: bool,
}

/// What convolves: the filters, and the parameters for a map.
pub(crate) enum Operator {
    /// The stem's.
    Stem(Slot, stem::Params),
    /// A filter a channel.
    Depthwise(Slot, depthwise::Params),
    /// A 1x1 convolution, with its own bias, where it has one.
    Pointwise(Panels, pointwise::Params, Option<Slot>),
    /// There is nothing to convolve.
    None,
}

/// Calls under construction.
pub(crate) struct Builder<'a> {
    pub layout: &'a Layout,
    /// Images of a run.
    pub images: usize,
    /// What maps are stored as, unless it is f32.
    pub format: Option<Format>,
    pub arena: Arena,
    calls: Option<Vec<Call>>,
}

impl<'a> Builder<'a> {
    /// Without calls yet, on an arena of which something may be taken.
    pub(crate) fn new(
        layout: &'a Layout,
        images: usize,
        format: Option<Format>,
        arena: Arena,
    ) -> Builder<'a> {
        Builder { layout, images, format, arena, calls: Some(Vec::new()) }
    }

    /// With that list for its calls; with none it only finds out how large the arena becomes.
    pub(crate) fn with_calls(self, calls: Option<Vec<Call>>) -> Builder<'a> {
        Builder { calls, ..self }
    }

    /// A place of so many elements.
    pub(crate) fn take(&mut self, len: usize) -> Slot {
        self.arena.take(len)
    }

    /// Takes a place back, once all that hold it have given it back.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        self.arena.give_back(slot);
    }

    /// The same of a map's.
    pub(crate) fn free(&mut self, map: Map) {
        self.arena.give_back(map.slot);
    }

    /// Adds a call, unless only sizes are wanted.
    pub(crate) fn push<C>(&mut self, call: C)
    where
        Call: From<C>,
    {
        if let Some(calls) = &mut self.calls {
            calls.push(Call::from(call));
        }
    }

    /// Calls that run together: one call of them all, or the only one itself.
    pub(crate) fn push_together<C, G>(&mut self, mut calls: Vec<C>, group: impl FnOnce(Vec<C>) -> G)
    where
        Call: From<C> + From<G>,
    {
        match calls.len() {
            1 => self.push(calls.remove(0)),
            _ => self.push(group(calls)),
        }
    }

    /// The calls so far, which it forgets.
    pub(crate) fn take_calls(&mut self) -> Vec<Call> {
        self.calls.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A place for a map.
    pub(crate) fn map(&mut self, side: usize, channels: usize) -> Map {
        debug_assert!(channels.is_multiple_of(8), "kernels vectorise over groups of 8 channels");
        let len = halves::elements(self.format, self.images * side * side * channels);
        Map { slot: self.arena.take(len), side, channels, format: self.format }
    }

    /// A place for the output of a convolution.
    pub(crate) fn output(&mut self, what: &Convolution) -> Map {
        self.map(what.side_out, what.cout)
    }

    /// Features of every image, in f32.
    pub(crate) fn features(&mut self, channels: usize) -> Map {
        self.rows(self.images, channels, None)
    }

    /// So many rows of features.
    pub(crate) fn rows(&mut self, rows: usize, channels: usize, format: Option<Format>) -> Map {
        let slot = self.arena.take(halves::elements(format, rows * channels));
        Map { slot, side: 1, channels, format }
    }

    /// The operator of a convolution of `x`, with that activation.
    pub(crate) fn operator(&self, what: &Convolution, x: Map, activation: Activation) -> Operator {
        let (images, side_in, side_out) = (self.images as u32, x.side as u32, what.side_out as u32);
        let format = number(self.format);
        let ConvolutionLayout { filters, bias, .. } = self.layout.convolution(what);
        match filters {
            Filters::Stem(filters) => Operator::Stem(
                filters,
                stem::Params {
                    images,
                    side_in,
                    side_out,
                    cout: what.cout as u32,
                    activation: activation as u32,
                    format,
                },
            ),
            Filters::Depthwise(filters, stored) => Operator::Depthwise(
                filters,
                depthwise::Params {
                    images,
                    side_in,
                    side_out,
                    channels: what.cout as u32,
                    weight_channels: stored as u32,
                    kernel: what.kernel as u32,
                    stride: what.stride as u32,
                    activation: activation as u32,
                    format,
                },
            ),
            Filters::Panels(panels) => {
                let shape = (x, what.side_out, what.cout);
                Operator::Pointwise(panels, self.pointwise(shape, &panels, what.stride, activation), bias)
            }
            Filters::None => Operator::None,
        }
    }

    /// The call of a convolution of `x` to `y`; none where there is nothing to convolve.
    pub(crate) fn convolution(&self, what: &Convolution, x: Map, y: Map, then: Epilogue) -> Option<Call> {
        let (scale, shift) = then.folded.unzip();
        let activation = if then.activated { what.activation } else { Activation::None };
        Some(match self.operator(what, x, activation) {
            Operator::None => return None,
            Operator::Stem(w, params) => Call::from(Stem { params, x: x.slot, w, scale, shift, y: y.slot }),
            Operator::Depthwise(w, params) => {
                Call::from(Depthwise { params, x: x.slot, w, scale, shift, y: y.slot, pool: then.means })
            }
            Operator::Pointwise(panels, mut shape, bias) => {
                if then.pooled {
                    shape.side_out = shape.side_in;
                }
                self.product(&panels, shape, (x, y), (scale, shift.or(bias)), then)
            }
        })
    }

    /// Adds the call of a convolution of `x` to `y`, where there is something to convolve.
    pub(crate) fn convolve(&mut self, what: &Convolution, x: Map, y: Map, then: Epilogue) {
        let call = self.convolution(what, x, y, then);
        call.into_iter().for_each(|call| self.push(call));
    }

    /// The shape of a 1x1 convolution.
    fn pointwise(
        &self,
        (x, side_out, cout): (Map, usize, usize),
        panels: &Panels,
        stride: usize,
        activation: Activation,
    ) -> pointwise::Params {
        pointwise::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: side_out as u32,
            cin: x.channels as u32,
            cout: cout as u32,
            weight_cin: panels.cin as u32,
            stride: stride as u32,
            activation: activation as u32,
        }
    }

    /// A 1x1 convolution or a linear layer, with a scale and a shift: of the operator for the input's numbers.
    fn product(
        &self,
        panels: &Panels,
        shape: pointwise::Params,
        (x, y): (Map, Map),
        (scale, shift): (Option<Slot>, Option<Slot>),
        then: Epilogue,
    ) -> Call {
        let Epilogue { gate, residual, pooled, .. } = then;
        let outputs = shape.cout as usize;
        match x.format {
            None => {
                let (params, w) = (shape, panels.prefix(outputs));
                Call::from(Pointwise { params, x: x.slot, w, scale, shift, gate, residual, y: y.slot })
            }
            Some(format) => {
                let (output, format) = (number(y.format), format as u32);
                let params = pointwise_half::Params { shape, output, pooled: u32::from(pooled), format };
                let w = self.layout.rows(panels, outputs);
                Call::from(PointwiseHalf { params, x: x.slot, w, scale, shift, gate, residual, y: y.slot })
            }
        }
    }

    /// The shape of a linear layer on rows of features, and its call to `y`, with its activation if it is wanted.
    pub(crate) fn linear(&self, what: &Linear, x: Map, y: Map, activated: bool) -> (pointwise::Params, Call) {
        let (panels, bias) = self.layout.linear(what);
        let activation = if activated { what.activation } else { Activation::None };
        let images = (x.numbers() / x.channels) as u32;
        let shape = self.pointwise((x, 1, what.stored()), &panels, 1, activation);
        let shape = pointwise::Params { images, ..shape };
        (shape, self.product(&panels, shape, (x, y), (None, bias), Epilogue::default()))
    }

    /// Adds the call that makes the gates of a map of so many pixels, which need not be square, in a place of their
    /// own.
    pub(crate) fn squeeze(
        &mut self,
        (x, format): (Slot, Option<Format>),
        pixels: usize,
        what: &Squeeze,
    ) -> SqueezeExcite {
        let (squeeze, &Squeeze { channels, hidden, .. }) = (self.layout.squeeze(what), what);
        let gate = self.arena.take(self.images * channels);
        let call = SqueezeExcite {
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
        };
        self.push(call.clone());
        call
    }

    /// The 2x2 maximum of `x`, in a place of its own.
    pub(crate) fn max_pool(&mut self, x: Map) -> (pool::Params, Map) {
        let y = self.map(strided(x.side, 2), x.channels);
        let params = self.pool(x, y);
        self.push(MaxPool { params, x: x.slot, y: y.slot });
        (params, y)
    }

    /// The means of the channels of `x`, in a place of their own.
    pub(crate) fn mean(&mut self, x: Map) -> (pool::Params, Map) {
        let y = self.features(x.channels);
        let params = self.pool(x, y);
        self.push(GlobalPool { params, x: x.slot, y: y.slot });
        (params, y)
    }

    fn pool(&self, x: Map, y: Map) -> pool::Params {
        pool::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: y.side as u32,
            channels: x.channels as u32,
            format: number(x.format),
        }
    }

    /// The sum of maps of one shape, in a place of its own.
    pub(crate) fn sum(&mut self, terms: &[Map]) -> Map {
        let y = self.map(terms[0].side, terms[0].channels);
        let len = self.images * y.side * y.side * y.channels;
        let params = sum::Params { len: len as u32, terms: terms.len() as u32, format: number(y.format) };
        self.push(Sum { params, x: terms.iter().map(|map| map.slot).collect(), y: y.slot });
        y
    }

    /// Statistics of `batches` batches of `x`, to `batch`, and what they are folded to. The scratch place is given
    /// back at once: calls run in order.
    pub(crate) fn statistics(&mut self, x: Map, batches: usize, batch: Slot, fold: Option<BatchFold>) {
        let rows = self.images / batches * x.side * x.side;
        let partials = self.arena.take(BnStatistics::partials_len(batches, rows, x.channels));
        self.push(BnStatistics {
            params: StatisticsParams {
                rows: rows as u32,
                channels: x.channels as u32,
                batches: batches as u32,
                epsilon: BN_EPSILON,
                format: number(x.format),
            },
            x: x.slot,
            partials,
            batch,
            fold,
        });
        self.arena.give_back(partials);
    }

    /// The call that applies the batch norms of `batches` batches of `x`, to `y`, with an activation and a sum.
    pub(crate) fn apply(
        &self,
        (x, y): (Slot, Map),
        batches: usize,
        (scale, shift): (Slot, Slot),
        activation: Activation,
        residual: Option<Slot>,
    ) -> BnApply {
        BnApply {
            params: ApplyParams {
                rows: (self.images * y.side * y.side) as u32,
                batch_rows: (self.images / batches * y.side * y.side) as u32,
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
