//! The phases of a training, from a run directory's newest checkpoint to the end.
//!
//! Every random draw of a step follows from the seed and the step's number, and a checkpoint holds
//! everything else, so a training that was interrupted ends with the same bits. A phase is begun once, and
//! its first checkpoint is the state after that: whoever goes on from there, after a stop or a divergence,
//! begins it no second time.

use super::checks::{Watch, guess};
use super::lesson::{lesson, step_macs, validated};
use super::phase::teaches;
use super::rate::Rate;
use super::record::{BeganWith, Stage};
use super::results::{Summary, summary};
use super::state::{Best, Epoch, Snapshot, State, VERSION};
use super::tally::Figures;
use super::task::{Task, evaluate, exit_weights};
use super::training_loop::{self, Advanced, Taken};
use super::{Error, Settings, Tally, Teacher, Team, TeamState};
use crate::config::{self, Phase};
use crate::data::loader::Loader;
use crate::device::Device;
use crate::engine::Evaluation;
use crate::run::{Output, Progress, RunDirectory, StopFlag};
use crate::supernet::Supernet;
use serde::Serialize;
use std::sync::Arc;

type Run<'a> = training_loop::Run<'a, Snapshot>;

/// How a training ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over: its weights, and how good they are.
    Finished(Box<Snapshot>, Box<Summary>),
    /// A stop was asked for; the same call goes on.
    Stopped,
}

/// The entry of the journal at the end of a phase.
#[derive(Serialize)]
struct PhaseEnd<'a> {
    phase: &'a str,
    best: Option<Best>,
    steps: u64,
}

/// Trains `start`, super-networks ascending by width, through the task's phases in `directory`, from where
/// it stands.
///
/// # Errors
/// A device, the data or the run directory fails, or training diverges however small the rate; the
/// run directory is as it was at the last checkpoint.
pub fn train(
    task: &Task<'_>,
    start: Vec<Supernet>,
    device: Arc<dyn Device>,
    directory: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let remedy = task.remedy();
    let stage = Stage {
        name: task.stage,
        section: remedy.section,
        inputs: "weights, images",
        remedy,
        began_with: BeganWith {
            version: VERSION,
            fingerprint: task.fingerprint(&start, &*device),
            arithmetic: task.precision().arithmetic(&*device),
        },
        directory,
        stop,
        output,
    };
    let optimiser = task.optimiser();
    let fresh = |began_with| Snapshot {
        state: State { began_with, ..State::default() },
        team: TeamState::new(start.clone(), optimiser.rule),
        best: None,
        teacher: None,
    };
    let (mut run, _) = Run::open(stage, fresh, |stored| Snapshot::read(stored, &start))?;
    if run.snapshot.state.phase < task.phases.len() {
        directory.check_writable()?;
    }
    let team = Team::in_precision(&device, start.clone(), optimiser, task.precision())?;
    let mut phases = Phases { task, device, team, summary: None };
    phases.begin(&mut run)?;
    run.until_done(|run| phases.advance(run))?;
    Ok(match phases.summary {
        Some(summary) => Outcome::Finished(Box::new(run.snapshot), Box::new(summary)),
        None => Outcome::Stopped,
    })
}

/// A training at work.
struct Phases<'a> {
    task: &'a Task<'a>,
    device: Arc<dyn Device>,
    team: Team,
    /// Once it is over.
    summary: Option<Summary>,
}

/// The steps of a phase.
struct Stretch<'p, 'a> {
    phases: &'p mut Phases<'a>,
    phase: &'a Phase,
    rate: Rate,
    teacher: Option<Teacher>,
    /// Weight of the teacher's term in the loss; 0 without a teacher.
    taught: f64,
    loader: Loader,
}

impl training_loop::Stretch for Stretch<'_, '_> {
    type Snapshot = Snapshot;
    type Epoch = Epoch;

    fn is_over(&self, snapshot: &Snapshot) -> bool {
        snapshot.state.step >= self.rate.steps()
    }

    fn step(&mut self, snapshot: &mut Snapshot) -> Result<Taken, Error> {
        let Phases { task, team, .. } = &mut *self.phases;
        let (phase, state) = (self.phase, &mut snapshot.state);
        let images = self.loader.next_batch()?;
        let settings = Settings {
            rate: (state.monitor.watch.rate_factor() * self.rate.at(state.step)) as f32,
            smoothing: phase.label_smoothing as f32,
            kd_ratio: phase.kd_ratio as f32,
            dropout: phase.dropout as f32,
            seed: task.seed,
            epoch: state.total / task.epoch_steps(),
            step: state.total,
        };
        let (students, teaching) =
            lesson(phase, (team, task.training.exit_weights), self.teacher.as_ref(), &settings, images.side);
        let report = team.step(&(&images).into(), &students, teaching, &settings)?;
        state.step += 1;
        state.total += 1;
        Ok(Taken {
            report,
            images: images.labels.len(),
            guess: guess(team.narrowest().classes(), self.taught),
            ends_epoch: state.step.is_multiple_of(task.epoch_steps()),
        })
    }

