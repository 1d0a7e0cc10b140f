//! Element-wise sum of two to four maps: dense skips and parallel branches.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::halves::bytes;
use super::{Slot, Work};

/// Shape of a sum, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Numbers of a map; a multiple of 8.
    pub len: u32,
    /// Maps to add: 2, 3 or 4.
    pub terms: u32,
    /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
    pub format: u32,
}

/// `y = x[0] + x[1] (+ x[2]) (+ x[3])`
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// Shape.
    pub params: Params,
    /// The maps to add.
    pub x: Vec<Slot>,
    /// Their sum.
    pub y: Slot,
}

impl Sum {
    pub(super) fn reads(&self) -> Vec<Slot> {
        self.x.clone()
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.y]
    }

    pub(super) fn work(&self) -> Work {
        let (len, terms) = (u64::from(self.params.len), u64::from(self.params.terms));
        Work { bytes: bytes(self.params.format) * len * (terms + 1), flops: len * (terms - 1) }
    }
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub x: Vec<&'a [T]>,
    pub y: &'a mut [T],
}
