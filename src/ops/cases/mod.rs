//! One table of calls for the tests and the benchmark of the kernels.
//!
//! A [`Case`] is a call with its operands laid out in two buffers, weights and arena, and a recipe
//! for what is in them. Stored weights are larger than the call uses, and what it must not use is
//! NaN; so are gaps between the slots and everything that it has to write.
//!
//! A file a group of operators, with its part of [`edges`] and of [`network`].

mod batch_norm;
mod convolution_gradients;
mod expand_depthwise;
mod forward;
mod gradients;
mod halves;
mod mbconv;
mod mbconv_pass;

use super::augment::{self, OPERATION, OPERATIONS};
use super::halves::{Format, PER_ELEMENT, elements, number};
use super::preprocess::WINDOW;
use super::{Activation, Call, Region, Slot, depthwise, pointwise, pool, squeeze_excite, stem};
use crate::data::augment::Operation;
use crate::launch::panels::panelled_index;
use crate::random::stream;
use crate::space::walk::Layer;
use rand::RngExt;

/// Elements between slots that nothing may touch.
const GAP: usize = 16;
/// Elements of a long slot that are drawn for timing.
const REPEATED: usize = 1 << 20;

/// What a slot holds before the call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    /// Uniform in -1..1, times the number.
    Values(f32),
    /// Uniform in 0.1..2.
    Positive,
    /// Rows of `stored` elements of which the first `used` are in use.
    Rows { used: usize, stored: usize },
    /// Panels of a stored matrix of `stored` inputs; `cout` outputs by `cin` inputs are in use.
    Panels { cout: usize, cin: usize, stored: usize },
    /// 16-bit numbers, uniform in -1..1, times the number.
    Halves { format: Format, size: f32 },
    /// Rows of `stored` 16-bit numbers of which the first `used` are in use; sums of products stay about 1.
    HalfRows { format: Format, used: usize, stored: usize },
    /// Whole numbers below the number.
    Whole(u32),
    /// Each row of that many elements is a constant far from zero, with a little spread.
    Shifted(usize),
    /// Windows of images of `side` pixels, up to `pad` pixels out of them.
    Windows { side: usize, pad: usize },
    /// Pairs of AutoAugment's operations on images of that side: all of them, and nothing, in turn.
    Operations(usize),
    /// Multiples of `step` in -reach..=reach: sums of a few products of such numbers are exact, ties
    /// come up, and so do the corners of activations.
    Steps { step: f32, reach: f32 },
    /// The same, in 16-bit numbers.
    HalfSteps { format: Format, step: f32, reach: f32 },
}

/// A call with its operands.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is special about it; with [`Call::name`] unique in a table.
    pub name: String,
    /// The call; its weights are in [`Region::Weights`], everything else in [`Region::Arena`].
    pub call: Call,
    /// Elements of the weights.
    pub weights: usize,
    /// Elements of the arena.
    pub arena: usize,
    fills: Vec<(Slot, Fill)>,
}

impl Case {
    /// Fresh contents of weights and arena.
    pub fn operands(&self, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut buffers = (vec![f32::NAN; self.weights], vec![f32::NAN; self.arena]);
        for (index, (slot, fill)) in self.fills.iter().enumerate() {
            let buffer = match slot.region {
                Region::Weights => &mut buffers.0,
                _ => &mut buffers.1,
            };
            fill.apply(&mut buffer[slot.offset..][..slot.len], seed, index as u64);
        }
        buffers
    }

    /// The operands that hold real numbers, no indices or places, and the format of those that hold 16-bit ones.
    pub fn real(&self) -> impl Iterator<Item = (Slot, Option<Format>)> {
        self.fills.iter().filter_map(|(slot, fill)| Some((*slot, fill.real()?)))
    }

