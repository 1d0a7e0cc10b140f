//! The phases of a training, from a run directory's newest checkpoint to the end.
//!
//! Every random draw of a step follows from the seed and the step's number, and a checkpoint holds
//! everything else, so a training that was interrupted ends with the same bits. A phase is begun once, and
//! its first checkpoint is the state after that: whoever goes on from there, after a stop or a divergence,
//! begins it no second time.

use super::checks::{Health, Reason, Watch};
use super::choose::Choices;
use super::rate::Rate;
use super::results::{Summary, summary};
use super::state::{Best, Epoch, Snapshot, State};
use super::tally::{distilled, left_out};
use super::task::{Task, evaluate, exit_weights};
use super::{Batch, Error, Settings, Student, Tally, Teacher, Team, TeamState, Weighting};
use crate::config::{self, Phase};
use crate::data::loader::{self, Loader};
use crate::device::Device;
use crate::engine::Evaluation;
use crate::run::{self, Curves, Journal, Output, Progress, RunDirectory, StopFlag};
use crate::supernet::Supernet;
use serde::Serialize;
use std::sync::Arc;

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

/// Trains `start`, super-networks ascending by width, through the task's phases in `run`, from where
/// it stands.
///
/// # Errors
/// A device, the data or the run directory fails, or training diverges however small the rate; the
/// run directory is as it was at the last checkpoint.
pub fn train(
    task: &Task<'_>,
    start: Vec<Supernet>,
    device: Arc<dyn Device>,
    run: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let restored = run.latest_checkpoint(task.stage)?;
    restored.warnings.iter().for_each(|warning| output.note(warning));
    let mut journal = run.journal()?;
    journal.rewind(task.stage, restored.checkpoint.as_ref().map(|checkpoint| checkpoint.step()))?;
    let snapshot = match &restored.checkpoint {
        Some(checkpoint) => {
            let snapshot = Snapshot::read(checkpoint, &start)?;
            if snapshot.state.fingerprint != task.fingerprint(&start, &*device) {
                return Err(Error::OtherInputs {
                    directory: run.path().display().to_string(),
                    before: snapshot.state.arithmetic,
                    now: task.precision().arithmetic(&*device),
                });
            }
            snapshot
        }
        None => Snapshot {
            state: State::new(task.fingerprint(&start, &*device), task.precision().arithmetic(&*device)),
            team: TeamState::new(start.clone(), task.optimiser().rule),
            best: None,
            teacher: None,
        },
    };
    let mut curves = run.curves(task.stage)?;
    curves.warning().into_iter().for_each(|warning| output.note(warning));
    curves.rewind(restored.checkpoint.as_ref().map(|checkpoint| checkpoint.step()))?;
    let team = Team::in_precision(&device, start, task.optimiser(), task.precision())?;
    let mut training = Loop { task, device, run, stop, output, journal, curves, team, snapshot };
    training.begin()?;
    training.all()
}

/// A training at work.
struct Loop<'a> {
    task: &'a Task<'a>,
    device: Arc<dyn Device>,
    run: &'a RunDirectory,
    stop: &'a StopFlag,
    output: Output,
    journal: Journal,
    curves: Curves,
    team: Team,
    /// What the next checkpoint holds; weights and optimisers are the team's until it is taken.
    snapshot: Snapshot,
}

