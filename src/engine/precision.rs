//! What maps and the weights of 1x1 convolutions are stored as.
//!
//! In 16 bits every operator still computes in f32, and so are per-channel numbers, gates and logits: what is
//! rounded is what crosses memory between operators, pooled features among it, and what a tensor core
//! multiplies.

pub use crate::config::Precision;

use crate::device::{Buffer, Device, Error, Memory};
use crate::ops::Threads;
use crate::ops::halves::Format;
use crate::supernet::{Supernet, derive_calls};

impl Precision {
    /// The 16-bit format, unless it is f32.
    pub fn format(self) -> Option<Format> {
        match self {
            Precision::F32 => None,
            Precision::F16 => Some(Format::F16),
            Precision::Bf16 => Some(Format::Bf16),
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        if self.format().is_some() { 2 } else { 4 }
    }

    /// Numbers that so many elements of a buffer hold.
    pub fn numbers(self, elements: usize) -> usize {
        elements * size_of::<f32>() / self.bytes() as usize
    }

    /// What the bits of results on a device depend on: as [`Device::arithmetic`], with the precision
    /// where it is not f32.
    pub fn arithmetic(self, device: &dyn Device) -> String {
        match self {
            Precision::F32 => device.arithmetic(),
            _ => format!("{}, {self}", device.arithmetic()),
        }
    }

    /// A super-network's weights on a device, with the filters that are derived from others, and in 16 bits
    /// with the rows of the 1x1 convolutions behind them.
    ///
    /// # Errors
    /// The device fails.
    pub fn weights(self, device: &dyn Device, supernet: &Supernet) -> Result<Buffer, Error> {
        let (layout, packed) = (&supernet.layout, &supernet.packed);
        let mut weights = match self.format() {
            None => device.allocate(layout.len())?,
            Some(format) => {
                let mut weights = device.allocate(layout.len_with_rows())?;
                device.upload(&mut weights, layout.len(), &layout.pack_rows(packed, format))?;
                weights
            }
        };
        device.upload(&mut weights, 0, packed)?;
        let none = device.allocate(0)?;
        let memory = Memory { weights: &none, network: &none, arena: &mut weights };
        device.run(&derive_calls(layout), memory, Threads::All)?;
        Ok(weights)
    }
}
