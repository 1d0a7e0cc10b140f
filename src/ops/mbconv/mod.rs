//! A whole inverted bottleneck (MBConv) of inference in one call, in 16-bit numbers.
//!
//! ```text
//! e = half(activation(expand_scale * (x expand) + expand_shift))                1x1, cin to mid; or
//! e = half(stem_activation(expand_scale * (x conv stem) + expand_shift))        3x3, stride 2, 3 to mid; or x
//! d = half(activation(filter_scale * (e conv filter) + filter_shift))           depthwise k x k, stride s
//! g = hsigmoid(excite relu(reduce mean(d) + reduce_bias) + excite_bias)         or 1 without squeeze-excite
//! y = half(project_scale * (half(d g) project) + project_shift + residual)      1x1, mid to cout
//! ```
//!
//! That is the chain of [`pointwise_half`] or [`stem`], [`depthwise`], [`squeeze_excite`] and
//! [`pointwise_half`] with the maps between them, `e` and `d`, rounded to the format, and the means those of
//! the rounded `d`. [`Params::expansion`] and its kin are the parameters of the chain. Maps, pointwise weights
//! and the residual are [16-bit numbers](super::halves); filters, squeeze-excite, batch norms and a stem's
//! images are f32, and so are sums.
//!
//! The map comes in one of three ways: *expanded*; made by a *stem*, as a network's first layers have it, where
//! the residual can only be `e` itself ([`Params::shortcut`]) and the filter is 3x3 with stride 1, without
//! squeeze-excite; or as it is, and then `cin` equals `mid`.
//!
//! ```text
//! bytes = 2 images (side_in^2 cin + side_out^2 cout) + 2 mid (cin + cout) + 4 k^2 mid    and the small f32 arrays;
//!         of a stem 12 images image_side^2 + 108 mid instead of what has cin
//! FLOPs = 2 images mid (side_in^2 cin + side_out^2 (k^2 + cout))                         27 for cin of a stem
//! ```
//!
//! On a GPU the maps between never leave a multiprocessor, so a call exists only for shapes of which an
//! image fits its shared memory, with a slice of the expanded map and the whole depthwise output in it, or,
//! where there is no squeeze-excite, which needs all of an image, a band of its rows: [`fits`]. Where there is no
//! such call, [`expand_depthwise`](super::expand_depthwise) is its first half. In
//! kilobytes, for the stem with its block, and for the first layer of each stage of a network of
//! width 1 and the others, with the largest filter and expansion:
//!
//! | pixels | stem | 1.1 | 1.2 | 2.1 | 2.2 | 3.1 | 3.2 | 4.1 | 4.2 | 5.1 | 5.2 |
//! | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
//! |  64 |   19 |   30 |   21 |   50 |   46 |   23 |   24 |   44 |   50 |   46 |   48 |
//! |  96 |   22 |   42 |   29 |  105 |   95 |   24 |   26 |   67 |   80 |   53 |   58 |
//! | 128 |   25 |   54 |   36 |  181 |  164 |   24 |   28 |   94 |  118 |   62 |   71 |
//! | 160 |   28 |   66 |   44 |  280 |  252 |   29 |   33 |  128 |  171 |   74 |   88 |
//! | 192 |   33 |   79 |   52 |  399 |  360 |   33 |   38 |  178 |  242 |   98 |  117 |
//! | 224 |   38 |   91 |   59 |  540 |  488 |   38 |   43 |  239 |  326 |  130 |  141 |
//!
//! A block can have 227 on an H100 and 163 on an A100: all layers up to 64 pixels at widths up to 1.2
//! there, at width 1 here, and up to 96 pixels at width 1; at any size what has no squeeze-excite.

pub(crate) mod blocks;
pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

pub use blocks::{Block, block, fits, least_shared_bytes};

use super::halves::{Format, PER_ELEMENT};
use super::mbconv::blocks::Job;
use super::operator::{Cost, Group, operator, params};
use super::{Activation, Slot, Work, depthwise, pointwise, pointwise_half, squeeze_excite, stem};