impl Loop<'_> {
    fn all(mut self) -> Result<Outcome, Error> {
        if self.snapshot.state.phase < self.task.phases.len() {
            self.run.check_writable()?;
        }
        loop {
            let error = match self.task.phases.get(self.snapshot.state.phase) {
                Some(phase) => match self.phase(phase) {
                    Ok(true) => continue,
                    Ok(false) => return Ok(Outcome::Stopped),
                    Err(error) => error,
                },
                None => match summary(self.task, &self.snapshot, &self.device) {
                    Ok(summary) => {
                        return Ok(Outcome::Finished(Box::new(self.snapshot), Box::new(summary)));
                    }
                    Err(error) => error,
                },
            };
            match error.divergence() {
                Some(reason) => self.roll_back(&reason)?,
                None => return Err(error),
            }
        }
    }

    /// Runs a phase from where it stands to the next one's start; `false` if a stop was asked for first.
    fn phase(&mut self, phase: &Phase) -> Result<bool, Error> {
        self.team.restore(&self.snapshot.team)?;
        let teacher = self.teacher()?;
        let before = self.snapshot.state.phase.checked_sub(1).map(|before| &self.task.phases[before]);
        if self.snapshot.state.step == 0
            && self.taught(phase) > 0.0
            && before.is_some_and(|b| self.taught(b) == 0.0)
        {
            self.output.note(&format!(
                "phase {}: a teacher from here on; its term ({} x cross entropy with its answers) makes the loss larger",
                phase.name, phase.kd_ratio
            ));
        }
        let steps = phase.total_epochs() as u64 * self.task.epoch_steps();
        // In images, so that the rate is that of images.
        let images = self.task.training.batch.min(self.task.material.images.len()) as u64;
        let progress = Progress::start(
            self.output,
            format!("{} {}/{}, images", phase.name, self.snapshot.state.phase + 1, self.task.phases.len()),
            self.snapshot.state.step * images,
            steps * images,
        );
        let mut loader = self.loader()?;
        let taught = self.taught(phase);
        while self.snapshot.state.step < steps {
            if self.stop.requested() {
                self.take()?;
                self.commit(false)?;
                return Ok(false);
            }
            if let Health::Diverged(reason) = self.step(phase, &mut loader, teacher.as_ref())? {
                progress.finish();
                return Err(reason.into());
            }
            let state = &self.snapshot.state;
            let (epoch, total) = (state.step / self.task.epoch_steps(), state.total);
            let ended = state.step.is_multiple_of(self.task.epoch_steps());
            if ended {
                self.end_epoch(phase, epoch)?;
            }
            progress.advance(images);
            let last = self.snapshot.state.history.last().filter(|_| ended);
            let validation = last.and_then(|last| last.validation_top1);
            if let Some(last) = last {
                let validation =
                    validation.map(|top1| format!(", validation {top1:.2} %")).unwrap_or_default();
                progress.message(format!(
                    "epoch {epoch}: loss {:.4}{}, training {:.2} %{validation}{}",
                    last.loss,
                    distilled(taught),
                    last.train_top1,
                    left_out(last.skipped)
                ));
            }
            let due = total.is_multiple_of(self.task.training.checkpoint_steps as u64);
            // The last step's checkpoint is the next phase's first.
            if (due || validation.is_some()) && self.snapshot.state.step < steps {
                // Without validations nothing is better proven than what is there.
                let proven = validation.is_some() || self.task.material.validation.is_empty();
                // The end of an epoch has taken everything off the device.
                if !ended {
                    self.take()?;
                }
                self.commit(proven)?;
            }
        }
        progress.finish();
        self.finish(phase)?;
        Ok(true)
    }

    /// Prepares weights, optimiser, teacher and watch for the phase's first step, unless that was done.
    fn begin(&mut self) -> Result<(), Error> {
        let snapshot = &mut self.snapshot;
        let phase = match self.task.phases.get(snapshot.state.phase) {
            Some(phase) if snapshot.state.step == 0 && !snapshot.state.begun => phase,
            _ => return Ok(()),
        };
        snapshot.state.begun = true;
        snapshot.state.watch = Watch::new();
        snapshot.teacher = match teacher_of(phase) {
            config::Teacher::None => snapshot.teacher.take(),
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
        self.commit(true)
    }

    /// Weight of the teacher's term in the loss of a phase; 0 without a teacher.
    fn taught(&self, phase: &Phase) -> f64 {
        let teacher = teacher_of(phase) != config::Teacher::None && self.snapshot.teacher.is_some();
        if teacher { phase.kd_ratio } else { 0.0 }
    }

    fn teacher(&self) -> Result<Option<Teacher>, Error> {
        let phase = &self.task.phases[self.snapshot.state.phase];
        if teacher_of(phase) == config::Teacher::None {
            return Ok(None);
        }
        let Some(supernet) = &self.snapshot.teacher else { return Ok(None) };
        let weighting = if supernet.family.early_exits {
            exit_weights(self.task.training.exit_weights).1
        } else {
            Weighting::Own
        };
        Ok(Some(self.team.teacher(Arc::new(supernet.clone()), weighting)?))
    }

    fn loader(&self) -> Result<Loader, Error> {
        let material = &self.task.material;
        let settings = loader::Settings {
            batch: self.task.training.batch,
            seed: self.task.seed,
            augmentation: material.augmentation.clone(),
            resolutions: material.resolutions.clone(),
            mean: material.pixels.mean,
            std: material.pixels.std,
            threads: 1,
            ahead: 3,
        };
        let steps = loader::steps_per_epoch(material.images.len(), settings.batch);
        let total = self.snapshot.state.total;
        let start = loader::position_of(total, steps);
        let (dataset, images) = (material.dataset.clone(), material.images.clone());
        Ok(super::batches(&*self.device, dataset, images, settings, start)?)
    }

    fn step(
        &mut self,
        phase: &Phase,
        loader: &mut Loader,
        teacher: Option<&Teacher>,
    ) -> Result<Health, Error> {
        let state = &self.snapshot.state;
        let supernet = self.team.narrowest();
        let supernet_classes = supernet.classes();
        let images = loader.next_batch()?;
        let rate = self.rate(phase);
        let settings = Settings {
            rate: rate as f32,
            smoothing: phase.label_smoothing as f32,
            kd_ratio: phase.kd_ratio as f32,
            dropout: phase.dropout as f32,
            seed: self.task.seed,
            epoch: state.total / self.task.epoch_steps(),
            step: state.total,
        };
        let weighting = if phase.full && supernet.family.early_exits {
            exit_weights(self.task.training.exit_weights).0
        } else {
            Weighting::Own
        };
        let count = if phase.full { 1 } else { phase.networks };
        let networks = self.choices(phase).networks(
            settings.seed,
            settings.epoch,
            settings.step,
            count,
            images.side as u32,
        );
        let students: Vec<Student> = networks.into_iter().map(|arch| Student { arch, weighting }).collect();
        let batch = Batch { images: images.images(), labels: &images.labels, side: images.side };
        let report = self.team.step(&batch, &students, teacher, &settings)?;
        let loss = report.loss();
        let guess = (1.0 + self.taught(phase)) * (supernet_classes as f64).ln();
        let state = &mut self.snapshot.state;
        let health = state.watch.observe(loss, report.watched_norm(), guess);
        state.step += 1;
        state.total += 1;
        state.tally.add(&report, images.labels.len());
        Ok(health)
    }

    /// The rate of the step that is due.
    fn rate(&self, phase: &Phase) -> f64 {
        let rate = Rate::new(phase, self.task.epoch_steps());
        self.snapshot.state.watch.rate_factor() * rate.at(self.snapshot.state.step)
    }

    fn choices(&self, phase: &Phase) -> Choices {
        let widths: Vec<f64> = self.team.supernets().map(|supernet| supernet.channels().width).collect();
        Choices::new(phase, self.team.narrowest().family, &widths_of(phase, &widths))
    }

    /// Writes down how an epoch went, and validates if it is time.
    fn end_epoch(&mut self, phase: &Phase, epoch: u64) -> Result<(), Error> {
        // What holds no numbers is seen before the phase ends, wherever it began.
        self.take()?;
        let last = epoch == phase.total_epochs() as u64;
        let due = last || epoch.is_multiple_of(self.task.training.validation_epochs as u64);
        let validation = if due && !self.task.material.validation.is_empty() {
            Some(self.validate(phase, epoch)?)
        } else {
            None
        };
        let (steps, kd_ratio) = (self.task.epoch_steps(), self.taught(phase));
        let state = &mut self.snapshot.state;
        let rate = Rate::new(phase, steps).at(state.step - 1) * state.watch.rate_factor();
        let entry = Epoch {
            phase: phase.name.clone(),
            epoch,
            step: state.total,
            loss: state.tally.loss(),
            kd_ratio,
            train_top1: state.tally.top1(),
            validation_top1: validation,
            rate,
            skipped: state.tally.skipped(),
        };
        state.tally = Tally::default();
        self.journal.append(self.task.stage, state.total, "epoch", &entry)?;
        let mut scalars = vec![("loss", entry.loss), ("train_top1", entry.train_top1), ("rate", entry.rate)];
        scalars.extend(entry.validation_top1.map(|top1| ("validation_top1", top1)));
        self.curves.add(state.total, &scalars)?;
        state.history.push(entry);
        Ok(())
    }

    /// Mean accuracy of the phase's extreme sub-networks; keeps the weights if it is the best so far.
    fn validate(&mut self, phase: &Phase, epoch: u64) -> Result<f64, Error> {
        let weights = &self.snapshot.team.weights;
        let training = self.task.training;
        let resolutions: Vec<u32> = self.task.material.resolutions.iter().map(|&r| r as u32).collect();
        let networks =
            self.choices(phase).extremes(&resolutions, training.validation_networks, self.task.seed);
        let results =
            evaluate(&self.device, weights, &networks, &self.task.material, &self.task.material.validation)?;
        let top1 = results.iter().map(Evaluation::top1).sum::<f64>() / results.len() as f64;
        if self.snapshot.state.best.is_none_or(|best| top1 > best.top1) {
            self.snapshot.state.best = Some(Best { top1, epoch });
            self.snapshot.best = Some(self.snapshot.team.weights.clone());
        }
        Ok(top1)
    }

    /// The best weights of a phase are what the next begins with.
    fn finish(&mut self, phase: &Phase) -> Result<(), Error> {
        let weights = match self.snapshot.best.take() {
            Some(best) => best,
            None => std::mem::take(&mut self.snapshot.team.weights),
        };
        let state = &mut self.snapshot.state;
        let end = PhaseEnd { phase: &phase.name, best: state.best.take(), steps: state.step };
        let best = end.best.map(|best| {
            format!(": {:.2} % on average over extreme sub-networks, epoch {}", best.top1, best.epoch)
        });
        self.output.note(&format!("phase {} done{}", phase.name, best.unwrap_or_default()));
        self.journal.append(self.task.stage, state.total, "phase", &end)?;
        state.phase += 1;
        (state.step, state.begun) = (0, false);
        self.snapshot.team = TeamState::new(weights, self.task.optimiser().rule);
        if state.phase == self.task.phases.len() {
            // Proven once it is measured, and then nothing is left to go back from.
            self.commit(false)
        } else {
            self.begin()
        }
    }

    /// Back to the last proven checkpoint, with half the rate.
    fn roll_back(&mut self, reason: &Reason) -> Result<(), Error> {
        let at = self.snapshot.state.total;
        let restored = self.run.latest_proven(self.task.stage)?.checkpoint;
        let checkpoint = restored.ok_or(run::Error::NoCheckpoint)?;
        let like: Vec<Supernet> = self.team.supernets().cloned().collect();
        let mut snapshot = Snapshot::read(&checkpoint, &like)?;
        let state = &mut snapshot.state;
        state.watch =
            self.snapshot.state.watch.rolled_back(state.watch.clone(), reason, self.task.remedy())?;
        state.rollbacks += 1;
        self.output.note(&format!(
            "step {at}: {reason}; back to step {} with {} of the rate",
            state.total,
            state.watch.rate_factor()
        ));
        self.journal.rewind(self.task.stage, Some(state.total))?;
        self.curves.rewind(Some(state.total))?;
        self.journal.append(self.task.stage, state.total, "rollback", &reason.to_string())?;
        self.snapshot = snapshot;
        self.commit(true)
    }

    /// Takes weights and optimiser off the device, where they must hold numbers.
    fn take(&mut self) -> Result<(), Error> {
        if self.snapshot.state.step > 0 {
            self.snapshot.team = self.team.state()?;
        }
        self.snapshot.team.sound()
    }

    fn commit(&mut self, proven: bool) -> Result<(), Error> {
        self.curves.sync()?;
        let mut checkpoint = self.run.checkpoint(self.task.stage, self.snapshot.state.total)?;
        self.snapshot.write(&mut checkpoint)?;
        let checkpoint = if proven { checkpoint.proven() } else { checkpoint };
        Ok(checkpoint.commit()?)
    }
}

/// The widths of a phase's sub-networks, of those of all super-networks, ascending.
fn widths_of(phase: &Phase, all: &[f64]) -> Vec<Option<f64>> {
    let chosen = match phase.widths {
        config::Widths::All => all,
        config::Widths::Narrow => &all[..1],
        config::Widths::Wide => &all[all.len() - 1..],
    };
    chosen.iter().copied().map(Some).collect()
}

/// A phase's teacher; [`phases`](super::phase::phases) has named it.
fn teacher_of(phase: &Phase) -> config::Teacher {
    phase.teacher.unwrap_or(config::Teacher::None)
}
