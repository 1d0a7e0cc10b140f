//! An MBConv of recalibration in 16-bit numbers: three passes that never store the expanded map.
//!
//! Each of an MBConv's three batch norms needs statistics of a raw map, which is there only when the batch
//! norm before it is known. So the whole [`mbconv`] runs three times, further each time, and leaves
//! statistics behind:
//!
//! ```text
//! pass       makes, of what it makes again                                        and leaves statistics of
//! Expanded   r = half(x expand)                                                   r
//! Filtered   e = half(activation(expand_scale * r + expand_shift)), or x          r2
//!            r2 = half(e conv filter)
//! Projected  d = half(activation(filter_scale * r2 + filter_shift))               y
//!            y = half(half(d g) project), with g as in mbconv
//! ```
//!
//! Batches lie behind one another, each with statistics, scales and shifts of its own. That is the chain of
//! [`pointwise_half`], [`batch_norm`], [`depthwise`](super::depthwise) and
//! [`squeeze_excite`](super::squeeze_excite) on 16-bit maps, roundings included. The pass `Expanded` serves
//! any 1x1 convolution of which statistics are all that is wanted.
//!
//! Statistics are those of [`Units`] of rows: the mean and the sum of squared deviations of each, which
//! [`BnMerge`](batch_norm::BnMerge) makes those of a batch of.
//!
//! ```text
//! bytes = 2 images side_in^2 cin + 2 mid (cin + cout) + 2 images side_out^2 cout, of what there is,
//!         8 bytes a unit and channel, and the small f32 arrays
//! FLOPs = those of mbconv as far as the pass goes, and 4 a number of which there are statistics
//! ```
//!
//! On a GPU a call exists where a block holds the images of a unit, or, where there is no squeeze-excite, a unit of
//! an image: [`fits`].

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;
mod units;

pub use gpu::{fits, least_shared_bytes};
pub use units::Units;

use super::halves::Format;
use super::mbconv::blocks::Job;
use super::operator::{Cost, Group, operator};
use super::{Activation, Slot, Work, batch_norm, mbconv, pointwise_half};

/// How far a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Statistics of the expanded map.
    Expanded = 1,
    /// Statistics of the depthwise output.
    Filtered = 2,
    /// The output without its batch norm, and its statistics.
    Projected = 3,
}

impl Pass {
    /// Every pass in its order.
    pub const ALL: [Pass; 3] = [Pass::Expanded, Pass::Filtered, Pass::Projected];
}

/// Shape of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// That of the whole MBConv, of what the pass has: `Expanded` has no filter (`kernel` and `stride` are 1) and
    /// neither has `Filtered` a projection (`cout` and `hidden` are 0). No stem.
    pub shape: mbconv::Params,
    /// How far it goes.
    pub pass: Pass,
    /// Images of a batch, of which `shape.images` are whole ones.
    pub batch_images: u32,
}

impl Params {
    /// The parameters of a pass of an MBConv.
    pub fn of(whole: mbconv::Params, pass: Pass, batch_images: u32) -> Params {
        let shape = match pass {
            Pass::Projected => whole,
            Pass::Filtered => whole.front(),
            Pass::Expanded => mbconv::Params {
                weight_channels: 0,
                kernel: 1,
                stride: 1,
                side_out: whole.side_in,
                ..whole.front()
            },
        };
        Params { shape, pass, batch_images }
    }

