//! Losses: cross entropy with smoothed labels, and with a teacher's probabilities.
//!
//! ```text
//! target[i, j] = (1 - smoothing) [j = label i] + smoothing / classes
//! loss[i] = -weight * sum_j (label_ratio * target[i, j] + kd_ratio * teacher[i, j]) log p[i, j]
//! ```
//!
//! with `p = softmax(logits)`; the loss of a batch is the mean over its images. With several exits
//! each has its own call with its own weight (AEP's joint loss); a teacher with several exits is
//! the softmax of the weighted sum of their logits ([`SoftTargets`], OFAv2's ENS-KD).

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::operator::{Cost, Operands, operator, params};

params! {
    /// Shape of soft targets, shared with the kernel.
    TargetsParams = "SoftTargetsParams" {
        /// Images.
        images: u32,
        /// Classes.
        classes: u32,
        /// Elements from one image's logits to the next's; at least `classes`.
        stride: u32,
        /// Weight of each exit; those without logits are not used.
        weights: [f32; 5],
    }
}

operator! {
    /// `probabilities = softmax(sum over exits of weight * logits)`; zero behind the last class.
    SoftTargets(TargetsParams) as targets => host TargetsArgs, gpu TargetsAddresses = "SoftTargetsArgs" {
        /// Logits of the first exit `[images, stride]`.
        read a,
        /// Of another.
        optional b,
        /// Of another.
        optional c,
        /// Of another.
        optional d,
        /// Of another.
        optional e,
        /// `[images, stride]`
        write probabilities,
    }
}

impl Cost for SoftTargets {
    fn work(&self) -> Work {
        let len = u64::from(self.params.images) * u64::from(self.params.classes);
        let exits = self.reads().len() as u64;
        Work { bytes: 4 * len * (exits + 1), flops: len * (2 * exits + 4) }
    }
}

params! {
    /// Shape of a loss, shared with the kernel.
    Params = "LossParams" {
        /// Images.
        images: u32,
        /// Classes.
        classes: u32,
        /// Elements from one image's logits to the next's; at least `classes`.
        stride: u32,
        /// Label smoothing: 0.1, or 0.
        smoothing: f32,
        /// Weight of the labels' term: 1, or 0 where only a teacher is listened to.
        label_ratio: f32,
        /// Weight of the teacher's term.
        kd_ratio: f32,
        /// Weight of the whole: 1, or that of an exit.
        weight: f32,
    }
}

operator! {
    /// The loss of every image and its gradient by the logits.
    Loss(Params) as loss => host LossArgs, gpu LossAddresses = "LossArgs" {
        /// `[images, stride]`
        read logits,
        /// Class indices `[images]`, as numbers of the element type.
        read labels,
        /// Probabilities `[images, stride]`.
        optional teacher,
        /// `[images, 2]`: the loss, and 1 if the first largest logit is the label's else 0.
        write scores,
        /// Gradient of the batch's mean loss `[images, stride]`; zero behind the last class.
        write dlogits,
    }
}

impl Cost for Loss {
    fn work(&self) -> Work {
        let (images, classes) = (u64::from(self.params.images), u64::from(self.params.classes));
        Work { bytes: 4 * images * (2 * classes + 3), flops: 10 * images * classes }
    }
}
