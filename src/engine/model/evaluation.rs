//! The passes that evaluate a population, cut into trees and chunks as the engine cuts them.

use super::Pass;
use super::chosen::{self, Chosen};
use crate::engine::BUDGET;
use crate::engine::choose::Purpose;
use crate::engine::chunks::{put_aside, waiting};
use crate::engine::evaluate::even;
use crate::engine::plan::{Mode, Reads, Target, TreePlan};
use crate::engine::population::cut;
use crate::engine::prepare::zeros;
use crate::engine::tree::{Saving, Tree};
use crate::ops::Call;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Layout;
use std::borrow::Cow;

/// What is run of every network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Images that networks are measured on; 0 for recalibration alone.
    pub images: usize,
    /// Batches that recalibrate, and images of a batch; `None` folds the stored statistics.
    pub calibration: Option<(usize, usize)>,
}

/// How a device takes them.
#[derive(Clone, Copy)]
pub struct Scheduling<'a> {
    /// Lists of calls that run side by side.
    pub lanes: usize,
    /// Streams that a device of one lane has: see [`Device::with_own_stream`](crate::device::Device::with_own_stream).
    pub streams: usize,
    /// Images of an inference pass, where one needs so many elements.
    pub chunk: &'a dyn Fn(usize) -> usize,
    /// Recalibration's batches of a pass, where one needs so many elements.
    pub batches: &'a dyn Fn(usize) -> usize,
}

/// The passes of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationPlan {
    /// Recalibration and inference of every tree.
    pub passes: Vec<Pass>,
    /// What the trees save.
    pub saving: Saving,
    /// The most images of an inference pass.
    pub chunk: usize,
    /// What was chosen of the trees.
    pub chosen: Vec<Chosen>,
}

/// Plans the evaluation of `networks`, as [`Engine::evaluate_population`] runs it.
///
/// [`Engine::evaluate_population`]: crate::engine::Engine::evaluate_population
pub fn evaluation(
    layout: &Layout,
    networks: &[(Arch, Exits)],
    workload: Workload,
    taking: Scheduling<'_>,
    target: impl Into<Target>,
) -> EvaluationPlan {
    let target = target.into();
    let precision = target.precision;
    let Workload { images, calibration } = workload;
    let fill = calibration.map_or(images, |(batches, _)| batches);
    let channels = layout.channels();
    let cut = cut(channels, networks, (taking.lanes, taking.streams), fill, BUDGET);
    let (mut passes, mut saving, mut largest) = (Vec::new(), Saving::default(), 0);
    let mut all = Vec::new();
    for group in cut.groups {
        let members: Vec<(&Arch, Exits)> = group.iter().map(|&i| (&networks[i].0, networks[i].1)).collect();
        let at_a_time = calibration.map_or(1, |(_, batch)| batch);
        let tree = Tree::new(channels, &members).bounded(at_a_time, precision.numbers(cut.share));
        saving += tree.saving();
        let plan = TreePlan::new(Cow::Owned(tree), target);
        let section = plan.section(layout);
        let purposes = [
            calibration.map(|(_, batch)| Purpose::Recalibration { batch }),
            (images > 0).then_some(Purpose::Inference),
        ];
        for purpose in purposes.into_iter().flatten() {
            chosen::add(&mut all, plan.tree(), purpose, &plan.choices(layout, purpose));
        }
        match calibration {
            Some((batches, batch)) => {
                let mode = |at_once| Mode::Recalibration { batches, at_once };
                let pass = |at_once: usize, runs: usize| {
                    let program = plan.program(layout, at_once * batch, mode(at_once), Reads::Scores);
                    Pass::program(&program, runs as u64)
                };
                let one = plan.arena_len(layout, batch, mode(1), Reads::Scores);
                let at_once = even(batches, (taking.batches)(one));
                passes.push(Pass::new(&[zeros(section.len)], section.len, None, 1));
                passes.push(pass(at_once, batches / at_once));
                if batches % at_once > 0 {
                    passes.push(pass(batches % at_once, 1));
                }
                passes.push(Pass::new(&[Call::from(section.averaged.clone())], section.len, None, 1));
            }
            None => passes.push(Pass::new(&[Call::from(section.stored.clone())], section.len, None, 1)),
        }
        if images > 0 {
            let one = plan.arena_len(layout, 1, Mode::Inference, Reads::Scores);
            let chunk = even(images, (taking.chunk)(one));
            let program = plan.program(layout, chunk, Mode::Inference, Reads::Scores);
            let chunks = images.div_ceil(chunk);
            passes.push(Pass::program(&program, chunks as u64));
            let waiting = waiting(program.results.len, chunks, taking.lanes);
            if waiting > 1 {
                let (aside, len) = (put_aside(program.results, 0), waiting * program.results.len);
                passes.push(Pass::new(&[aside], len, None, chunks as u64));
            }
            largest = largest.max(chunk);
        }
    }
    EvaluationPlan { passes, saving, chunk: largest, chosen: all }
}
