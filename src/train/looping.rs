//! The phases of a training, from a run directory's newest checkpoint to the end.
//!
//! Every random draw of a step follows from the seed and the step's number, and a checkpoint holds
//! everything else, so a training that was interrupted ends with the same bits.

use super::checks::{Health, Reason, Watch};
use super::choose::Choices;
use super::rate::Rate;
use super::state::{Best, Epoch, Snapshot, State};
use super::tally::left_out;
use super::{
    Batch, Decays, Error, Optimiser, Rule, Settings, Student, Tally, Teacher, Team, TeamState, Weighting,
};
use crate::config::{self, Phase, Training};
use crate::data::Dataset;
use crate::data::augment::Augmentation;
use crate::data::loader::{self, Loader};
use crate::device::Device;
use crate::engine::{Calibration, Engine, Evaluation, Precision, evaluate_widths};
use crate::evaluator::{CALIBRATION_BATCH, Pixels, SplitImages};
use crate::run::{Curves, Journal, Output, Progress, RunDirectory, StopFlag};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Supernet;
use serde::Serialize;
use std::sync::Arc;

/// What a training learns from.
#[derive(Debug, Clone)]
pub struct Material {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its training images, in file order.
    pub images: Vec<u32>,
    /// Its validation images.
    pub validation: Vec<u32>,
    /// The training images that statistics are recalibrated on before a validation.
    pub calibration: Vec<u32>,
    /// Normalisation.
    pub pixels: Pixels,
    /// What may happen to an image.
    pub augmentation: Augmentation,
    /// The resolutions that a step draws from.
    pub resolutions: Vec<usize>,
    /// What of all this a result depends on, as a short name.
    pub fingerprint: String,
}

/// One training of a run: its stage's name, settings, phases and data.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Name of its checkpoints and journal entries: `train`, `train-wide`, `warmup`.
    pub stage: &'static str,
    /// Whether it is the training of the wider of two super-networks alone.
    pub wide: bool,
    /// The run's seed.
    pub seed: u64,
    /// The settings.
    pub training: &'a Training,
    /// The phases.
    pub phases: Vec<Phase>,
    /// The data.
    pub material: Material,
}

/// How a training ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over.
    Finished(Box<Snapshot>),
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
    if restored.checkpoint.is_none() {
        training.checkpoint()?;
    }
    training.all()
}

impl Task<'_> {
    /// The optimiser of the settings.
    pub fn optimiser(&self) -> Optimiser {
        let t = self.training;
        Optimiser {
            rule: match t.optimiser {
                config::Optimiser::Sgd => Rule::Sgd { momentum: t.momentum as f32, nesterov: t.nesterov },
                config::Optimiser::Adamw => Rule::AdamW,
            },
            decay: t.weight_decay as f32,
            decays: match t.decay {
                config::Decay::All => Decays::All,
                config::Decay::Weights => Decays::Weights,
            },
            clip: (t.clip > 0.0).then_some(t.clip as f32),
        }
    }

    /// What maps are stored as in a step.
    pub fn precision(&self) -> Precision {
        self.training.precision.into()
    }

    /// Steps of an epoch.
    pub fn epoch_steps(&self) -> u64 {
        let images = self.training.epoch_images.unwrap_or(self.material.images.len());
        loader::steps_per_epoch(images.min(self.material.images.len()), self.training.batch)
    }

    /// Steps of all phases together.
    pub fn total_steps(&self) -> u64 {
        self.phases.iter().map(|phase| phase.total_epochs() as u64 * self.epoch_steps()).sum()
    }

    fn fingerprint(&self, start: &[Supernet], device: &dyn Device) -> String {
        let arithmetic = self.precision().arithmetic(device);
        super::material::fingerprint(start, &self.material.fingerprint, &arithmetic)
    }
}

