//! What one network does in a step: forward, losses, backward, running statistics.

use super::backward::Backward;
use super::slots::{TrainingSlots, arena};
use super::tape::Tape;
use crate::engine::arena::Arena;
use crate::engine::build::Builder;
use crate::ops::grad::activation::{self, Activate};
use crate::ops::grad::batch_norm::{BnRunning, BnRunningGroup, RunningParams};
use crate::ops::halves::Format;
use crate::ops::loss::{self, Loss, SoftTargets, TargetsParams};
use crate::ops::update::{Fill, FillParams};
use crate::ops::{Activation, Call, Slot, score};
use crate::space::Arch;
use crate::space::walk::{Exits, Part, parts};
use crate::supernet::Layout;
use std::collections::BTreeSet;

/// Momentum of running statistics, as everywhere in this family of networks.
const BN_MOMENTUM: f32 = 0.1;

/// What goes into the networks of a step and comes out of them, at places that none of them works on: what
/// maps are stored as, the batch, the teacher's answer to it, and each student's dropout masks and scores.
#[derive(Debug, Clone)]
pub(super) struct StepSlots {
    /// Unless it is f32.
    pub format: Option<Format>,
    /// All scores, student by student: behind [`TrainingSlots::clip`], so that one copy reads all that a step finds.
    pub scores: Slot,
    /// `[images]`
    pub labels: Slot,
    /// Labels and all masks: what a step sends beside the images, in one copy.
    pub sent: Slot,
    /// `[images, side, side, 3]`
    pub input: Slot,
    /// The teacher's probabilities `[images, stride]`.
    pub teacher: Slot,
    /// What each student has alone.
    pub students: Vec<StudentSlots>,
    /// Elements of the work buffer up to here.
    pub end: usize,
}

/// What a student has alone, for every exit read.
#[derive(Debug, Clone)]
pub(super) struct StudentSlots {
    /// Loss, scaled, and correctness: `[images, 2]`.
    pub scores: Vec<Slot>,
    /// Dropout masks, if there is dropout.
    pub masks: Vec<Slot>,
}

impl StepSlots {
    /// For the students, read at their exits, and masks for those that have `dropout`, by number.
    pub(super) fn new(
        layout: &Layout,
        places: &TrainingSlots,
        format: Option<Format>,
        (images, side): (usize, usize),
        students: &[(Arch, Exits)],
        dropout: impl Fn(usize) -> bool,
    ) -> StepSlots {
        let mut free = Arena::with_reserved(places.reserved);
        let mut own: Vec<StudentSlots> = students
            .iter()
            .map(|(_, exits)| {
                let scores = exits.iter().map(|_| free.take(score::PER_IMAGE * images)).collect();
                StudentSlots { scores, masks: Vec::new() }
            })
            .collect();
        let scores = arena(places.reserved, free.len() - places.reserved);
        let labels = free.take(images);
        let masked = own.iter_mut().zip(students).enumerate().filter(|(number, _)| dropout(*number));
        for (_, (own, (arch, exits))) in masked {
            let mixed = parts(layout.channels(), arch, *exits).filter_map(|part| match part {
                Part::Exit(exit) => Some(exit.head.mix),
                _ => None,
            });
            own.masks = mixed.map(|mixed| free.take(images * mixed)).collect();
        }
        let last = own.iter().flat_map(|own| &own.masks).last().unwrap_or(&labels);
        let sent = arena(labels.offset, last.offset + last.len - labels.offset);
        let input = free.take(images * side * side * 3);
        let teacher = free.take(images * stride(layout));
        StepSlots { format, scores, labels, sent, input, teacher, students: own, end: free.len() }
    }
}

/// Elements from one image's logits to the next's.
pub(super) fn stride(layout: &Layout) -> usize {
    layout.classes().next_multiple_of(8)
}

/// The loss of one network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Objective {
    /// Label smoothing.
    pub smoothing: f32,
    /// Weight of the labels' term; 0 where only a teacher is listened to.
    pub label_ratio: f32,
    /// Weight of the teacher's term; 0 without a teacher.
    pub kd_ratio: f32,
    /// Weight of each exit.
    pub weights: [f32; 5],
    /// Weights of the exits in what it teaches the students behind it, where it teaches them.
    pub teaches: Option<[f32; 5]>,
    /// Factor on the losses, and so on all gradients.
    pub scale: f32,
}

/// A network's part of a step.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Forward, losses, backward; with the state as weights and the work buffer as arena.
    pub calls: Vec<Call>,
    /// Running statistics; the other way round.
    pub running: Vec<Call>,
    /// Logits of every exit read, `[images, stride]`.
    pub logits: Vec<Slot>,
    /// Mean and biased variance of every batch norm, in the order in which they run, and the offset of its weight.
    pub norms: Vec<(usize, Slot)>,
    /// Offsets of the tensors that get a gradient.
    pub touched: BTreeSet<usize>,
    /// Elements of the work buffer.
    pub work_len: usize,
}

