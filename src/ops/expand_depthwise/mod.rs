//! Expansion and depthwise filter of an MBConv in one call, in 16-bit numbers.
//!
//! ```text
//! e = half(activation(expand_scale * (x expand) + expand_shift))                1x1, cin to mid; or x
//! d = half(activation(filter_scale * (e conv filter) + filter_shift))           depthwise k x k, stride s
//! means[i, r] = mean over the columns of d[i, r], for every row r of an image i
//! ```
//!
//! It is the first of the pair of calls that an MBConv is where no block of a device holds an image of it, as
//! [`mbconv`] needs for squeeze-excite; the second is a [`pointwise_half`](super::pointwise_half) with a gate. Between them
//! [`squeeze_excite`](super::squeeze_excite) takes the means as a map of `side_out` pixels in f32.
//!
//! In recalibration it is what the last pass of [`mbconv_pass`](super::mbconv_pass) makes on its way: each batch has
//! scales and shifts of its own, and they are applied to sums that are rounded to the format.
//!
//! ```text
//! bytes = 2 images (side_in^2 cin + side_out^2 mid) + 2 mid cin + 4 k^2 mid, 4 images side_out mid of means,
//!         and the small f32 arrays
//! FLOPs = 2 images mid (side_in^2 cin + side_out^2 k^2), and images mid side_out^2 of means
//! ```
//!
//! On a GPU a block has a band of rows of an image and a slice of its channels: [`fits`].

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

pub use gpu::{block, fits, least_shared_bytes};

use super::halves::Format;
use super::mbconv::Front;
use super::mbconv::blocks::Job;
use super::operator::{Cost, operator};
use super::real::Real;
use super::{Work, mbconv};

/// Shape of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// That of the MBConv as far as it goes: [`mbconv::Params::front`]. No stem.
    pub shape: mbconv::Params,
    /// Images of a batch of recalibration, of which `shape.images` are whole ones; none in inference.
    pub batch_images: Option<u32>,
}

impl Params {
    /// What the 16-bit numbers are.
    pub fn format(&self) -> Format {
        self.shape.format()
    }

    /// Batches that have scales and shifts of their own.
    pub fn batches(&self) -> u32 {
        self.batch_images.map_or(1, |images| self.shape.images / images.max(1))
    }
}

operator! {
    /// Expansion and filter. Every slot starts at a multiple of 4 elements; all channels are multiples of 8.
    /// `expand` and its vectors are there together or not at all.
    ExpandDepthwise(Params) as run => host Args, launch gpu::PairLaunch {
        /// Input map `[images, side_in, side_in, cin]`, two numbers an element.
        read x: halves,
        /// Rows `[mid, weight_cin]`, two numbers an element. Absent: `x` is the expanded map.
        optional expand: halves,
        /// `[batches][mid]`
        optional expand_scale,
        /// `[batches][mid]`
        optional expand_shift,
        /// Filter `[kernel, kernel, weight_channels]`.
        read filter,
        /// `[batches][mid]`
        read filter_scale,
        /// `[batches][mid]`
        read filter_shift,
        /// Depthwise output `[images, side_out, side_out, mid]`, two numbers an element.
        write y: halves,
        /// `[images, side_out, mid]`: the mean of each of its rows of pixels.
        optional_write means,
    }
}

impl Cost for ExpandDepthwise {
    fn work(&self) -> Work {
        let p = &self.params.shape;
        let [images, cin, mid, taps] = [p.images, p.cin, p.mid, p.kernel * p.kernel].map(u64::from);
        let [rows_in, rows_out] = [p.side_in, p.side_out].map(|side| images * u64::from(side * side));
        let expanding = u64::from(self.expand.is_some());
        let means = images * u64::from(p.side_out) * mid * u64::from(self.means.is_some());
        let halves = rows_in * cin + rows_out * mid + expanding * mid * cin;
        let vectors = u64::from(self.params.batches()) * (2 + 2 * expanding);
        let singles = mid * (taps + vectors) + means;
        let flops = 2 * mid * (expanding * rows_in * cin + rows_out * taps) + means * u64::from(p.side_out);
        Work { bytes: 2 * halves + 4 * singles, flops }
    }

    fn jobs(&self) -> Vec<Job> {
        vec![Job::of_pair(&self.params)]
    }
}

impl<'a, T> Args<'a, T> {
    fn front(&self) -> Front<'a, T> {
        Front {
            x: self.x,
            stem: None,
            expand: self.expand,
            expand_scale: self.expand_scale,
            expand_shift: self.expand_shift,
            filter: self.filter,
            filter_scale: self.filter_scale,
            filter_shift: self.filter_shift,
        }
    }

    /// Panics where the shape is none that the kernels take, or an operand is too short.
    fn check(&self, params: &Params) {
        let p = &params.shape;
        assert!(params.batch_images.is_none_or(|images| p.images.is_multiple_of(images)), "batches in part");
        assert!([p.cin, p.mid].iter().all(|channels| channels.is_multiple_of(8)));
        assert!(*p == p.front() && !p.has_stem() && p.shortcut == 0, "ends with the depthwise output");
        self.front().check(p);
    }
}

/// The means of the rows of a depthwise output.
fn row_means<T: Real>(p: &mbconv::Params, filtered: &[T], means: &mut [T]) {
    let (mid, columns) = (p.mid as usize, p.side_out as usize);
    let share = T::one() / T::from(p.side_out).expect("a side");
    for (row, means) in filtered.chunks_exact(columns * mid).zip(means.chunks_exact_mut(mid)) {
        for (c, mean) in means.iter_mut().enumerate() {
            *mean = row.chunks_exact(mid).fold(T::zero(), |sum, pixel| sum + pixel[c]) * share;
        }
    }
}