params! {
    /// Shape of a call, shared with the kernel.
    #[derive(Eq)]
    Params = "MbconvParams" {
        /// Images.
        images: u32,
        /// Side of the map before the filter, in pixels.
        side_in: u32,
        /// Side of the output map: `ceil(side_in / stride)`.
        side_out: u32,
        /// Input channels; 3 with a stem.
        cin: u32,
        /// Expanded channels.
        mid: u32,
        /// Output channels.
        cout: u32,
        /// Side of the filter: 3, 5 or 7.
        kernel: u32,
        /// Pixel stride of the filter: 1 or 2.
        stride: u32,
        /// An [`Activation`], after an expansion and after the filter.
        activation: u32,
        /// Hidden units of squeeze-excite; 0 without.
        hidden: u32,
        /// Length of a stored row of `expand`; 0 without expansion.
        weight_cin: u32,
        /// Channels of the stored filter.
        weight_channels: u32,
        /// Length of a stored row of `project`.
        weight_mid: u32,
        /// Channels of the stored reduce panels.
        se_channels: u32,
        /// Hidden units of the stored excite panels.
        se_hidden: u32,
        /// Side of the images that a stem makes the map of; 0 without a stem.
        image_side: u32,
        /// An [`Activation`], after a stem.
        stem_activation: u32,
        /// 1: what a stem makes is added to `y`.
        shortcut: u32,
        /// A [`Format`].
        format: u32,
    }
}

impl Params {
    /// What the 16-bit numbers are.
    pub fn format(&self) -> Format {
        Format::of(self.format)
    }

    /// Whether the map is expanded here.
    pub fn expands(&self) -> bool {
        self.weight_cin > 0
    }

    /// Whether the map is made of images here.
    pub fn has_stem(&self) -> bool {
        self.image_side > 0
    }

    fn pixels_in(&self) -> u32 {
        self.side_in * self.side_in
    }

    fn pixels_out(&self) -> u32 {
        self.side_out * self.side_out
    }

    /// Bytes of a 16-bit input map.
    pub(super) fn input_bytes(&self) -> u64 {
        2 * u64::from(self.images * self.pixels_in()) * u64::from(self.cin)
    }

    /// Operations of the 1x1 convolutions, which tensor cores make.
    pub fn tensor_flops(&self) -> u64 {
        let [images, cin, mid, cout] = [self.images, self.cin, self.mid, self.cout].map(u64::from);
        let expansion = u64::from(self.expands()) * u64::from(self.pixels_in()) * cin;
        2 * images * mid * (expansion + u64::from(self.pixels_out()) * cout)
    }

    /// Numbers of the expanded map.
    pub fn expanded_len(&self) -> usize {
        (self.images * self.pixels_in()) as usize * self.mid as usize
    }

    /// Numbers of the depthwise output.
    pub fn filtered_len(&self) -> usize {
        (self.images * self.pixels_out()) as usize * self.mid as usize
    }

    /// The shape as far as the depthwise output.
    pub fn front(&self) -> Params {
        Params { cout: 0, hidden: 0, weight_mid: 0, se_channels: 0, se_hidden: 0, ..*self }
    }

    /// The expansion as a call of its own.
    pub fn expansion(&self) -> pointwise_half::Params {
        let shape = pointwise::Params {
            images: self.images,
            side_in: self.side_in,
            side_out: self.side_in,
            cin: self.cin,
            cout: self.mid,
            weight_cin: self.weight_cin,
            stride: 1,
            activation: self.activation,
        };
        pointwise_half::Params { shape, output: self.format, pooled: 0, format: self.format }
    }

    /// The stem as a call of its own, to a map in f32.
    pub fn stem(&self) -> stem::Params {
        stem::Params {
            images: self.images,
            side_in: self.image_side,
            side_out: self.side_in,
            cout: self.mid,
            activation: self.stem_activation,
            format: 0,
        }
    }

    /// The filter as a call of its own, on a map in f32.
    pub fn depthwise(&self) -> depthwise::Params {
        depthwise::Params {
            images: self.images,
            side_in: self.side_in,
            side_out: self.side_out,
            channels: self.mid,
            weight_channels: self.weight_channels,
            kernel: self.kernel,
            stride: self.stride,
            activation: self.activation,
            format: 0,
        }
    }

