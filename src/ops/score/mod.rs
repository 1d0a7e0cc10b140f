//! How good the logits of every image are: cross entropy, and whether the largest is the label's.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, operator, params};

/// Numbers that an image's score has.
pub const PER_IMAGE: usize = 2;

params! {
    /// Shape of a scoring, shared with the kernel.
    #[derive(Eq)]
    Params = "ScoreParams" {
        /// Images.
        images: u32,
        /// Classes.
        classes: u32,
        /// Elements from one image's logits to the next's; at least `classes`.
        stride: u32,
        /// Images that have labels: those behind them are the same again.
        labelled: u32,
    }
}

operator! {
    /// `out[i] = (cross entropy of image i, 1 if the first largest logit is the label's else 0)`
    Score(Params) as run => host Args, gpu Addresses = "ScoreArgs" {
        /// `[images, stride]`
        read logits,
        /// Class indices `[labelled]`, as numbers of the element type.
        read labels,
        /// `[images, 2]`
        write out,
    }
}

impl Cost for Score {
    fn work(&self) -> Work {
        let (images, classes) = (u64::from(self.params.images), u64::from(self.params.classes));
        Work { bytes: 4 * images * (classes + 3), flops: 4 * images * classes }
    }
}
