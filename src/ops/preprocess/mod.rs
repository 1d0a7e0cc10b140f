//! From stored pixels to a network's input: normalised and resized in one step.
//!
//! ```text
//! v[y, x, c] = (pixel[y, x, c] / scale - mean[c]) / std[c]
//! y[i, oy, ox, c] = bilinear of v at ((oy + 1/2) side_in / side_out - 1/2, (ox + 1/2) side_in / side_out - 1/2)
//! ```
//!
//! Half-pixel centres, no antialiasing, coordinates clamped at the edge: the same numbers as
//! [`Transform`](crate::data::Transform) makes on the host, so that a data set can live on the
//! device as stored pixels. A stored pixel is one element, the number
//! `red + 256 green + 65536 blue` ([`pack`]). That is below 2^24 and so exact in every float type,
//! and survives any copy or conversion, which a bit pattern would not (some are signalling NaNs).

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::real::Real;
use super::{Slot, Work};

/// Shape and normalisation of a call, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images to make.
    pub images: u32,
    /// Side of the stored images, in pixels.
    pub side_in: u32,
    /// Side of the images to make.
    pub side_out: u32,
    /// The first stored image, where no indices are given.
    pub first: u32,
    /// The pixel value that stands for 1.
    pub scale: f32,
    /// Means of the scaled pixels, a channel each.
    pub mean: [f32; 3],
    /// Standard deviations of the scaled pixels, a channel each.
    pub std: [f32; 3],
}

/// A preprocessing call.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Shape and normalisation.
    pub params: Params,
    /// Stored images `[any number, side_in, side_in]`, a packed pixel an element.
    pub x: Slot,
    /// Which stored images to take, as numbers of the element type: `[images]`. Without it
    /// `first`, `first + 1` and so on.
    pub indices: Option<Slot>,
    /// Images `[images, side_out, side_out, 3]`.
    pub y: Slot,
}

/// Packs HWC pixels of three channels, one element a pixel.
pub fn pack(pixels: &[u8]) -> Vec<f32> {
    let number = |p: &[u8]| u32::from(p[0]) | u32::from(p[1]) << 8 | u32::from(p[2]) << 16;
    pixels.chunks_exact(3).map(|p| number(p) as f32).collect()
}

/// Two neighbouring source positions and the weight of the second.
#[derive(Debug, Clone, Copy)]
struct Tap<T> {
    near: usize,
    far: usize,
    weight: T,
}

/// The tap of output position `x`: a ratio of integers, so exact but for one rounding.
fn tap<T: Real>(x: usize, side_in: usize, side_out: usize) -> Tap<T> {
    // (x + 1/2) side_in / side_out - 1/2 over the denominator 2 side_out, clamped from below.
    let denominator = 2 * side_out;
    let numerator = ((2 * x + 1) * side_in).saturating_sub(side_out);
    let near = numerator / denominator;
    let weight = T::of((numerator % denominator) as f64) / T::of(denominator as f64);
    Tap { near, far: (near + 1).min(side_in - 1), weight }
}

impl Preprocess {
    pub(super) fn reads(&self) -> Vec<Slot> {
        std::iter::once(self.x).chain(self.indices).collect()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.y]
    }

    pub(super) fn work(&self) -> Work {
        let p = &self.params;
        let pixels = |side: u32| u64::from(p.images) * u64::from(side) * u64::from(side);
        Work { bytes: 4 * (pixels(p.side_in) + 3 * pixels(p.side_out)), flops: 36 * pixels(p.side_out) }
    }
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: &'a [T],
    pub indices: Option<&'a [T]>,
    pub y: &'a mut [T],
}

impl<'a, T: Real> Args<'a, T> {
    /// The packed pixels of image `i` of the call.
    fn stored(&self, p: &Params, i: usize) -> &'a [T] {
        let index = self.indices.map_or(p.first as usize + i, |list| list[i].wide() as usize);
        let pixels = (p.side_in * p.side_in) as usize;
        &self.x[index * pixels..][..pixels]
    }
}