    fn take(&self, snapshot: &mut Snapshot) -> Result<(), Error> {
        if snapshot.state.step > 0 {
            snapshot.team = self.phases.team.state()?;
        }
        snapshot.team.sound()
    }

    fn end_epoch(&mut self, snapshot: &mut Snapshot, tally: Tally) -> Result<(Epoch, Figures), Error> {
        let (phase, task) = (self.phase, self.phases.task);
        let epoch = snapshot.state.step / task.epoch_steps();
        let last = epoch == phase.total_epochs() as u64;
        let due = last || epoch.is_multiple_of(task.training.validation_epochs as u64);
        let due = due && !task.material.validation.is_empty();
        let validation_top1 = if due { Some(self.phases.validate(phase, epoch, snapshot)?) } else { None };
        let state = &mut snapshot.state;
        let rate = self.rate.at(state.step - 1) * state.monitor.watch.rate_factor();
        let entry = Epoch {
            phase: phase.name.clone(),
            epoch,
            step: state.total,
            loss: tally.loss(),
            kd_ratio: self.taught,
            train_top1: tally.top1(),
            validation_top1,
            rate,
            skipped: tally.skipped(),
        };
        state.history.push(entry.clone());
        let kd_ratio = self.taught;
        Ok((entry, Figures { epoch, tally, kd_ratio, rate, validation_top1, ..Figures::default() }))
    }

    fn due(&self, snapshot: &Snapshot, ended: Option<&Epoch>) -> Option<bool> {
        let Task { training, material, .. } = self.phases.task;
        let validated = ended.is_some_and(|epoch| epoch.validation_top1.is_some());
        let due = validated || snapshot.state.total.is_multiple_of(training.checkpoint_steps as u64);
        // The last step's checkpoint is the next phase's first.
        let due = due && !self.is_over(snapshot);
        // Without validations nothing is better proven than what is there.
        due.then_some(validated || material.validation.is_empty())
    }
}

impl<'a> Phases<'a> {
    /// A phase from where it stands to the next one's start.
    fn advance(&mut self, run: &mut Run<'_>) -> Result<Advanced, Error> {
        let (task, snapshot) = (self.task, &run.snapshot);
        let state = &snapshot.state;
        let Some(phase) = task.phases.get(state.phase) else {
            self.summary = Some(summary(task, snapshot, &self.device)?);
            return Ok(Advanced::ToTheEnd);
        };
        self.team.restore(&snapshot.team)?;
        let (teacher, taught) = (self.teacher(phase, snapshot)?, taught(phase, snapshot));
        let before = state.phase.checked_sub(1).map(|before| &task.phases[before]);
        let untaught = before.is_some_and(|before| self::taught(before, snapshot) == 0.0);
        if state.step == 0 && teacher.is_some() && taught > 0.0 && untaught {
            run.stage.output.note(&format!(
                "phase {}: a teacher from here on; its term ({} x cross entropy with its answers) makes the loss larger",
                phase.name, phase.kd_ratio
            ));
        }
        let rate = Rate::new(phase, task.epoch_steps());
        // In images, so that the rate is that of images.
        let images = task.training.batch.min(task.material.images.len()) as u64;
        let name = format!("{} {}/{}, images", phase.name, state.phase + 1, task.phases.len());
        let (done, total) = (state.step * images, rate.steps() * images);
        let progress =
            Progress::before(run.stage.output, name, (done, total), self.behind(phase, state.phase, images));
        let (draws, resolutions) = ((task.training.batch, task.seed), task.material.resolutions.clone());
        let loader = task.material.loader(&*self.device, draws, resolutions, state.total)?;
        let mut stretch = Stretch { phases: self, phase, rate, teacher, taught, loader };
        if !run.steps(&mut stretch, progress, images)? {
            return Ok(Advanced::Stopped);
        }
        self.finish(phase, run)?;
        Ok(Advanced::Further)
    }