    /// As [`Case::operands`], with `value` as the first number of `slot`, of 16 bits in a format.
    pub fn operands_with(&self, slot: Slot, format: Option<Format>, value: f32) -> (Vec<f32>, Vec<f32>) {
        let mut buffers = self.operands(1);
        let buffer = match slot.region {
            Region::Weights => &mut buffers.0,
            _ => &mut buffers.1,
        };
        let first = &mut buffer[slot.offset];
        *first = format.map_or(value, |format| format.element(value, format.pair(*first)[1]));
        buffers
    }

    /// As [`Case::operands`], for timing: of each slot that holds something the first numbers, a few million of a
    /// long one, which are to be repeated to its end. Drawing all numbers of many images takes longer than a
    /// device needs to be timed.
    pub fn repeating(&self, seed: u64) -> impl Iterator<Item = (Slot, Vec<f32>)> {
        self.fills.iter().enumerate().map(move |(index, (slot, fill))| {
            let period = match fill.row() {
                Some(row) => REPEATED.next_multiple_of(row).min(slot.len),
                None => slot.len,
            };
            let mut numbers = vec![f32::NAN; period];
            fill.apply(&mut numbers, seed, index as u64);
            (*slot, numbers)
        })
    }

    /// The slots whose contents are the result: what is written, but for scratch.
    pub fn results(&self) -> Vec<Slot> {
        self.call.results()
    }

    /// What a result is stored as, where that is 16-bit numbers.
    pub fn stored(&self, result: Slot) -> Option<Format> {
        self.call.stored(result)
    }
}

impl Fill {
    /// The format of 16-bit numbers, `None` for other real numbers; nothing where there are none.
    fn real(self) -> Option<Option<Format>> {
        match self {
            Fill::Values(_) | Fill::Positive | Fill::Rows { .. } | Fill::Panels { .. } => Some(None),
            Fill::Shifted(_) | Fill::Steps { .. } => Some(None),
            Fill::Halves { format, .. } | Fill::HalfRows { format, .. } | Fill::HalfSteps { format, .. } => {
                Some(Some(format))
            }
            Fill::Whole(_) | Fill::Windows { .. } | Fill::Operations(_) => None,
        }
    }

    /// Elements behind which what a slot holds may begin again; `None` where it is one piece.
    fn row(self) -> Option<usize> {
        match self {
            Fill::Values(_) | Fill::Positive | Fill::Whole(_) => Some(1),
            Fill::Halves { .. } | Fill::Steps { .. } | Fill::HalfSteps { .. } => Some(1),
            Fill::Rows { stored, .. } => Some(stored),
            Fill::HalfRows { stored, .. } => Some(stored / PER_ELEMENT),
            Fill::Shifted(row) => Some(row),
            Fill::Windows { .. } => Some(WINDOW),
            Fill::Operations(_) => Some(OPERATIONS * OPERATION),
            Fill::Panels { .. } => None,
        }
    }

