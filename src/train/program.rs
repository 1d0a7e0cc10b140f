//! What one network does in a step: forward, losses, backward, running statistics.

use super::backward::Backward;
use super::places::{Places, arena};
use super::tape::Tape;
use crate::engine::arena::Arena;
use crate::ops::grad::batch_norm::{BnRunning, BnRunningGroup, RunningParams};
use crate::ops::halves::Format;
use crate::ops::loss::{self, Loss, SoftTargets, TargetsParams};
use crate::ops::{Call, Slot};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Layout;
use std::collections::BTreeSet;

/// Momentum of running statistics, as everywhere in this family of networks.
const BN_MOMENTUM: f32 = 0.1;

/// What the networks of a step share: what maps are stored as, the batch and the teacher's answer to it, at the same places
/// for each of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// Unless it is f32.
    pub format: Option<Format>,
    /// `[images, side, side, 3]`
    pub input: Slot,
    /// `[images]`
    pub labels: Slot,
    /// The teacher's probabilities `[images, stride]`.
    pub teacher: Slot,
    /// Elements of the work buffer up to here.
    pub end: usize,
}

impl Shared {
    pub(super) fn new(
        layout: &Layout,
        places: &Places,
        format: Option<Format>,
        images: usize,
        side: usize,
    ) -> Shared {
        let mut free = Arena::with_reserved(places.reserved);
        let input = free.take(images * side * side * 3);
        let labels = free.take(images);
        let teacher = free.take(images * stride(layout));
        Shared { format, input, labels, teacher, end: free.len() }
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
    /// Weight of the teacher's term; 0 without a teacher.
    pub kd_ratio: f32,
    /// Weight of each exit.
    pub weights: [f32; 5],
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
    /// Loss, scaled, and correctness of every exit read, `[images, 2]`.
    pub scores: Vec<Slot>,
    /// Logits of every exit read, `[images, stride]`.
    pub logits: Vec<Slot>,
    /// Dropout masks, if any, of every exit read.
    pub masks: Vec<Slot>,
    /// Mean and biased variance of every batch norm, in walk order, and the offset of its weight.
    pub norms: Vec<(usize, Slot)>,
    /// Offsets of the tensors that get a gradient.
    pub touched: BTreeSet<usize>,
    /// Elements of the work buffer.
    pub work_len: usize,
}

/// Lowers a student.
pub(super) fn student(
    (layout, places, shared): (&Layout, &Places, &Shared),
    (arch, exits): (&Arch, Exits),
    images: usize,
    objective: Objective,
    dropout: bool,
) -> Program {
    let mut tape = tape((layout, places, shared), images, dropout);
    tape.network(arch, exits, shared.input);
    let (mut scores, mut dlogits) = (Vec::new(), Vec::new());
    let logits: Vec<Slot> = tape.logits.iter().map(|map| map.slot).collect();
    for (exit, &slot) in exits.iter().zip(&logits) {
        let (score, gradient) = (tape.arena.take(2 * images), tape.arena.take(slot.len));
        tape.calls.push(Call::from(Loss {
            params: loss::Params {
                images: images as u32,
                classes: layout.classes() as u32,
                stride: stride(layout) as u32,
                smoothing: objective.smoothing,
                kd_ratio: objective.kd_ratio,
                weight: objective.scale * objective.weights[exit],
            },
            logits: slot,
            labels: shared.labels,
            teacher: (objective.kd_ratio != 0.0).then_some(shared.teacher),
            scores: score,
            dlogits: gradient,
        }));
        scores.push(score);
        dlogits.push(gradient);
    }
    let (backward, touched) = Backward::lower(&mut tape, &dlogits);
    let running = tape.norms.iter().map(|norm| BnRunning {
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
        norms: tape.norms.iter().map(|norm| (norm.bn.gamma, norm.batch)).collect(),
        calls: [std::mem::take(&mut tape.calls), backward].concat(),
        scores,
        logits,
        masks: std::mem::take(&mut tape.masks),
        touched,
        work_len: tape.arena.len(),
    }
}

/// Lowers a teacher: its forward pass with batch statistics, and the probabilities that it leaves at
/// the shared place.
pub(super) fn teacher(
    (layout, places, shared): (&Layout, &Places, &Shared),
    (arch, exits): (&Arch, Exits),
    images: usize,
    weights: [f32; 5],
) -> Program {
    let mut tape = tape((layout, places, shared), images, false);
    tape.network(arch, exits, shared.input);
    let logits: Vec<Slot> = tape.logits.iter().map(|map| map.slot).collect();
    let mut ordered = [0.0; 5];
    exits.iter().zip(&mut ordered).for_each(|(exit, weight)| *weight = weights[exit]);
    let exit = |index: usize| logits.get(index).copied();
    tape.calls.push(Call::from(SoftTargets {
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
    }));
    Program {
        calls: std::mem::take(&mut tape.calls),
        running: Vec::new(),
        scores: Vec::new(),
        masks: Vec::new(),
        norms: Vec::new(),
        touched: BTreeSet::new(),
        work_len: tape.arena.len(),
        logits,
    }
}

fn tape<'a>(
    (layout, places, shared): (&'a Layout, &'a Places, &Shared),
    images: usize,
    dropout: bool,
) -> Tape<'a> {
    Tape {
        layout,
        places,
        images,
        dropout,
        format: shared.format,
        arena: Arena::with_reserved(shared.end),
        calls: Vec::new(),
        nodes: Vec::new(),
        norms: Vec::new(),
        logits: Vec::new(),
        masks: Vec::new(),
    }
}

/// The whole work buffer's gradient, to be filled with zeros.
pub(super) fn whole_gradient(layout: &Layout) -> Slot {
    arena(0, layout.len())
}