    /// What comes behind the phase number `number`, as so many of its images as take as long.
    fn behind(&self, phase: &Phase, number: usize, images: u64) -> u64 {
        let Task { phases, material, .. } = self.task;
        let cost = |phase: &Phase| step_macs(phase, self.team.supernets(), &material.resolutions);
        let here = cost(phase).max(1.0);
        let later = phases[number + 1..].iter().map(|phase| {
            let steps = phase.total_epochs() as u64 * self.task.epoch_steps();
            (steps * images) as f64 * cost(phase) / here
        });
        later.sum::<f64>() as u64
    }

    /// Prepares weights, optimiser, teacher and watch for the phase's first step, unless that was done.
    fn begin(&self, run: &mut Run<'_>) -> Result<(), Error> {
        let snapshot = &mut run.snapshot;
        let phase = match self.task.phases.get(snapshot.state.phase) {
            Some(phase) if snapshot.state.step == 0 && !snapshot.state.begun => phase,
            _ => return Ok(()),
        };
        snapshot.state.begun = true;
        snapshot.state.monitor.watch = Watch::new();
        // `phases` has named the teacher of every phase.
        snapshot.teacher = match phase.teacher.unwrap_or(config::Teacher::None) {
            config::Teacher::None | config::Teacher::Largest => snapshot.teacher.take(),
            config::Teacher::Pet => snapshot.team.weights.last().cloned(),
            // The first that teaches stays.
            config::Teacher::Fixed => snapshot.teacher.take().or(snapshot.team.weights.last().cloned()),
        };
        let mut weights = snapshot.team.weights.clone();
        if let Some(stage) = phase.sort {
            weights.iter_mut().for_each(|supernet| {
                supernet.sort_channels(stage);
            });
        }
        // Each phase is a training of its own: momentum does not carry over.
        snapshot.team = TeamState::new(weights, self.task.optimiser().rule);
        run.commit(true)
    }

    fn teacher(&self, phase: &Phase, snapshot: &Snapshot) -> Result<Option<Teacher>, Error> {
        let Some(supernet) = snapshot.teacher.as_ref().filter(|_| teaches(phase)) else { return Ok(None) };
        let weighting = exit_weights(supernet.family, self.task.training.exit_weights).1;
        Ok(Some(self.team.teacher(Arc::new(supernet.clone()), weighting)?))
    }

    /// Mean accuracy of the phase's extreme sub-networks; keeps the weights if it is the best so far.
    fn validate(&self, phase: &Phase, epoch: u64, snapshot: &mut Snapshot) -> Result<f64, Error> {
        let weights = &snapshot.team.weights;
        let material = &self.task.material;
        let networks = validated(self.task, weights, phase);
        let results = evaluate(&self.device, weights, &networks, material, &material.validation)?;
        let top1 = results.iter().map(Evaluation::top1).sum::<f64>() / results.len() as f64;
        if snapshot.state.best.is_none_or(|best| top1 > best.top1) {
            snapshot.state.best = Some(Best { top1, epoch });
            snapshot.best = Some(weights.clone());
        }
        Ok(top1)
    }

    /// The best weights of a phase are what the next begins with.
    fn finish(&self, phase: &Phase, run: &mut Run<'_>) -> Result<(), Error> {
        let snapshot = &mut run.snapshot;
        let weights = match snapshot.best.take() {
            Some(best) => best,
            None => std::mem::take(&mut snapshot.team.weights),
        };
        let state = &mut snapshot.state;
        let end = PhaseEnd { phase: &phase.name, best: state.best.take(), steps: state.step };
        let best = end.best.map(|best| {
            format!(": {:.2} % on average over extreme sub-networks, epoch {}", best.top1, best.epoch)
        });
        run.stage.output.note(&format!("phase {} done{}", phase.name, best.unwrap_or_default()));
        run.append("phase", &end)?;
        let snapshot = &mut run.snapshot;
        snapshot.state.phase += 1;
        (snapshot.state.step, snapshot.state.begun) = (0, false);
        snapshot.team = TeamState::new(weights, self.task.optimiser().rule);
        if snapshot.state.phase == self.task.phases.len() {
            // Proven once it is measured, and then nothing is left to go back from.
            run.commit(false)
        } else {
            self.begin(run)
        }
    }
}

/// Weight of the teacher's term in the loss of a phase; 0 without a teacher.
fn taught(phase: &Phase, snapshot: &Snapshot) -> f64 {
    let in_place = phase.teacher == Some(config::Teacher::Largest);
    if in_place || teaches(phase) && snapshot.teacher.is_some() { phase.kd_ratio } else { 0.0 }
}