    fn apply(self, out: &mut [f32], seed: u64, index: u64) {
        let mut random = stream(seed, "ops/cases", index, 0);
        let mut uniform = move || random.random_range(-1.0f32..1.0);
        match self {
            Fill::Values(size) => out.fill_with(|| size * uniform()),
            Fill::Positive => out.fill_with(|| 1.05 + 0.95 * uniform()),
            Fill::Rows { used, stored } => {
                out.chunks_mut(stored).for_each(|row| row[..used].fill_with(&mut uniform));
            }
            Fill::Panels { cout, cin, stored } => {
                // Sums of products stay about 1.
                let size = (3.0 / cin as f32).sqrt();
                for n in 0..cout {
                    for k in 0..cin {
                        out[panelled_index(stored, n, k)] = size * uniform();
                    }
                }
            }
            Fill::Halves { format, size } => {
                let values: Vec<f32> = (0..out.len() * PER_ELEMENT).map(|_| size * uniform()).collect();
                out.copy_from_slice(&format.pack(&values));
            }
            Fill::HalfRows { format, used, stored } => {
                let size = (3.0 / used as f32).sqrt();
                for row in out.chunks_mut(stored / PER_ELEMENT) {
                    let mut values = vec![f32::NAN; stored];
                    values[..used].fill_with(|| size * uniform());
                    row.copy_from_slice(&format.pack(&values));
                }
            }
            Fill::Whole(below) => {
                out.fill_with(|| ((uniform() + 1.0) / 2.0 * below as f32).floor().min(below as f32 - 1.0))
            }
            Fill::Windows { side, pad } => {
                for row in out.chunks_exact_mut(WINDOW) {
                    let mut below = |n: usize| ((uniform() + 1.0) / 2.0 * n as f32) as usize % n;
                    let (width, height) = (1 + below(side + 2 * pad), 1 + below(side + 2 * pad));
                    let mut place = |length: usize| below(side + 2 * pad + 1 - length) as f32 - pad as f32;
                    let (left, top) = (place(width), place(height));
                    row.copy_from_slice(&[left, top, width as f32, height as f32, below(2) as f32]);
                }
            }
            Fill::Operations(side) => {
                let all = operations();
                let mut elements = Vec::with_capacity(out.len());
                for i in 0..out.len() / (OPERATIONS * OPERATION) {
                    let next = i + seed as usize;
                    let pair = [all[next % all.len()], all[(next / 2 + next / all.len()) % all.len()]];
                    augment::describe(&pair, side, &mut elements);
                }
                out.copy_from_slice(&elements);
            }
            Fill::Shifted(row) => {
                for (i, value) in out.iter_mut().enumerate() {
                    *value = (i % row) as f32 - 3.0 + 0.05 * uniform();
                }
            }
            Fill::Steps { step, reach } => out.fill_with(|| stepped(uniform(), step, reach)),
            Fill::HalfSteps { format, step, reach } => {
                let numbers = out.len() * PER_ELEMENT;
                let values: Vec<f32> = (0..numbers).map(|_| stepped(uniform(), step, reach)).collect();
                out.copy_from_slice(&format.pack(&values));
            }
        }
    }
}

/// A multiple of `step` in -reach..=reach from a number in -1..1.
fn stepped(uniform: f32, step: f32, reach: f32) -> f32 {
    ((uniform * (reach / step + 0.5)).round() * step).clamp(-reach, reach)
}

/// The name of a case of so many calls, of which the first is `name`.
fn several(calls: usize, name: String) -> String {
    match calls {
        1 => name,
        _ => format!("{calls} calls, first {name}"),
    }
}

/// Every kind of operation, and none.
fn operations() -> Vec<Option<Operation>> {
    use Operation::*;
    let some = [
        ShearX(0.3),
        ShearY(-0.2),
        TranslateX(3),
        TranslateY(-2),
        Rotate(17.0),
        AutoContrast,
        Equalize,
        Invert,
        Solarize(113),
        Posterize(5),
        Contrast(1.6),
        Contrast(0.3),
        Color(1.9),
        Color(0.2),
        Brightness(0.4),
        Brightness(1.7),
        Sharpness(1.9),
        Sharpness(0.1),
    ];
    some.into_iter().map(Some).chain([None]).collect()
}

/// Lays operands out.
#[derive(Default)]
struct Builder {
    weights: usize,
    arena: usize,
    fills: Vec<(Slot, Fill)>,
}

impl Builder {
    fn place(&mut self, region: Region, len: usize) -> Slot {
        let end = match region {
            Region::Weights => &mut self.weights,
            _ => &mut self.arena,
        };
        let slot = Slot { region, offset: *end + GAP, len };
        *end = (slot.offset + len).next_multiple_of(GAP);
        slot
    }

    fn weights(&mut self, len: usize, fill: Fill) -> Slot {
        let slot = self.place(Region::Weights, len);
        self.fills.push((slot, fill));
        slot
    }

    fn input(&mut self, len: usize, fill: Fill) -> Slot {
        let slot = self.place(Region::Arena, len);
        self.fills.push((slot, fill));
        slot
    }

    fn output(&mut self, len: usize) -> Slot {
        self.place(Region::Arena, len)
    }