    /// The parameters of the statistics of a 1x1 convolution, of some images, of which each batch has so many,
    /// and channels: input, stored input and output.
    pub fn pointwise(
        (images, batch_images): (u32, u32),
        side: u32,
        [cin, weight_cin, mid]: [u32; 3],
        format: Format,
    ) -> Params {
        let shape = mbconv::Params {
            images,
            side_in: side,
            side_out: side,
            cin,
            mid,
            weight_cin,
            kernel: 1,
            stride: 1,
            format: format as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        Params { shape, pass: Pass::Expanded, batch_images }
    }

    /// Batches.
    pub fn batches(&self) -> u32 {
        self.shape.images / self.batch_images
    }

    /// Channels of the map that there are statistics of.
    pub fn channels(&self) -> u32 {
        match self.pass {
            Pass::Expanded | Pass::Filtered => self.shape.mid,
            Pass::Projected => self.shape.cout,
        }
    }

    /// Side of that map.
    pub fn side(&self) -> u32 {
        if self.pass == Pass::Expanded { self.shape.side_in } else { self.shape.side_out }
    }

    /// Pixels of an image of that map.
    pub fn pixels(&self) -> u32 {
        self.side() * self.side()
    }

    /// The units of that map.
    pub fn units(&self) -> Units {
        // What the last pass holds of an image is large.
        let rows = if self.pass == Pass::Projected { 16 } else { 64 };
        Units::new(self.side(), self.batch_images, rows)
    }

    /// How the partial statistics become those of the batches.
    pub fn merge(&self, epsilon: f32) -> batch_norm::MergeParams {
        let units = self.units();
        batch_norm::MergeParams {
            rows: self.batch_images * self.pixels(),
            unit_rows: units.rows,
            span_rows: units.span,
            channels: self.channels(),
            batches: self.batches(),
            epsilon,
        }
    }

    /// Elements of the partial statistics.
    pub fn partials_len(&self) -> usize {
        self.merge(0.0).partials_len()
    }

    /// The application of a batch norm to a map of `pixels` an image and `mid` channels.
    fn application(&self, pixels: u32) -> batch_norm::ApplyParams {
        batch_norm::ApplyParams {
            rows: self.shape.images * pixels,
            batch_rows: self.batch_images * pixels,
            channels: self.shape.mid,
            activation: self.shape.activation,
            format: 0,
        }
    }

    /// What the 16-bit numbers are.
    pub fn format(&self) -> Format {
        self.shape.format()
    }

    /// The expansion as a call of its own, raw.
    fn expansion(&self) -> pointwise_half::Params {
        raw(self.shape.expansion())
    }

    /// The projection as a call of its own, raw.
    fn projection(&self) -> pointwise_half::Params {
        raw(self.shape.projection())
    }
}

fn raw(mut params: pointwise_half::Params) -> pointwise_half::Params {
    params.shape.activation = Activation::None as u32;
    params
}

operator! {
    /// A pass. Every slot starts at a multiple of 4 elements; all channels and `hidden` are multiples of 8.
    /// What the pass does not need is absent, squeeze-excite together.
    MbconvPass(Params) as run, together => host Args, launch gpu::PassLaunch {
        /// Input map `[images, side_in, side_in, cin]`, two numbers an element.
        read x: halves,
        /// Rows `[mid, weight_cin]`, two numbers an element. Absent: `x` is the expanded map.
        optional expand: halves,
        /// `[batches][mid]`
        optional expand_scale,
        /// `[batches][mid]`
        optional expand_shift,
        /// Filter `[kernel, kernel, weight_channels]`.
        optional filter,
        /// `[batches][mid]`
        optional filter_scale,
        /// `[batches][mid]`
        optional filter_shift,
        /// Panels `[ceil(hidden / 16)][se_channels][16]`.
        optional reduce,
        /// `[hidden]`
        optional reduce_bias,
        /// Panels `[ceil(mid / 16)][se_hidden][16]`.
        optional excite,
        /// `[mid]`
        optional excite_bias,
        /// Rows `[cout, weight_mid]`, two numbers an element.
        optional project: halves,
        /// Output map `[images, side_out, side_out, cout]` without its batch norm, two numbers an element.
        optional_write y: halves,
        /// `[batches][units][2][channels]`: mean and sum of squared deviations of each of
        /// [`Params::units`].
        write partials,
    }
}

/// Passes that are launched together, as those of many networks at one depth.
pub type MbconvPassGroup = Group<MbconvPass>;

impl MbconvPass {
    /// A call on `x` whose other operands are to be filled in; its partial statistics have no place.
    pub(crate) fn without_operands(params: Params, x: Slot) -> MbconvPass {
        MbconvPass {
            params,
            x,
            expand: None,
            expand_scale: None,
            expand_shift: None,
            filter: None,
            filter_scale: None,
            filter_shift: None,
            reduce: None,
            reduce_bias: None,
            excite: None,
            excite_bias: None,
            project: None,
            y: None,
            partials: Slot { len: 0, ..x },
        }
    }
}

impl Cost for MbconvPass {
    fn work(&self) -> Work {
        let p = &self.params.shape;
        let [images, cin, mid, cout] = [p.images, p.cin, p.mid, p.cout].map(u64::from);
        let [hidden, taps] = [p.hidden, p.kernel * p.kernel].map(u64::from);
        let [rows_in, rows_out] = [p.side_in, p.side_out].map(|side| images * u64::from(side * side));
        let there = |operand: &Option<Slot>| u64::from(operand.is_some());
        let (expands, filters, projects) = (there(&self.expand), there(&self.filter), there(&self.project));
        let halves = rows_in * cin + projects * rows_out * cout + mid * (expands * cin + projects * cout);
        let vectors = [self.expand_scale, self.expand_shift, self.filter_scale, self.filter_shift];
        let vectors: usize = vectors.into_iter().flatten().map(|slot| slot.len).sum();
        let mut singles = (vectors + self.partials.len) as u64 + filters * taps * mid;
        let statistics = images * u64::from(self.params.pixels()) * u64::from(self.params.channels());
        let products =
            mid * (expands * rows_in * cin + filters * rows_out * taps + projects * rows_out * cout);
        let mut flops = 2 * products + 4 * statistics;
        if self.reduce.is_some() {
            singles += 2 * mid * hidden + mid + hidden;
            flops += mid * (rows_out + 4 * images * hidden);
        }
        Work { bytes: 2 * halves + 4 * singles, flops }
    }

