//! 16-bit numbers in the f32 elements of a device's buffers.
//!
//! Two lie in an element, the first in the lower 16 bits of its bit pattern, so that a row of them is
//! in memory as kernels read it and a [`Slot`](super::Slot) of `n` numbers has `n / 2` elements.
//! Channel counts are multiples of 8: no row ends inside an element, and rows of a slot that starts
//! at a multiple of 4 elements start at multiples of 16 bytes.
//!
//! Patterns of finite numbers are never a NaN as f32, whose exponent would be that of an infinite or
//! invalid upper number, and so survive every copy, through f64 too. An infinite bf16 in an upper half
//! may come back as NaN.

use super::Real;
use half::{bf16, f16};

/// Numbers of an element.
pub const PER_ELEMENT: usize = 2;

/// What 16-bit numbers are. Parameters that kernels share hold the number of a format, or 0 for f32.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE binary16: 11 significant bits, at most 65504.
    F16 = 1,
    /// The upper half of an f32: 8 significant bits.
    Bf16 = 2,
}

/// The number that parameters have for a map in `format`, or in f32.
pub fn number(format: Option<Format>) -> u32 {
    format.map_or(0, |format| format as u32)
}

/// What a number of [`number`] stands for.
pub fn stored(number: u32) -> Option<Format> {
    Format::ALL.into_iter().find(|&format| format as u32 == number)
}

/// Elements that so many numbers take: an even number of them, where they have 16 bits.
pub fn elements(format: Option<Format>, numbers: usize) -> usize {
    match format {
        Some(_) => numbers / PER_ELEMENT,
        None => numbers,
    }
}

/// Bytes of a number of a map in a format, or in f32.
pub fn bytes(number: u32) -> u64 {
    if stored(number).is_some() { 2 } else { 4 }
}

/// Numbers of 16 bytes, which is what a thread of most kernels takes at a time.
pub(crate) fn chunk(number: u32) -> u32 {
    16 / bytes(number) as u32
}

/// The kernel of a format, of those that `NAT_EVERY_FORMAT` makes of one source.
macro_rules! kernel {
    ($name:literal, $format:expr) => {
        match $crate::ops::halves::stored($format) {
            None => concat!($name, "_f32"),
            Some($crate::ops::halves::Format::F16) => concat!($name, "_f16"),
            Some($crate::ops::halves::Format::Bf16) => concat!($name, "_bf16"),
        }
    };
}
pub(crate) use kernel;

impl Format {
    /// Both.
    pub const ALL: [Format; 2] = [Format::F16, Format::Bf16];

    /// The format that a kernel's parameters name.
    pub(crate) fn of(number: u32) -> Format {
        stored(number).unwrap_or(Format::F16)
    }

    /// Where this format's kernel stands in a list of one a format.
    pub(crate) fn index(self) -> usize {
        self as usize - 1
    }

    /// Bits of the nearest number, ties to even; infinite where it is too large.
    pub fn bits(self, value: f32) -> u16 {
        match self {
            Format::F16 => f16::from_f32(value).to_bits(),
            Format::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    /// The number of these bits.
    pub fn value(self, bits: u16) -> f32 {
        match self {
            Format::F16 => f16::from_bits(bits).to_f32(),
            Format::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }

    /// The nearest number.
    pub fn round(self, value: f32) -> f32 {
        self.value(self.bits(value))
    }

    /// An element of two numbers, each rounded.
    pub(crate) fn element(self, low: f32, high: f32) -> f32 {
        f32::from_bits(u32::from(self.bits(low)) | u32::from(self.bits(high)) << 16)
    }

    /// The two numbers of an element.
    pub(crate) fn pair(self, element: f32) -> [f32; PER_ELEMENT] {
        let bits = element.to_bits();
        [self.value(bits as u16), self.value((bits >> 16) as u16)]
    }

    /// Elements of an even number of values, each rounded.
    pub fn pack(self, values: &[f32]) -> Vec<f32> {
        values.chunks_exact(PER_ELEMENT).map(|pair| self.element(pair[0], pair[1])).collect()
    }

    /// The numbers of elements as the elements' own type, exactly: what an operator's definition
    /// computes with.
    pub(crate) fn widen<T: Real>(self, elements: &[T]) -> Vec<T> {
        self.unpack(elements).into_iter().map(|number| T::of(f64::from(number))).collect()
    }

    /// Rounds values into elements, two each: how a definition's result is stored. Values go through
    /// f32, as they do on every device.
    pub(crate) fn narrow<T: Real>(self, values: &[T], elements: &mut [T]) {
        for (element, pair) in elements.iter_mut().zip(values.chunks_exact(PER_ELEMENT)) {
            *element = T::of(f64::from(self.element(pair[0].wide() as f32, pair[1].wide() as f32)));
        }
    }

    /// The numbers of elements, which may be held as any float type.
    pub fn unpack<T: Real>(self, elements: &[T]) -> Vec<f32> {
        elements.iter().flat_map(|element| self.pair(element.wide() as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_number_survives_packing_and_wider_floats() {
        for format in Format::ALL {
            for bits in 0..=u16::MAX {
                let value = format.value(bits);
                if value.is_finite() {
                    assert_eq!(format.bits(value), bits);
                    // Next to the pattern that is most likely to make a NaN of it.
                    for pair in [[value, format.value(0x7bff)], [format.value(0x0001), value]] {
                        let packed = format.pack(&pair);
                        let wide = f64::from(packed[0]);
                        assert_eq!((wide as f32).to_bits(), packed[0].to_bits());
                        assert_eq!(format.unpack(&[wide]), pair);
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        for (format, ulp) in [(Format::F16, 2f32.powi(-10)), (Format::Bf16, 2f32.powi(-7))] {
            assert_eq!(format.round(1.0 + ulp / 2.0), 1.0);
            assert_eq!(format.round(1.0 + 1.5 * ulp), 1.0 + 2.0 * ulp);
            assert_eq!(format.round(1.0 + 0.6 * ulp), 1.0 + ulp);
        }
        assert_eq!(Format::F16.round(65519.0), 65504.0);
        assert_eq!(Format::F16.round(65520.0), f32::INFINITY);
    }
}
