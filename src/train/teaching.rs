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
    /// What student number `number` learns from.
    pub(super) fn of(&self, number: usize) -> LearnsFrom {
        match self {
            Teaching::Labels => LearnsFrom::Labels,
            Teaching::Network(_) => LearnsFrom::Both,
            Teaching::First(answers) => LearnsFrom::in_place(number, *answers),
            Teaching::Beside(_) => LearnsFrom::Answers,
        }
    }
}

/// What one student of a step learns from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LearnsFrom {
    /// Labels.
    Labels,
    /// Labels and a teacher's answers.
    Both,
    /// Labels; and it teaches the students behind it by its exits' answers, so weighted.
    LabelsAndTeaches([f32; 5]),
    /// A teacher's answers alone.
    Answers,
}

impl LearnsFrom {
    /// Of student number `number` where the first one teaches the others.
    pub(super) fn in_place(number: usize, answers: Weighting) -> LearnsFrom {
        if number == 0 { LearnsFrom::LabelsAndTeaches(answers.weights()) } else { LearnsFrom::Answers }
    }

    /// The loss of the student, whose exits have these weights in it.
    pub(super) fn objective(self, weights: [f32; 5], settings: &Settings, scale: f32) -> Objective {
        let &Settings { smoothing, kd_ratio, .. } = settings;
        let labels = Objective { smoothing, label_ratio: 1.0, kd_ratio: 0.0, weights, teaches: None, scale };
        match self {
            LearnsFrom::Labels => labels,
            LearnsFrom::Both => Objective { kd_ratio, ..labels },
            LearnsFrom::LabelsAndTeaches(answers) => Objective { teaches: Some(answers), ..labels },
            LearnsFrom::Answers => Objective { smoothing: 0.0, label_ratio: 0.0, kd_ratio, ..labels },
        }
    }

    /// Whether it has dropout, where there is any.
    pub(super) fn has_dropout(self) -> bool {
        self != LearnsFrom::Answers
    }
}