    /// Squeeze-excite as a call of its own, on a map in f32.
    pub fn squeeze_excite(&self) -> squeeze_excite::Params {
        squeeze_excite::Params {
            images: self.images,
            pixels: self.pixels_out(),
            channels: self.mid,
            hidden: self.hidden,
            weight_channels: self.se_channels,
            weight_hidden: self.se_hidden,
            format: 0,
        }
    }

    /// The projection as a call of its own.
    pub fn projection(&self) -> pointwise_half::Params {
        let shape = pointwise::Params {
            images: self.images,
            side_in: self.side_out,
            side_out: self.side_out,
            cin: self.mid,
            cout: self.cout,
            weight_cin: self.weight_mid,
            stride: 1,
            activation: Activation::None as u32,
        };
        pointwise_half::Params { shape, output: self.format, pooled: 0, format: self.format }
    }
}

operator! {
    /// An MBConv. Every slot starts at a multiple of 4 elements; all channels and `hidden` are multiples of
    /// 8, but for the colours of images. `expand` or `stem` and its vectors are there together or not at all,
    /// and so are those of squeeze-excite.
    Mbconv(Params) as run, together => host Args, gpu Addresses = "MbconvArgs", launch gpu::Launch {
        /// Input map `[images, side_in, side_in, cin]`, two numbers an element; of a stem images
        /// `[images, image_side, image_side, 3]` in f32.
        read x,
        /// Filters `[3, 3, 3, mid]`.
        optional stem,
        /// Rows `[mid, weight_cin]`, two numbers an element.
        optional expand: halves,
        /// `[mid]`
        optional expand_scale,
        /// `[mid]`
        optional expand_shift,
        /// Filter `[kernel, kernel, weight_channels]`.
        read filter,
        /// `[mid]`
        read filter_scale,
        /// `[mid]`
        read filter_shift,
        /// Panels `[ceil(hidden / 16)][se_channels][16]`.
        optional reduce,
        /// `[hidden]`
        optional reduce_bias,
        /// Panels `[ceil(mid / 16)][se_hidden][16]`.
        optional excite,
        /// `[mid]`
        optional excite_bias,
        /// Rows `[cout, weight_mid]`, two numbers an element.
        read project: halves,
        /// `[cout]`
        read project_scale,
        /// `[cout]`
        read project_shift,
        /// As `y`: what is added to it.
        optional residual: halves,
        /// Output map `[images, side_out, side_out, cout]`, two numbers an element.
        write y: halves,
    }
}

/// MBConvs that are launched together, as those of many networks at one depth.
pub type MbconvGroup = Group<Mbconv>;

/// The work of calls, each with its input and the bytes of that: what several read comes from the cache, but
/// for the first time.
pub(super) fn work_on_inputs(calls: impl Iterator<Item = (Slot, u64, Work)>) -> Work {
    let mut read: Vec<Slot> = Vec::new();
    calls
        .map(|(input, bytes, work)| {
            if read.contains(&input) {
                return Work { bytes: work.bytes - bytes, ..work };
            }
            read.push(input);
            work
        })
        .sum()
}

impl Cost for Mbconv {
    fn work(&self) -> Work {
        let p = &self.params;
        let [images, cin, mid, cout] = [p.images, p.cin, p.mid, p.cout].map(u64::from);
        let [hidden, taps] = [p.hidden, p.kernel * p.kernel].map(u64::from);
        let rows_in = images * u64::from(p.pixels_in());
        let rows_out = images * u64::from(p.pixels_out());
        let [expanding, stem] = [&self.expand, &self.stem].map(|operand| u64::from(operand.is_some()));
        let image = images * u64::from(p.image_side * p.image_side) * 3;
        // A shortcut is the input that the block has just read.
        let added = self.residual.is_some_and(|residual| residual != self.x);
        let maps = (1 - stem) * rows_in * cin + rows_out * cout * (1 + u64::from(added));
        let halves = maps + mid * (expanding * cin + cout);
        let mut singles = image + mid * (taps + 2 + 2 * expanding + 29 * stem) + 2 * cout;
        let mut flops = 2 * mid * (rows_in * (expanding * cin + 27 * stem) + rows_out * (taps + cout));
        if self.reduce.is_some() {
            singles += 2 * mid * hidden + mid + hidden;
            flops += mid * (rows_out + 4 * images * hidden);
        }
        Work { bytes: 2 * halves + 4 * singles, flops }
    }