    fn jobs(&self) -> Vec<Job> {
        vec![Job::of_pass(&self.params)]
    }

    fn work_together(calls: &[MbconvPass]) -> Work {
        let inputs = calls.iter().map(|call| (call.x, call.params.shape.input_bytes(), call.work()));
        mbconv::work_on_inputs(inputs)
    }
}

/// Scale and shift of each batch.
type Vectors<'a, T> = (&'a [T], &'a [T]);

impl<'a, T> Args<'a, T> {
    /// What the expanded map's batch norm is, where a pass has it.
    fn expand_vectors(&self) -> Option<Vectors<'a, T>> {
        self.expand_scale.zip(self.expand_shift)
    }

    fn filter_vectors(&self) -> Option<Vectors<'a, T>> {
        self.filter_scale.zip(self.filter_shift)
    }

    /// The operands of squeeze-excite: reduce, its bias, excite, its bias.
    fn squeeze_excite(&self) -> Option<[&'a [T]; 4]> {
        Some([self.reduce?, self.reduce_bias?, self.excite?, self.excite_bias?])
    }

    /// Panics where the shape is none that the kernels take, or an operand is missing or too short.
    fn check(&self, params: &Params) {
        let (p, pass) = (&params.shape, params.pass);
        assert!([p.cin, p.mid, p.cout, p.hidden].iter().all(|channels| channels.is_multiple_of(8)));
        assert!(p.images.is_multiple_of(params.batch_images), "batches in part");
        assert!(!p.has_stem() && p.shortcut == 0, "a stem has no passes");
        assert!(p.expands() == self.expand.is_some(), "expansion in part");
        assert!(p.expands() || p.cin == p.mid, "a map that is not expanded has mid channels");
        let filters = pass != Pass::Expanded;
        let kernels: &[u32] = if filters { &[3, 5, 7] } else { &[1] };
        assert!(kernels.contains(&p.kernel) && [1, 2].contains(&p.stride), "no such filter");
        assert!(p.side_out == p.side_in.div_ceil(p.stride), "sides do not fit the stride");
        assert!(filters == self.filter.is_some() && (filters || p.expands()), "no such filter");
        assert!(
            (filters && p.expands()) == self.expand_vectors().is_some(),
            "no batch norm of the expansion"
        );
        let projects = pass == Pass::Projected;
        assert!(projects == self.filter_vectors().is_some(), "no batch norm of the filter");
        assert!(projects == (self.project.is_some() && self.y.is_some()), "projection in part");
        assert!((p.hidden > 0) == self.squeeze_excite().is_some(), "squeeze-excite in part");
        assert!(self.partials.len() >= params.partials_len(), "partial statistics too short");
    }
}