    /// A map of so many numbers in a format, or in f32: what one holds the other rounds.
    fn map(&mut self, format: Option<Format>, numbers: usize, fill: Fill) -> Slot {
        let fill = match (format, fill) {
            (Some(format), Fill::Values(size)) => Fill::Halves { format, size },
            (Some(format), Fill::Steps { step, reach }) => Fill::HalfSteps { format, step, reach },
            (_, fill) => fill,
        };
        self.input(elements(format, numbers), fill)
    }

    /// The place of a map of so many numbers that the call writes.
    fn map_output(&mut self, format: Option<Format>, numbers: usize) -> Slot {
        self.output(elements(format, numbers))
    }

    fn finish(self, name: String, call: impl Into<Call>) -> Case {
        Case {
            name,
            call: call.into(),
            weights: self.weights + GAP,
            arena: self.arena + GAP,
            fills: self.fills,
        }
    }
}

/// A 1x1 convolution of so many images, `more` input channels of which are stored and not used.
fn stem_shape(
    format: Option<Format>,
    images: usize,
    side: usize,
    cout: usize,
    a: Activation,
) -> stem::Params {
    let [images, side_in, side_out, cout] = [images, side, side.div_ceil(2), cout].map(|v| v as u32);
    stem::Params { images, side_in, side_out, cout, activation: a as u32, format: number(format) }
}

/// Of `channels`, with the filters of `more` behind them.
fn depthwise_shape(
    format: Option<Format>,
    (images, side): (usize, usize),
    (kernel, stride): (usize, usize),
    (channels, more): (usize, usize),
    activation: Activation,
) -> depthwise::Params {
    depthwise::Params {
        images: images as u32,
        side_in: side as u32,
        side_out: side.div_ceil(stride) as u32,
        channels: channels as u32,
        weight_channels: (channels + more) as u32,
        kernel: kernel as u32,
        stride: stride as u32,
        activation: activation as u32,
        format: number(format),
    }
}

/// With the weights of `more` channels and hidden units behind those in use.
fn squeeze_excite_shape(
    format: Option<Format>,
    (images, side): (usize, usize),
    (channels, hidden): (usize, usize),
    more: usize,
) -> squeeze_excite::Params {
    let [images, pixels, channels, hidden] = [images, side * side, channels, hidden].map(|v| v as u32);
    let (weight_channels, weight_hidden) = (channels + more as u32, hidden + more as u32);
    let format = number(format);
    squeeze_excite::Params { images, pixels, channels, hidden, weight_channels, weight_hidden, format }
}

fn pool_shape(
    format: Option<Format>,
    (images, side, side_out): (usize, usize, usize),
    channels: usize,
) -> pool::Params {
    let [images, side_in, side_out, channels] = [images, side, side_out, channels].map(|v| v as u32);
    pool::Params { images, side_in, side_out, channels, format: number(format) }
}

fn pointwise_shape(
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    activation: Activation,
) -> pointwise::Params {
    pointwise::Params {
        images: images as u32,
        side_in: side as u32,
        side_out: side.div_ceil(stride) as u32,
        cin: cin as u32,
        cout: cout as u32,
        weight_cin: (cin + more) as u32,
        stride: stride as u32,
        activation: activation as u32,
    }
}

/// Shapes at the edges: every stride, sides 1 to 28, 8 to 1152 channels, prefixes of larger stored
/// weights, one image and odd numbers of them, and shapes that every tile of every kernel takes.
pub fn edges() -> Vec<Case> {
    [forward::edges(), batch_norm::edges(), convolution_gradients::edges(), gradients::edges()].concat()
}

/// The layers of a sub-network of width 1 on `images` images of `r` x `r` pixels: in each stage a
/// strided block and one that is not, expansions 3 to 6, kernels 3 to 7, the head, and what
/// recalibration adds at the widest maps.
pub fn network(images: usize, r: usize) -> Vec<Case> {
    let gradients = [convolution_gradients::network(images, r), gradients::network(images, r)].concat();
    [forward::network(images, r), batch_norm::network(images, r), gradients].concat()
}