    fn jobs(&self) -> Vec<Job> {
        vec![Job::whole(&self.params)]
    }

    fn work_together(calls: &[Mbconv]) -> Work {
        work_on_inputs(calls.iter().map(|call| (call.x, call.params.input_bytes(), call.work())))
    }
}

/// Operands as far as the depthwise output.
pub(super) struct Front<'a, T> {
    pub x: &'a [T],
    pub stem: Option<&'a [T]>,
    pub expand: Option<&'a [T]>,
    pub expand_scale: Option<&'a [T]>,
    pub expand_shift: Option<&'a [T]>,
    pub filter: &'a [T],
    pub filter_scale: &'a [T],
    pub filter_shift: &'a [T],
}

impl<T> Front<'_, T> {
    /// Panics where the shape is none that the kernels take as far as the depthwise output, or an operand is too
    /// short.
    pub fn check(&self, p: &Params) {
        assert!([3, 5, 7].contains(&p.kernel) && [1, 2].contains(&p.stride), "no such filter");
        assert!(p.side_out == p.side_in.div_ceil(p.stride), "sides do not fit the stride");
        assert!(p.expands() == self.expand.is_some(), "expansion in part");
        assert!(p.expands() || p.has_stem() || p.cin == p.mid, "a map that is not expanded has mid channels");
        assert!(p.mid <= p.weight_channels, "more channels than are stored");
        let elements = if p.has_stem() {
            (p.images * p.image_side * p.image_side * 3) as usize
        } else {
            (p.images * p.pixels_in() * p.cin) as usize / PER_ELEMENT
        };
        assert!(self.x.len() >= elements, "input too short");
    }
}

/// The maps inside, two numbers an element.
pub(super) struct Inside<T> {
    /// The expanded map, where it is not the input.
    pub expanded: Option<Vec<T>>,
    /// The depthwise output.
    pub filtered: Vec<T>,
}

/// Operands of squeeze-excite.
type SqueezeExcite<'a, T> = [&'a [T]; 4];

impl<'a, T> Args<'a, T> {
    /// The operands of squeeze-excite: reduce, its bias, excite, its bias.
    fn squeeze_excite(&self) -> Option<SqueezeExcite<'a, T>> {
        Some([self.reduce?, self.reduce_bias?, self.excite?, self.excite_bias?])
    }

    /// The operands as far as the depthwise output.
    fn front(&self) -> Front<'a, T> {
        Front {
            x: self.x,
            stem: self.stem,
            expand: self.expand,
            expand_scale: self.expand_scale,
            expand_shift: self.expand_shift,
            filter: self.filter,
            filter_scale: self.filter_scale,
            filter_shift: self.filter_shift,
        }
    }

    /// Panics where the shape is none that the kernels take, or an operand is too short.
    fn check(&self, p: &Params) {
        assert!([p.mid, p.cout, p.hidden].iter().all(|channels| channels.is_multiple_of(8)));
        assert!(p.cin.is_multiple_of(8) || p.has_stem());
        self.front().check(p);
        if p.has_stem() {
            assert!(self.stem.is_some() && !p.expands() && p.cin == 3, "a stem is in place of an expansion");
            assert!((p.kernel, p.stride, p.hidden) == (3, 1, 0) && self.residual.is_none(), "no such stem");
            assert!(p.side_in == p.image_side.div_ceil(2), "sides do not fit the stem");
        }
        assert!(p.shortcut == 0 || (p.has_stem() && p.cout == p.mid), "no map to be added");
        assert!(p.mid <= p.weight_mid, "more channels than are stored");
        assert!((p.hidden > 0) == self.squeeze_excite().is_some(), "squeeze-excite in part");
    }
}
