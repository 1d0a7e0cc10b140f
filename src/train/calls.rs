//! A step as lists of calls, without a device: for the performance model.
//!
//! The same lists that [`Trainer::step`](super::Trainer::step) runs, in its order; a test counts them
//! while it does.

use super::loss_scale::LossScale;
use super::optimiser::{self, Optimiser};
use super::program::{self, StepSlots};
use super::slots::TrainingSlots;
use super::teaching::LearnsFrom;
use super::{Settings, Student, Weighting};
use crate::engine::Precision;
use crate::ops::Call;
use crate::space::walk::Exits;
use crate::space::{Arch, Family};
use crate::supernet::Layout;
use std::collections::BTreeSet;

/// What a step is made of.
#[derive(Debug, Clone)]
pub struct StepShape<'a> {
    /// The sub-networks whose gradients are added up.
    pub students: &'a [Student],
    /// Who teaches them.
    pub teacher: StepTeacher,
    /// Images of the batch.
    pub images: usize,
    /// Side of the images, in pixels.
    pub side: usize,
    /// Whether there is dropout before the classifier.
    pub dropout: bool,
    /// What maps are stored as.
    pub precision: Precision,
}

/// Who teaches the students of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepTeacher {
    /// Nobody.
    None,
    /// The largest network of the same layout as this family has it, read at its last exit.
    Network(Family),
    /// The first student.
    First,
}

impl StepTeacher {
    /// What student number `number` learns from.
    fn of(self, number: usize) -> LearnsFrom {
        match self {
            StepTeacher::None => LearnsFrom::Labels,
            StepTeacher::Network(_) => LearnsFrom::Both,
            StepTeacher::First => LearnsFrom::in_place(number, Weighting::Own),
        }
    }
}

/// Calls and the elements of the buffer that they write.
#[derive(Debug, Clone)]
pub struct CallList {
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// Elements of the buffer.
    pub arena_len: usize,
}

/// The calls of one optimiser step.
pub fn step_calls(layout: &Layout, optimiser: &Optimiser, shape: &StepShape<'_>) -> Vec<CallList> {
    let &StepShape { students, teacher, images, side, dropout, precision } = shape;
    let format = precision.format();
    let places = TrainingSlots::new(layout, format);
    let networks: Vec<(Arch, Exits)> = students.iter().map(|student| student.network(side)).collect();
    let has_dropout = |number| dropout && teacher.of(number).has_dropout();
    let shared = StepSlots::new(layout, &places, format, (images, side), &networks, has_dropout);
    let parts = (layout, &places, &shared);
    let mut lists = Vec::new();
    let mut push = |calls: Vec<Call>, arena_len: usize| lists.push(CallList { calls, arena_len });
    if let StepTeacher::Network(family) = teacher {
        let arch = Arch::largest(family, side as u32, None);
        let (exits, weights) = (Weighting::Own.exits(&arch), Weighting::Own.weights());
        let program = program::teacher((layout, &shared), (&arch, exits), images, weights);
        push(program.calls, program.work_len);
    }
    push(vec![program::zeros(program::whole_gradient(layout))], shared.end);
    let scale = LossScale::default().factor(precision);
    let settings = Settings { smoothing: 0.1, kd_ratio: 1.0, ..Settings::default() };
    let mut offsets = BTreeSet::new();
    for (number, (arch, exits)) in networks.iter().enumerate() {
        let weights = students[number].weighting.weights();
        let objective = teacher.of(number).objective(weights, &settings, scale);
        let program = program::student(parts, number, (arch, *exits), images, objective);
        push(program.calls, program.work_len);
        push(program.running, places.state_len);
        offsets.extend(program.touched);
    }
    push(optimiser::derived_gradients(layout, &offsets), shared.end);
    let touched = optimiser::tensors(layout, &offsets);
    push(optimiser::norm(layout, &places, &touched, optimiser.clip, 1.0 / scale), shared.end);
    let steps = vec![1; layout.tensors().len()];
    push(optimiser.update(layout, &places, &touched, &steps, 1e-3), places.state_len);
    push(places.refresh, places.state_len);
    lists
}