/// Weights of the exits in a joint loss and in a teacher's answer, as OFAv2's and NATv2's programs
/// round them.
pub fn exit_weights(which: config::ExitWeights) -> (Weighting, Weighting) {
    let asc = [0.06, 0.13, 0.20, 0.27, 0.34];
    let desc = [0.34, 0.27, 0.20, 0.13, 0.06];
    let (loss, sum) = match which {
        config::ExitWeights::Asc => (asc, asc),
        config::ExitWeights::Desc => (desc, desc),
        config::ExitWeights::Unif => ([0.2; 5], [0.2; 5]),
        config::ExitWeights::Mix => (desc, asc),
    };
    (Weighting::Joint(loss), Weighting::Joint(sum))
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

/// How a phase was left.
enum Left {
    AtItsEnd,
    Stopped,
    Diverged(Reason),
}

impl Loop<'_> {
    fn all(mut self) -> Result<Outcome, Error> {
        while let Some(phase) = self.task.phases.get(self.snapshot.state.phase) {
            match self.phase(phase)? {
                Left::AtItsEnd => self.finish(phase)?,
                Left::Stopped => return Ok(Outcome::Stopped),
                Left::Diverged(reason) => self.roll_back(reason)?,
            }
        }
        Ok(Outcome::Finished(Box::new(self.snapshot)))
    }

    /// Runs a phase from where it stands.
    fn phase(&mut self, phase: &Phase) -> Result<Left, Error> {
        if self.snapshot.state.step == 0 {
            self.enter(phase)?;
        }
        self.team.restore(&self.snapshot.team)?;
        let teacher = self.teacher()?;
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
        while self.snapshot.state.step < steps {
            if self.stop.requested() {
                self.checkpoint()?;
                return Ok(Left::Stopped);
            }
            if let Health::Diverged(reason) = self.step(phase, &mut loader, teacher.as_ref())? {
                progress.finish();
                return Ok(Left::Diverged(reason));
            }
            let state = &self.snapshot.state;
            let (epoch, total) = (state.step / self.task.epoch_steps(), state.total);
            let ended = state.step.is_multiple_of(self.task.epoch_steps());
            if ended {
                self.end_epoch(phase, epoch)?;
            }
            progress.advance(images);
            if let Some(last) = self.snapshot.state.history.last().filter(|_| ended) {
                let validation =
                    last.validation_top1.map(|top1| format!(", validation {top1:.2} %")).unwrap_or_default();
                progress.message(format!(
                    "epoch {epoch}: loss {:.4}, training {:.2} %{validation}{}",
                    last.loss,
                    last.train_top1,
                    left_out(last.skipped)
                ));
            }
            // The last step's checkpoint is the next phase's first.
            let due = total.is_multiple_of(self.task.training.checkpoint_steps as u64);
            if due && self.snapshot.state.step < steps {
                self.checkpoint()?;
            }
        }
        progress.finish();
        Ok(Left::AtItsEnd)
    }

    /// Prepares weights, optimiser and teacher for a phase's first step.
    fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        let snapshot = &mut self.snapshot;
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
        Ok(())
    }

    fn teacher(&self) -> Result<Option<Teacher>, Error> {
        let phase = &self.task.phases[self.snapshot.state.phase];
        if teacher_of(phase) == config::Teacher::None {
            return Ok(None);
        }
        let Some(supernet) = &self.snapshot.teacher else { return Ok(None) };
        let weighting = match supernet.family.early_exits {
            true => exit_weights(self.task.training.exit_weights).1,
            false => Weighting::Own,
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
        let weighting = match phase.full && supernet.family.early_exits {
            true => exit_weights(self.task.training.exit_weights).0,
            false => Weighting::Own,
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
        let state = &mut self.snapshot.state;
        let loss = report.loss();
        let taught = if teacher.is_some() { phase.kd_ratio } else { 0.0 };
        let guess = (1.0 + taught) * (supernet_classes as f64).ln();
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
        let last = epoch == phase.total_epochs() as u64;
        let due = last || epoch.is_multiple_of(self.task.training.validation_epochs as u64);
        let validation = match due && !self.task.material.validation.is_empty() {
            true => Some(self.validate(phase, epoch)?),
            false => None,
        };
        let steps = self.task.epoch_steps();
        let state = &mut self.snapshot.state;
        let rate = Rate::new(phase, steps).at(state.step - 1) * state.watch.rate_factor();
        let entry = Epoch {
            phase: phase.name.clone(),
            epoch,
            step: state.total,
            loss: state.tally.loss(),
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
        let weights = self.team.weights()?;
        let training = self.task.training;
        let resolutions: Vec<u32> = self.task.material.resolutions.iter().map(|&r| r as u32).collect();
        let networks =
            self.choices(phase).extremes(&resolutions, training.validation_networks, self.task.seed);
        let results =
            evaluate(&self.device, &weights, &networks, &self.task.material, &self.task.material.validation)?;
        let top1 = results.iter().map(Evaluation::top1).sum::<f64>() / results.len() as f64;
        if self.snapshot.state.best.is_none_or(|best| top1 > best.top1) {
            self.snapshot.state.best = Some(Best { top1, epoch });
            self.snapshot.best = Some(weights);
        }
        Ok(top1)
    }

    /// The best weights of a phase are what the next begins with.
    fn finish(&mut self, phase: &Phase) -> Result<(), Error> {
        let weights = match self.snapshot.best.take() {
            Some(best) => best,
            None => self.team.weights()?,
        };
        let state = &mut self.snapshot.state;
        let end = PhaseEnd { phase: &phase.name, best: state.best.take(), steps: state.step };
        let best = end.best.map(|best| {
            format!(": {:.2} % on average over extreme sub-networks, epoch {}", best.top1, best.epoch)
        });
        self.output.note(&format!("phase {} done{}", phase.name, best.unwrap_or_default()));
        self.journal.append(self.task.stage, state.total, "phase", &end)?;
        state.phase += 1;
        state.step = 0;
        self.snapshot.team = TeamState::new(weights, self.task.optimiser().rule);
        self.commit()
    }

    /// Back to the last checkpoint, with half the rate.
    fn roll_back(&mut self, reason: Reason) -> Result<(), Error> {
        let at = self.snapshot.state.total;
        let restored = self.run.latest_checkpoint(self.task.stage)?.checkpoint;
        let checkpoint = restored.ok_or(Error::NoCheckpoint)?;
        let like: Vec<Supernet> = self.team.supernets().cloned().collect();
        let mut snapshot = Snapshot::read(&checkpoint, &like)?;
        let state = &mut snapshot.state;
        state.watch = self.snapshot.state.watch.rolled_back(state.watch.clone(), reason)?;
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
        self.commit()
    }

    /// Takes weights and optimiser off the device and writes a checkpoint.
    fn checkpoint(&mut self) -> Result<(), Error> {
        if self.snapshot.state.step > 0 {
            self.snapshot.team = self.team.state()?;
        }
        self.commit()
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.curves.sync()?;
        let mut checkpoint = self.run.checkpoint(self.task.stage, self.snapshot.state.total)?;
        self.snapshot.write(&mut checkpoint)?;
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

/// Evaluates networks of `weights`, each of the super-network of its width, on some images, with
/// recalibrated statistics.
///
/// # Errors
/// The device fails.
pub fn evaluate(
    device: &Arc<dyn Device>,
    weights: &[Supernet],
    networks: &[Arch],
    material: &Material,
    images: &[u32],
) -> Result<Vec<Evaluation>, Error> {
    let split = |indices| SplitImages::new(&material.dataset, indices, material.pixels);
    let calibration = split(&material.calibration);
    let batches = Calibration::Batches {
        images: &calibration,
        count: material.calibration.len(),
        batch: CALIBRATION_BATCH,
    };
    let engine = |supernet: &Supernet| Engine::new(device.clone(), Arc::new(supernet.clone()));
    let engines = weights.iter().map(engine).collect::<Result<Vec<Engine>, _>>()?;
    let networks: Vec<(Arch, Exits)> =
        networks.iter().map(|arch| (arch.clone(), Exits::single(arch))).collect();
    let population = evaluate_widths(&engines, &networks, &split(images), batches, &|| false, &|_, _| ())?;
    let results = population.map(|population| population.results).unwrap_or_default();
    Ok(results.into_iter().map(|exits| exits[0]).collect())
}