/// As [`network`], with maps in a format: those operators that take one, forward and backward.
pub fn network_in(format: Format, images: usize, r: usize) -> Vec<Case> {
    halves::network(format, images, r)
}

/// Shapes at the edges with maps in a format.
pub fn edges_in(format: Format) -> Vec<Case> {
    let both = half_products().into_iter().chain(mbconv_edges()).chain(expand_depthwise_edges());
    let own = both.filter(|case| match &case.call {
        Call::PointwiseHalf(call) => call.params.format() == format,
        Call::Mbconv(call) => call.params.format() == format,
        Call::ExpandDepthwise(call) => call.params.shape.format() == format,
        _ => false,
    });
    own.chain(formats(Some(format))).collect()
}

/// Shapes at the edges of the products of 16-bit numbers, in both formats.
pub fn half_products() -> Vec<Case> {
    halves::products()
}

/// Shapes at the edges of the gradient of 16-bit products' weights, in both formats: the results are f32.
pub fn half_weights() -> Vec<Case> {
    halves::weights()
}

/// Matrices whose rows become 16-bit numbers, in both formats.
pub fn half_rows() -> Vec<Case> {
    halves::rows()
}

/// Shapes at the edges of the operators whose maps are f32 or a 16-bit format: the same in the same
/// order, with the same operands but for their rounding.
pub fn formats(format: Option<Format>) -> Vec<Case> {
    halves::others(format)
}

/// The fused MBConvs of a network's layers, each shape once; those that fit a block of so many bytes of shared memory,
/// or one of any card.
pub fn mbconvs_of(format: Format, images: usize, layers: &[Layer], block_bytes: u32) -> Vec<Case> {
    mbconv::of_layers(format, images, layers, block_bytes.max(mbconv::EVERY_CARD))
}

/// Shapes at the edges of whole inverted bottlenecks, in both formats.
pub fn mbconv_edges() -> Vec<Case> {
    mbconv::edges()
}

/// Shapes at the edges of expansion and depthwise filter in one call, in both formats.
pub fn expand_depthwise_edges() -> Vec<Case> {
    expand_depthwise::edges()
}

/// Applications of batch norms to maps in every format, as one call.
pub fn apply_group() -> Case {
    batch_norm::apply_group()
}

/// MBConvs of many networks on one input, as one call.
pub fn mbconv_group() -> Case {
    mbconv::group()
}

/// Shapes at the edges of the passes of inverted bottlenecks in recalibration, in both formats.
pub fn mbconv_passes() -> Vec<Case> {
    mbconv_pass::edges()
}

/// Passes of many networks, as one call.
pub fn mbconv_pass_group() -> Case {
    mbconv_pass::group()
}

/// Every case of the tables of edges, in every format, and every call of many.
#[cfg(test)]
fn all() -> Vec<Case> {
    let formats = || [None, Some(Format::F16), Some(Format::Bf16)].into_iter().flat_map(formats);
    let halves = [half_products(), half_weights(), half_rows(), mbconv_edges(), expand_depthwise_edges()];
    let groups = [apply_group(), mbconv_group(), mbconv_pass_group()];
    let recalibration = mbconv_passes().into_iter().chain(groups);
    edges().into_iter().chain(formats()).chain(halves.concat()).chain(recalibration).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operator_has_a_case() {
        let found: BTreeSet<&str> = all().iter().map(|case| case.call.name()).collect();
        let without: Vec<&&str> = Call::NAMES.iter().filter(|name| !found.contains(**name)).collect();
        assert!(without.is_empty(), "no case in ops/cases: {without:?}");
    }

    #[test]
    fn operands_are_stored_as_their_operators_say() {
        for case in all() {
            for (slot, format) in case.real() {
                let said = case.call.stored(slot);
                // The input of a whole MBConv is a map or, with a stem, images: its list leaves that open.
                let open = said.is_none() && case.call.is_by_quads();
                assert!(said == format || open, "{} {}: {slot:?}", case.call.name(), case.name);
            }
        }
    }
}
