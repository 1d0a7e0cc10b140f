//! From stored pixels to a network's input: cropped, mirrored, normalised and resized in one step.
//!
//! ```text
//! v[y, x, c] = (pixel[top + y, left + x, c] / scale - mean[c]) / std[c]   0 <= y < height, 0 <= x < width
//! y[i, oy, ox, c] = bilinear of v at ((oy + 1/2) height / side_out - 1/2, (ox + 1/2) width / side_out - 1/2)
//! ```
//!
//! Half-pixel centres, no antialiasing, coordinates clamped at the edge of the window; pixels of the
//! window that lie outside of the stored image are black. Without windows each image is its own.
//! Where an image is mirrored, column `ox` is that of `side_out - 1 - ox`.
//!
//! These are the numbers that [`Transform`](crate::data::Transform) and
//! [`Renderer`](crate::data::augment::Renderer) make on the host, to the bit: the fast path and the
//! kernel round each product and each sum. So a data set can live on the device as stored pixels. A
//! stored pixel is one element, the number `red + 256 green + 65536 blue` ([`pack`]). That is below
//! 2^24 and so exact in every float type, and survives any copy or conversion, which a bit pattern
//! would not (some are signalling NaNs).

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, operator, params};
use super::real::Real;
use crate::data::augment::Drawn;

/// Elements of a window: left, top, width, height, and 1 where it is mirrored.
pub const WINDOW: usize = 5;

params! {
    /// Shape and normalisation of a call, shared with the kernel.
    Params = "PreprocessParams" {
        /// Images to make.
        images: u32,
        /// Side of the stored images, in pixels.
        side_in: u32,
        /// Side of the images to make.
        side_out: u32,
        /// The first stored image, where no indices are given.
        first: u32,
        /// The pixel value that stands for 1.
        scale: f32,
        /// Means of the scaled pixels, a channel each.
        mean: [f32; 3],
        /// Standard deviations of the scaled pixels, a channel each.
        std: [f32; 3],
    }
}

impl Params {
    /// Normalisation as `x factor + offset`, each rounded once, as the host's transforms have it.
    fn affine(&self) -> ([f32; 3], [f32; 3]) {
        let channel = |c: usize| (f64::from(self.mean[c]), f64::from(self.std[c]));
        let factor = |(_, std): (f64, f64)| (1.0 / (f64::from(self.scale) * std)) as f32;
        let offset = |(mean, std): (f64, f64)| (-mean / std) as f32;
        (std::array::from_fn(|c| factor(channel(c))), std::array::from_fn(|c| offset(channel(c))))
    }
}

operator! {
    /// A preprocessing call.
    Preprocess(Params) as run => host Args, gpu Addresses = "PreprocessArgs" {
        /// Stored images `[any number, side_in, side_in]`, a packed pixel an element.
        read x,
        /// Which stored images to take, as numbers of the element type: `[images]`. Without it
        /// `first`, `first + 1` and so on.
        optional indices,
        /// What is shown of each, as whole numbers of the element type: `[images, 5]`, of which each row
        /// is a [`window`]. Without it the whole image.
        optional windows,
        /// Images `[images, side_out, side_out, 3]`.
        write y,
    } with {
        factor: [f32; 3],
        offset: [f32; 3],
    }
}

/// Packs HWC pixels of three channels, one element a pixel.
pub fn pack(pixels: &[u8]) -> Vec<f32> {
    packed(pixels).collect()
}

/// As [`pack`], an element at a time.
pub(crate) fn packed(pixels: &[u8]) -> impl Iterator<Item = f32> + '_ {
    let number = |p: &[u8]| u32::from(p[0]) | u32::from(p[1]) << 8 | u32::from(p[2]) << 16;
    pixels.chunks_exact(3).map(move |p| number(p) as f32)
}

/// The elements of what is shown of an image.
pub fn window(drawn: &Drawn) -> [f32; WINDOW] {
    let shown = drawn.window;
    let flip = if drawn.flip { 1.0 } else { 0.0 };
    [shown.left as f32, shown.top as f32, shown.width as f32, shown.height as f32, flip]
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

impl Cost for Preprocess {
    fn work(&self) -> Work {
        let p = &self.params;
        let pixels = |side: u32| u64::from(p.images) * u64::from(side) * u64::from(side);
        Work { bytes: 4 * (pixels(p.side_in) + 3 * pixels(p.side_out)), flops: 36 * pixels(p.side_out) }
    }
}

/// What a call shows of a stored image.
#[derive(Debug, Clone, Copy)]
struct View<'a, T> {
    stored: &'a [T],
    side: usize,
    left: i64,
    top: i64,
    width: usize,
    height: usize,
    flip: bool,
}

impl<'a, T: Real> Args<'a, T> {
    /// What image `i` of the call shows.
    fn view(&self, p: &Params, i: usize) -> View<'a, T> {
        let index = self.indices.map_or(p.first as usize + i, |list| list[i].wide() as usize);
        let side = p.side_in as usize;
        let stored = &self.x[index * side * side..][..side * side];
        let whole = View { stored, side, left: 0, top: 0, width: side, height: side, flip: false };
        self.windows.map_or(whole, |list| {
            let row: [f64; WINDOW] = std::array::from_fn(|k| list[i * WINDOW + k].wide());
            let [left, top] = [row[0], row[1]].map(|at| at as i64);
            let [width, height] = [row[2], row[3]].map(|length| length as usize);
            View { left, top, width, height, flip: row[4] != 0.0, ..whole }
        })
    }
}

impl<T: Real> View<'_, T> {
    /// The packed pixel at a place of the window.
    fn pixel(&self, y: usize, x: usize) -> u32 {
        let inside = |at: i64| usize::try_from(at).ok().filter(|&at| at < self.side);
        match (inside(self.top + y as i64), inside(self.left + x as i64)) {
            (Some(y), Some(x)) => self.stored[y * self.side + x].wide() as u32,
            _ => 0,
        }
    }

    /// The taps of the output's rows and of its columns.
    fn taps(&self, side_out: usize) -> (Vec<Tap<T>>, Vec<Tap<T>>) {
        let column = |x| if self.flip { side_out - 1 - x } else { x };
        let rows = (0..side_out).map(|y| tap(y, self.height, side_out));
        (rows.collect(), (0..side_out).map(|x| tap(column(x), self.width, side_out)).collect())
    }
}
