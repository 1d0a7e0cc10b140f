//! Numbers of safetensors files, in whatever width they are stored, as f32.

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// What f32 numbers are made of, for messages.
pub const READ: &str = "F32, F16, BF16 or F64";

/// Why a tensor's numbers cannot be had as f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unread {
    /// They are no real numbers: whole numbers, truth values, or of a form that is not known here.
    Type(Dtype),
    /// A finite number is too large for f32.
    TooLarge {
        /// The first such element.
        index: usize,
        /// Its value.
        value: f64,
    },
}

/// The elements of a tensor as f32: exactly those of F32, F16 and BF16, the nearest of F64.
///
/// # Errors
/// See [`Unread`]. What is no number stays what it is.
pub fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, Unread> {
    let bytes = view.data();
    let bits = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
    match view.dtype() {
        Dtype::F32 => Ok(bytemuck::allocation::pod_collect_to_vec(bytes)),
        Dtype::F16 => Ok(bytes.chunks_exact(2).map(|pair| f16::from_bits(bits(pair)).to_f32()).collect()),
        Dtype::BF16 => Ok(bytes.chunks_exact(2).map(|pair| bf16::from_bits(bits(pair)).to_f32()).collect()),
        Dtype::F64 => {
            let wide: Vec<f64> = bytemuck::allocation::pod_collect_to_vec(bytes);
            let narrow: Vec<f32> = wide.iter().map(|&value| value as f32).collect();
            let mut pairs = wide.iter().zip(&narrow);
            match pairs.position(|(wide, narrow)| wide.is_finite() && narrow.is_infinite()) {
                Some(index) => Err(Unread::TooLarge { index, value: wide[index] }),
                None => Ok(narrow),
            }
        }
        other => Err(Unread::Type(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, Unread> {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        floats(&TensorView::new(dtype, shape, bytes).unwrap())
    }

    fn same(found: &[f32], wanted: &[f32]) -> bool {
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits())
    }

    #[test]
    fn every_width_is_read_to_the_nearest_f32() {
        // The smallest and the largest of each, and a subnormal number.
        let halves: Vec<u8> =
            [0x3c00u16, 0xc000, 0x0001, 0x7bff, 0x8000].iter().flat_map(|b| b.to_le_bytes()).collect();
        let expected = [1.0, -2.0, 2.0f32.powi(-24), 65504.0, -0.0];
        assert!(same(&read(Dtype::F16, &halves).unwrap(), &expected));
        let halves: Vec<u8> =
            [0x3f80u16, 0xc000, 0x0001, 0x7f7f].iter().flat_map(|b| b.to_le_bytes()).collect();
        let expected = [1.0, -2.0, f32::from_bits(0x10000), f32::from_bits(0x7f7f_0000)];
        assert!(same(&read(Dtype::BF16, &halves).unwrap(), &expected));
        let wide: Vec<u8> = [0.1f64, f64::from(f32::MAX), 1e-300, f64::MIN_POSITIVE]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert!(same(&read(Dtype::F64, &wide).unwrap(), &[0.1, f32::MAX, 0.0, 0.0]));
        let single: Vec<u8> = [1.5f32, f32::NEG_INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(same(&read(Dtype::F32, &single).unwrap(), &[1.5, f32::NEG_INFINITY]));
    }

    #[test]
    fn what_is_no_number_stays_and_what_is_too_large_is_named() {
        for (dtype, bytes) in [
            (Dtype::F16, 0x7e00u16.to_le_bytes().to_vec()),
            (Dtype::BF16, 0x7fc0u16.to_le_bytes().to_vec()),
            (Dtype::F64, f64::NAN.to_le_bytes().to_vec()),
        ] {
            assert!(read(dtype, &bytes).unwrap()[0].is_nan(), "{dtype:?}");
        }
        assert_eq!(read(Dtype::F64, &f64::INFINITY.to_le_bytes()).unwrap(), [f32::INFINITY]);
        let wide: Vec<u8> = [1.0f64, -1e39, 1e40].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(read(Dtype::F64, &wide), Err(Unread::TooLarge { index: 1, value: -1e39 }));
        assert_eq!(read(Dtype::I64, &[0; 8]), Err(Unread::Type(Dtype::I64)));
        assert_eq!(read(Dtype::BOOL, &[1]), Err(Unread::Type(Dtype::BOOL)));
    }
}
