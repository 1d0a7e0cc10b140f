//! How good the logits of every image are: cross entropy, and whether the largest is the label's.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::{Slot, Work};

/// Numbers that an image's score has.
pub const PER_IMAGE: usize = 2;

/// Shape of a scoring, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images.
    pub images: u32,
    /// Classes.
    pub classes: u32,
    /// Elements from one image's logits to the next's; at least `classes`.
    pub stride: u32,
    /// Images that have labels: those behind them are the same again.
    pub labelled: u32,
}

/// `out[i] = (cross entropy of image i, 1 if the first largest logit is the label's else 0)`
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Shape.
    pub params: Params,
    /// `[images, stride]`
    pub logits: Slot,
    /// Class indices `[labelled]`, as numbers of the element type.
    pub labels: Slot,
    /// `[images, 2]`
    pub out: Slot,
}

impl Score {
    pub(super) fn reads(&self) -> Vec<Slot> {
        vec![self.logits, self.labels]
    }

    pub(super) fn writes(&self) -> Vec<Slot> {
        vec![self.out]
    }

    pub(super) fn work(&self) -> Work {
        let (images, classes) = (u64::from(self.params.images), u64::from(self.params.classes));
        Work { bytes: 4 * images * (classes + 3), flops: 4 * images * classes }
    }
}

/// The operands as slices on the host.
#[allow(missing_docs)]
pub struct Args<'a, T> {
    pub logits: &'a [T],
    pub labels: &'a [T],
    pub out: &'a mut [T],
}
