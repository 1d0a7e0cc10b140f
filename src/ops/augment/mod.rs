//! AutoAugment's operations on stored pixels.
//!
//! Each image has up to two operations, one after the other, at its own size: what
//! [`Operation`] says, with the pixels that
//! [`Renderer`](crate::data::augment::Renderer) makes on the host, to the bit. The host draws and
//! works out everything that needs more than whole numbers, products and sums (a rotation's matrix in
//! fixed point); what is left are moves of pixels, tables of 256 entries (of which the device makes
//! those that need the image's histogram or mean), and blends.
//!
//! Pixels are packed as in [`preprocess`](super::preprocess): u8 in and u8 out, an element a pixel.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, operator, params};
use super::real::Real;
use crate::data::augment::{Change, Operation};

/// Elements of an operation: its kind, and up to six numbers in two parts or one in one.
pub const OPERATION: usize = 13;
/// Operations of an image.
pub const OPERATIONS: usize = 2;

params! {
    /// Shape of a call, shared with the kernel.
    #[derive(Eq)]
    Params = "AugmentParams" {
        /// Images to make.
        images: u32,
        /// Side of the images, in pixels.
        side: u32,
    }
}

operator! {
    /// Operations on stored images.
    Augment(Params) as run => host Args, gpu Addresses = "AugmentArgs" {
        /// Stored images `[any number, side, side]`, a packed pixel an element.
        read x,
        /// Which stored images to take, as numbers of the element type: `[images]`.
        read indices,
        /// `[images, 2, 13]`: see [`describe`].
        read operations,
        /// Images between the two operations: `[images, side, side]`.
        write scratch: scratch,
        /// Images `[images, side, side]`, packed.
        write y,
    }
}

impl Cost for Augment {
    fn work(&self) -> Work {
        let p = &self.params;
        let pixels = u64::from(p.images) * u64::from(p.side) * u64::from(p.side);
        Work { bytes: 4 * 4 * pixels, flops: 0 }
    }
}

/// Appends the elements of an image's operations.
///
/// A kind of 0 is nothing. Numbers in 16.16 fixed point are two elements, whole pixels and parts of
/// 65536, since a float holds 24 bits; more than 2^24 pixels are cut to that.
pub fn describe(operations: &[Option<Operation>; OPERATIONS], side: usize, out: &mut Vec<f32>) {
    for operation in operations {
        let mut elements = [0.0; OPERATION];
        if let Some(operation) = operation {
            encode(operation.change(side), &mut elements);
        }
        out.extend(elements);
    }
}

fn encode(change: Change, out: &mut [f32; OPERATION]) {
    const MOST: i64 = (1 << 24) - 1;
    let (kind, number) = match change {
        Change::Move(map) => {
            for (pair, value) in out[1..].chunks_exact_mut(2).zip(map) {
                pair[0] = (value >> 16).clamp(-MOST, MOST) as f32;
                pair[1] = (value & 0xffff) as f32;
            }
            out[0] = 1.0;
            return;
        }
        Change::AutoContrast => (2.0, 0.0),
        Change::Equalize => (3.0, 0.0),
        Change::Invert => (4.0, 0.0),
        Change::Solarize(threshold) => (5.0, f32::from(threshold)),
        Change::Posterize(mask) => (6.0, f32::from(mask)),
        Change::Contrast(factor) => (7.0, factor),
        Change::Color(factor) => (8.0, factor),
        Change::Brightness(factor) => (9.0, factor),
        Change::Sharpness(factor) => (10.0, factor),
    };
    (out[0], out[1]) = (kind, number);
}

/// The other way round; `None` for nothing.
fn decode<T: Real>(elements: &[T]) -> Option<Change> {
    let number = elements[1].wide();
    Some(match elements[0].wide() as u32 {
        1 => {
            let pair = |i: usize| (elements[1 + 2 * i].wide() as i64, elements[2 + 2 * i].wide() as i64);
            Change::Move(std::array::from_fn(|i| pair(i).0 * 65_536 + pair(i).1))
        }
        2 => Change::AutoContrast,
        3 => Change::Equalize,
        4 => Change::Invert,
        5 => Change::Solarize(number as u16),
        6 => Change::Posterize(number as u8),
        7 => Change::Contrast(number as f32),
        8 => Change::Color(number as f32),
        9 => Change::Brightness(number as f32),
        10 => Change::Sharpness(number as f32),
        _ => return None,
    })
}

/// One image of a call: unpacked, changed, and packed to `y`.
fn image<T: Real>(p: &Params, a: (&[T], &[T], &[T]), i: usize, y: &mut [T]) {
    let (x, indices, operations) = a;
    let (side, pixels) = (p.side as usize, y.len());
    let stored = &x[indices[i].wide() as usize * pixels..][..pixels];
    let bytes = |&pixel: &T| {
        let packed = pixel.wide() as u32;
        [packed as u8, (packed >> 8) as u8, (packed >> 16) as u8]
    };
    let mut image: Vec<u8> = stored.iter().flat_map(bytes).collect();
    let mut scratch = Vec::with_capacity(image.len());
    let own = &operations[i * OPERATIONS * OPERATION..][..OPERATIONS * OPERATION];
    for change in own.chunks_exact(OPERATION).filter_map(decode) {
        change.apply(&mut image, &mut scratch, side);
    }
    let packed = super::preprocess::packed(&image);
    y.iter_mut().zip(packed).for_each(|(y, pixel)| *y = T::of(f64::from(pixel)));
}