/// Lowers student number `number`.
pub(super) fn student(
    (layout, places, shared): (&Layout, &TrainingSlots, &StepSlots),
    number: usize,
    (arch, exits): (&Arch, Exits),
    images: usize,
    objective: Objective,
) -> Program {
    let own = &shared.students[number];
    let mut tape = tape((layout, shared), (arch, exits), images, &own.masks);
    let mut dlogits = Vec::new();
    let logits: Vec<Slot> = tape.logits.iter().map(|map| map.slot).collect();
    if let Some(weights) = objective.teaches {
        tape.builder.push(answers((layout, shared), exits, images, &logits, weights));
    }
    for ((exit, &slot), &scores) in exits.iter().zip(&logits).zip(&own.scores) {
        let gradient = tape.builder.arena.take(slot.len);
        tape.builder.push(Loss {
            params: loss::Params {
                images: images as u32,
                classes: layout.classes() as u32,
                stride: stride(layout) as u32,
                smoothing: objective.smoothing,
                label_ratio: objective.label_ratio,
                kd_ratio: objective.kd_ratio,
                weight: objective.scale * objective.weights[exit],
            },
            logits: slot,
            labels: shared.labels,
            teacher: (objective.kd_ratio != 0.0).then_some(shared.teacher),
            scores,
            dlogits: gradient,
        });
        dlogits.push(gradient);
    }
    let touched = Backward::lower(&mut tape, places, &dlogits);
    let running = tape.norms().map(|norm| BnRunning {
        params: RunningParams {
            channels: norm.channels as u32,
            momentum: BN_MOMENTUM,
            unbias: norm.rows as f32 / (norm.rows.max(2) - 1) as f32,
        },
        batch: Slot::weights(norm.batch.offset, norm.batch.len),
        mean: arena(norm.bn.mean, norm.channels),
        variance: arena(norm.bn.variance, norm.channels),
    });
    Program {
        running: vec![Call::from(BnRunningGroup { calls: running.collect() })],
        norms: tape.norms().map(|norm| (norm.bn.gamma, norm.batch)).collect(),
        calls: tape.builder.take_calls(),
        logits,
        touched,
        work_len: tape.builder.arena.len(),
    }
}

/// Lowers a teacher: its forward pass with batch statistics, and the probabilities that it leaves at
/// the shared place.
pub(super) fn teacher(
    (layout, shared): (&Layout, &StepSlots),
    (arch, exits): (&Arch, Exits),
    images: usize,
    weights: [f32; 5],
) -> Program {
    let mut tape = tape((layout, shared), (arch, exits), images, &[]);
    let logits: Vec<Slot> = tape.logits.iter().map(|map| map.slot).collect();
    tape.builder.push(answers((layout, shared), exits, images, &logits, weights));
    Program {
        calls: tape.builder.take_calls(),
        running: Vec::new(),
        norms: Vec::new(),
        touched: BTreeSet::new(),
        work_len: tape.builder.arena.len(),
        logits,
    }
}

/// The call that leaves a network's answers at the shared place: probabilities of its exits' weighted logits.
fn answers(
    (layout, shared): (&Layout, &StepSlots),
    exits: Exits,
    images: usize,
    logits: &[Slot],
    weights: [f32; 5],
) -> SoftTargets {
    let mut ordered = [0.0; 5];
    exits.iter().zip(&mut ordered).for_each(|(exit, weight)| *weight = weights[exit]);
    let exit = |index: usize| logits.get(index).copied();
    SoftTargets {
        params: TargetsParams {
            images: images as u32,
            classes: layout.classes() as u32,
            stride: stride(layout) as u32,
            weights: ordered,
        },
        a: logits[0],
        b: exit(1),
        c: exit(2),
        d: exit(3),
        e: exit(4),
        probabilities: shared.teacher,
    }
}

/// The call that copies another super-network's answers, read as weights, to the shared place.
pub(super) fn copied(shared: &StepSlots, answers: Slot) -> Call {
    let slot = Slot::weights(answers.offset, answers.len);
    let params =
        activation::Params { len: answers.len as u32, activation: Activation::None as u32, format: 0 };
    Call::from(Activate { params, x: slot, mask: None, y: shared.teacher })
}

/// Records a forward pass behind what all networks of the step share.
fn tape<'a>(
    (layout, shared): (&'a Layout, &StepSlots),
    network: (&Arch, Exits),
    images: usize,
    masks: &'a [Slot],
) -> Tape<'a> {
    let builder = Builder::new(layout, images, shared.format, Arena::with_reserved(shared.end));
    Tape::record(builder, network, shared.input, masks)
}

/// The whole work buffer's gradient, to be filled with zeros.
pub(super) fn whole_gradient(layout: &Layout) -> Slot {
    arena(0, layout.len())
}

/// The call that fills a place with zeros.
pub(super) fn zeros(y: Slot) -> Call {
    Call::from(Fill { params: FillParams { len: y.len as u32, value: 0.0 }, y })
}
