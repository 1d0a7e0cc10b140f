//! Who teaches the students of a step, and what each of them learns from.

use super::program::Objective;
use super::{Settings, Teacher, Weighting};
use crate::device::Buffer;
use crate::ops::Slot;

/// Who teaches the students of a step.
#[derive(Clone, Copy)]
pub enum Teaching<'a> {
    /// Nobody: they learn from labels.
    Labels,
    /// A network that does not train, beside the labels.
    Network(&'a Teacher),
    /// The first student, by its exits' weighted answers, as it gives them in this very step (in-place
    /// distillation, arXiv 1903.05134). It learns from labels, with smoothing and dropout; the others learn from
    /// its answers alone, without either.
    First(Weighting),
    /// The first student of a super-network beside this one, in the same way.
    Beside(Answers<'a>),
}

/// What the first student of a step answered, on the device.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    /// Where it is.
    pub(super) work: &'a Buffer,
    /// Probabilities there.
    pub(super) slot: Slot,
}

impl<'a> From<Option<&'a Teacher>> for Teaching<'a> {
    fn from(teacher: Option<&'a Teacher>) -> Teaching<'a> {
        teacher.map_or(Teaching::Labels, Teaching::Network)
    }
}

impl Teaching<'_> {
    /// What student number `number`, whose exits have these weights in its loss, learns from and whether it teaches.
    pub(super) fn objective(
        &self,
        number: usize,
        weights: [f32; 5],
        settings: &Settings,
        scale: f32,
    ) -> Objective {
        let &Settings { smoothing, kd_ratio, .. } = settings;
        let labels = Objective { smoothing, label_ratio: 1.0, kd_ratio: 0.0, weights, teaches: None, scale };
        let taught = Objective { smoothing: 0.0, label_ratio: 0.0, kd_ratio, ..labels };
        match self {
            Teaching::Labels => labels,
            Teaching::Network(_) => Objective { kd_ratio, ..labels },
            Teaching::First(answers) if number == 0 => {
                Objective { teaches: Some(answers.weights()), ..labels }
            }
            Teaching::First(_) | Teaching::Beside(_) => taught,
        }
    }

    /// Whether student number `number` has dropout, where there is any.
    pub(super) fn has_dropout(&self, number: usize) -> bool {
        match self {
            Teaching::Labels | Teaching::Network(_) => true,
            Teaching::First(_) => number == 0,
            Teaching::Beside(_) => false,
        }
    }
}
