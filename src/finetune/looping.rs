//! Both trainings of every picked network, from a run directory's newest checkpoint to the end.
//!
//! A checkpoint is written at the end of every epoch and when a stop is asked for. The random draws of a step
//! follow from the seed and the step's number, so a run that was interrupted ends with the same bits.

use super::inputs::Inputs;
use super::measure::{NetworkInTraining, one_based};
use super::prune::Score;
use super::results::{self, Finetuned, Measured, Summary};
use super::state::{Best, Epoch, Part, Snapshot, State, with_tensors};
use super::{Error, Picked};
use crate::config::{self, Keep};
use crate::data::loader::{self, Loader};
use crate::device::Device;
use crate::export::NetworkState;
use crate::run::{self, Curves, Journal, Output, Progress, RunDirectory, StopFlag};
use crate::space::walk::Exits;
use crate::space::{Arch, cost};
use crate::supernet::Supernet;
use crate::train::checks::{Health, Reason, Watch};
use crate::train::tally::left_out;
use crate::train::{self, Batch, OptimiserState, Settings, Student, Tally, Trainer, Weighting};
use serde_json::json;
use std::sync::Arc;

/// Name of the checkpoints, journal entries and curves.
pub const STAGE: &str = "finetune";
/// Images that an epoch of the second training is looked at on, whether its network still gives numbers.
const GLANCE: usize = 64;

/// How a fine-tuning ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over.
    Finished(Summary),
    /// A stop was asked for; the same call goes on.
    Stopped,
}

/// Fine-tunes the networks of `inputs` in `run`, from where it stands.
///
/// # Errors
/// A device, the data or the run directory fails, or training diverges however small the rate; the
/// run directory is as it was at the last checkpoint.
pub fn finetune(
    inputs: &Inputs<'_>,
    device: Arc<dyn Device>,
    run: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let restored = run.latest_checkpoint(STAGE)?;
    restored.warnings.iter().for_each(|warning| output.note(warning));
    let step = restored.checkpoint.as_ref().map(|checkpoint| checkpoint.step());
    let mut journal = run.journal()?;
    journal.rewind(STAGE, step)?;
    let arithmetic = inputs.precision().arithmetic(&*device);
    let snapshot = match &restored.checkpoint {
        Some(checkpoint) => {
            let snapshot = Snapshot::read(checkpoint)?;
            if snapshot.state.fingerprint != inputs.fingerprint(&*device) {
                return Err(Error::OtherInputs {
                    directory: run.path().display().to_string(),
                    before: snapshot.state.arithmetic,
                    now: arithmetic,
                });
            }
            snapshot
        }
        None => Snapshot { state: State::new(inputs.fingerprint(&*device), arithmetic), weights: None },
    };
    let mut curves = run.curves(STAGE)?;
    curves.warning().into_iter().for_each(|warning| output.note(warning));
    curves.rewind(step)?;
    let mut work = Loop { inputs, device, run, stop, output, journal, curves, snapshot };
    if restored.checkpoint.is_none() {
        work.journal.append(STAGE, 0, "picked", &inputs.picked)?;
        work.commit(true)?;
    }
    work.all()
}

/// A fine-tuning at work.
struct Loop<'a> {
    inputs: &'a Inputs<'a>,
    device: Arc<dyn Device>,
    run: &'a RunDirectory,
    stop: &'a StopFlag,
    output: Output,
    journal: Journal,
    curves: Curves,
    snapshot: Snapshot,
}

/// How one training of a network ended.
enum TrainingEnd {
    /// It is over, with these weights.
    Finished(Box<Supernet>),
    /// A stop was asked for first.
    Stopped,
}

impl Loop<'_> {
    fn all(mut self) -> Result<Outcome, Error> {
        if self.snapshot.state.network < self.inputs.picked.len() {
            self.run.check_writable()?;
        }
        while let Some(picked) = self.inputs.picked.get(self.snapshot.state.network) {
            let subject = self.inputs.subject(&self.device, picked)?;
            let left = match self.part(&subject) {
                Ok(left) => left,
                Err(error) => match error.divergence() {
                    Some(reason) => {
                        self.roll_back(picked, &reason)?;
                        continue;
                    }
                    None => return Err(error),
                },
            };
            match (left, self.snapshot.state.part) {
                (TrainingEnd::Stopped, _) => return Ok(Outcome::Stopped),
                (TrainingEnd::Finished(_), Part::Train) => self.chosen(&subject)?,
                (TrainingEnd::Finished(weights), Part::Final) => self.finish(&subject, &weights)?,
            }
        }
        let summary = Summary {
            version: 1,
            family: self.inputs.family.to_string(),
            data: self.inputs.dataset.name().into(),
            networks: self.snapshot.state.finished,
        };
        results::publish(self.run, &summary)?;
        Ok(Outcome::Finished(summary))
    }

    /// Trains a network from where its part stands.
    fn part(&mut self, subject: &NetworkInTraining<'_>) -> Result<TrainingEnd, Error> {
        let part = self.snapshot.state.part;
        if part == Part::Train && self.snapshot.state.inherited.is_none() {
            // Epoch 0. It follows from the weights alone, so a run that stops here finds the same again.
            let validation = self.inputs.validation(&self.device, subject, &subject.inherited)?;
            let prune = self.inputs.settings.prune;
            self.snapshot.state.inherited = Some(validation.candidate(subject, prune, 0));
        }
        let (optimiser, precision) = (self.inputs.optimiser(), self.inputs.precision());
        let (device, inherited) = (self.device.clone(), subject.inherited.clone());
        let mut trainer = Trainer::in_precision(device, inherited, optimiser, precision)?;
        if let Some((tensors, state)) = &self.snapshot.weights {
            trainer.restore(&with_tensors(&subject.inherited, tensors)?, state)?;
        }
        let epochs = match &self.snapshot.state.best {
            Some(best) if part == Part::Final => best.epoch,
            _ => self.inputs.settings.epochs as u64,
        };
        let name = format!(
            "network {}/{}, {}",
            self.snapshot.state.network + 1,
            self.inputs.picked.len(),
            if part == Part::Train { "to find its epochs" } else { "with the validation images" }
        );
        let steps = self.inputs.epoch_steps(part);
        let progress = Progress::start(self.output, name, self.snapshot.state.step, epochs * steps);
        let mut loader = self.loader(&subject.picked.arch)?;
        while !self.over() {
            if self.stop.requested() {
                self.take(&trainer)?;
                self.commit(false)?;
                return Ok(TrainingEnd::Stopped);
            }
            if let Health::Diverged(reason) = self.step(subject, &mut trainer, &mut loader)? {
                progress.finish();
                return Err(train::Error::from(reason).into());
            }
            if self.snapshot.state.step.is_multiple_of(steps) {
                let message = self.end_epoch(subject, &trainer)?;
                progress.message(message);
                // The last epoch's checkpoint is the next part's first.
                if !self.over() {
                    // The end of the epoch has taken everything off the device.
                    self.commit(true)?;
                }
            }
            progress.advance(1);
        }
        progress.finish();
        Ok(TrainingEnd::Finished(Box::new(trainer.weights()?)))
    }

    /// Whether the part is at its end.
    fn over(&self) -> bool {
        let State { part, step, lowest, best, .. } = &self.snapshot.state;
        let steps = self.inputs.epoch_steps(*part);
        let (settings, epoch) = (self.inputs.settings, step / steps);
        if !step.is_multiple_of(steps) || epoch == 0 {
            return false;
        }
        match part {
            Part::Train => {
                let stale = epoch - lowest.map_or(0, |(_, epoch)| epoch);
                epoch >= settings.epochs as u64 || stale >= settings.patience as u64
            }
            Part::Final => best.as_ref().is_none_or(|best| epoch >= best.epoch),
        }
    }

    fn loader(&self, arch: &Arch) -> Result<Loader, Error> {
        let material = self.inputs.material(self.snapshot.state.part);
        let settings = loader::Settings {
            batch: self.inputs.settings.batch,
            seed: self.inputs.seed,
            augmentation: material.augmentation.clone(),
            resolutions: vec![arch.r as usize],
            mean: material.pixels.mean,
            std: material.pixels.std,
            threads: 1,
            ahead: 3,
        };
        let steps = loader::steps_per_epoch(material.images.len(), settings.batch);
        let step = self.snapshot.state.step;
        let start = loader::position_of(step, steps);
        let (dataset, images) = (material.dataset.clone(), material.images.clone());
        Ok(train::batches(&*self.device, dataset, images, settings, start)?)
    }

    fn step(
        &mut self,
        subject: &NetworkInTraining<'_>,
        trainer: &mut Trainer,
        loader: &mut Loader,
    ) -> Result<Health, Error> {
        let images = loader.next_batch()?;
        let state = &mut self.snapshot.state;
        let rate = state.watch.rate_factor() * self.inputs.rate(state.part, state.step);
        let settings = Settings {
            rate: rate as f32,
            smoothing: 0.0,
            kd_ratio: 0.0,
            dropout: 0.0,
            seed: self.inputs.seed,
            epoch: state.step / self.inputs.epoch_steps(state.part),
            step: state.step,
        };
        let weighting = match self.inputs.settings.exits {
            config::Exits::Single => Weighting::Own,
            _ => {
                let mut alpha = [0.0; 5];
                let given = subject.exits.iter().zip(&subject.weights.alpha);
                given.for_each(|(exit, &weight)| alpha[exit] = weight as f32);
                Weighting::Joint(alpha)
            }
        };
        let student = Student { arch: subject.picked.arch.clone(), weighting };
        let batch = Batch { images: images.images(), labels: &images.labels, side: images.side };
        let report = trainer.step(&batch, &[student], None, &settings)?;
        let loss = report.loss();
        let guess = (trainer.supernet().classes() as f64).ln();
        let health = state.watch.observe(loss, report.watched_norm(), guess);
        state.step += 1;
        state.total += 1;
        state.tally.add(&report, images.labels.len());
        Ok(health)
    }

    /// Validates in the first part, and writes down how the epoch went.
    fn end_epoch(&mut self, subject: &NetworkInTraining<'_>, trainer: &Trainer) -> Result<String, Error> {
        let part = self.snapshot.state.part;
        let epoch = self.snapshot.state.step / self.inputs.epoch_steps(part);
        // What holds no numbers is seen before the part ends, wherever it began.
        self.take(trainer)?;
        let weights = trainer.weights()?;
        let images = &self.inputs.material.validation;
        let images = if part == Part::Train { &images[..] } else { &images[..images.len().min(GLANCE)] };
        let arch = &subject.picked.arch;
        let logits = self.inputs.logits(&self.device, &weights, arch, subject.exits, images)?;
        if let Some(&value) = logits.iter().flatten().find(|value| !value.is_finite()) {
            return Err(train::Error::from(Reason::Validation(f64::from(value))).into());
        }
        let validation = match part {
            Part::Train => Some(self.validate(subject, logits, epoch)),
            Part::Final => None,
        };
        let state = &mut self.snapshot.state;
        let entry = Epoch {
            part,
            epoch,
            step: state.total,
            loss: state.tally.loss(),
            train_top1: state.tally.top1(),
            validation_loss: validation.map(|(loss, _)| loss).filter(|loss| loss.is_finite()),
            validation_top1: validation.map(|(_, top1)| top1),
            rate: state.watch.rate_factor() * self.inputs.rate(part, state.step - 1),
            skipped: state.tally.skipped(),
        };
        state.tally = Tally::default();
        self.journal.append(STAGE, state.total, "epoch", &entry)?;
        let of = format!(
            "network-{}/{}",
            subject.picked.number,
            if part == Part::Train { "train" } else { "final" }
        );
        let values = [
            ("loss", Some(entry.loss)),
            ("train_top1", Some(entry.train_top1)),
            ("rate", Some(entry.rate)),
            ("validation_loss", entry.validation_loss),
            ("validation_top1", entry.validation_top1),
        ];
        let named: Vec<(String, f64)> =
            values.into_iter().filter_map(|(name, value)| Some((format!("{of}/{name}"), value?))).collect();
        let scalars: Vec<(&str, f64)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.curves.add(state.total, &scalars)?;
        let validated = entry.validation_top1.map(|top1| format!(", validation {top1:.2} %"));
        let message = format!(
            "epoch {epoch}: loss {:.4}, training {:.2} %{}{}",
            entry.loss,
            entry.train_top1,
            validated.unwrap_or_default(),
            left_out(entry.skipped)
        );
        state.history.push(entry);
        Ok(message)
    }

    /// Validation loss (as in training, weighted over the exits) and accuracy of the ensemble;
    /// remembers the best epoch and the exits that would stay.
    fn validate(&mut self, subject: &NetworkInTraining<'_>, logits: Vec<Vec<f32>>, epoch: u64) -> (f64, f64) {
        let found = self.inputs.scored(subject, logits);
        let (loss, top1) = (found.loss, found.top1());
        let state = &mut self.snapshot.state;
        if state.lowest.is_none_or(|(lowest, _)| loss < lowest) && loss.is_finite() {
            state.lowest = Some((loss, epoch));
        }
        if state.best.as_ref().is_none_or(|best| top1 > best.top1) {
            state.best = Some(found.candidate(subject, self.inputs.settings.prune, epoch));
        }
        (loss, top1)
    }

    /// From the first training to the second, which begins with the inherited weights; or to the end, where
    /// no epoch made a better network than these. Equally good is not better: then nothing was learnt.
    fn chosen(&mut self, subject: &NetworkInTraining<'_>) -> Result<(), Error> {
        let state = &mut self.snapshot.state;
        let (Some(best), Some(inherited)) = (&state.best, &state.inherited) else {
            return Err(run::Error::NoCheckpoint.into());
        };
        let kept = self.inputs.settings.keep == Keep::Best && inherited.kept_top1 >= best.kept_top1;
        let chosen: Best = if kept { inherited.clone() } else { best.clone() };
        let entry = json!({"network": subject.picked.number, "epoch": chosen.epoch, "top1": chosen.top1,
            "exits": one_based(&chosen.kept), "kept_top1": chosen.kept_top1,
            "inherited_top1": inherited.kept_top1});
        state.best = Some(chosen);
        self.journal.append(STAGE, state.total, "chosen", &entry)?;
        if kept { self.finish(subject, &subject.inherited) } else { self.begin(Part::Final) }
    }

    /// Tests a network, once, and writes it down.
    fn finish(&mut self, subject: &NetworkInTraining<'_>, trained: &Supernet) -> Result<(), Error> {
        let &NetworkInTraining { picked, ref inherited, .. } = subject;
        let state = &self.snapshot.state;
        let (Some(best), Some(epoch_0)) = (state.best.clone(), state.inherited.clone()) else {
            return Err(run::Error::NoCheckpoint.into());
        };
        let beta = subject.beta(&best.kept);
        let (arch, kept, pruned) = self.inputs.pruned(picked, &best.kept, trained)?;
        let supernet = self.inputs.supernet_of(&picked.arch)?;
        let (classes, channels) = (supernet.classes(), supernet.channels());
        let own = Exits::single(&picked.arch);
        let before = self.inputs.test(&self.device, inherited, &picked.arch, own, &[1.0])?;
        let after = self.inputs.test(&self.device, &pruned, &arch, kept, &beta)?;
        let measured = |scored: Option<Score>, arch: &Arch, exits: Exits| {
            let cost = cost(channels, arch, exits, classes);
            let (top1, loss) = (scored.map(|s| s.top1()), scored.map(|s| s.loss));
            Measured { top1, loss: loss.filter(|l| l.is_finite()), params: cost.params, macs: cost.macs }
        };
        let state = &mut self.snapshot.state;
        let history = std::mem::take(&mut state.history);
        let json = |arch: &Arch| serde_json::to_value(arch).expect("architectures are JSON");
        let result = Finetuned {
            number: picked.number,
            picked_for: picked.picked_for.clone(),
            state: if best.epoch == 0 { NetworkState::Inherited } else { NetworkState::FineTuned },
            genotype: picked.genotype.clone(),
            picked: json(&picked.arch),
            arch: json(&arch),
            strategy: self.inputs.settings.exits.as_str().into(),
            exits: one_based(&best.kept),
            beta,
            epochs: history.iter().filter(|epoch| epoch.part == Part::Train).count() as u64,
            best_epoch: best.epoch,
            search_top1: picked.search_top1,
            inherited_top1: Some(epoch_0.kept_top1),
            validation_top1: best.kept_top1,
            before: measured(before, &picked.arch, own),
            after: measured(after, &arch, kept),
            weights: results::weights_file(picked),
            history,
        };
        let network = results::network(pruned, &self.inputs.material, &result)?;
        results::store(self.run, &network, &result)?;
        let line = |m: &Measured| m.top1.map_or("-".into(), |top1| format!("{top1:.2} %"));
        self.output.note(&match result.state {
            NetworkState::FineTuned => format!(
                "network {}: test accuracy {} before, {} after {} epochs",
                picked.number,
                line(&result.before),
                line(&result.after),
                best.epoch
            ),
            NetworkState::Inherited => format!(
                "network {}: kept as inherited, no epoch was better than {:.2} % on the validation images; test \
                 accuracy {}",
                picked.number,
                best.kept_top1,
                line(&result.after)
            ),
        });
        let entry = json!({"network": picked.number, "state": result.state,
            "before": result.before, "after": result.after});
        self.journal.append(STAGE, state.total, "finished", &entry)?;
        state.finished.push(result);
        state.network += 1;
        (state.inherited, state.best, state.lowest) = (None, None, None);
        self.begin(Part::Train)
    }

    /// Goes to the first step of a part.
    fn begin(&mut self, part: Part) -> Result<(), Error> {
        let state = &mut self.snapshot.state;
        (state.part, state.step, state.watch) = (part, 0, Watch::new());
        self.snapshot.weights = None;
        self.commit(true)
    }

    /// Back to the last proven checkpoint, with half the rate.
    fn roll_back(&mut self, picked: &Picked, reason: &Reason) -> Result<(), Error> {
        let at = self.snapshot.state.total;
        let restored = self.run.latest_proven(STAGE)?.checkpoint;
        let mut snapshot = Snapshot::read(&restored.ok_or(run::Error::NoCheckpoint)?)?;
        let state = &mut snapshot.state;
        let (watch, remedy) = (&self.snapshot.state.watch, self.inputs.remedy());
        state.watch = watch
            .rolled_back(state.watch.clone(), reason, remedy)
            .map_err(|hopeless| Error::KeepsDiverging { number: picked.number, hopeless })?;
        let factor = state.watch.rate_factor();
        self.output
            .note(&format!("step {at}: {reason}; back to step {} with {factor} of the rate", state.total));
        self.journal.rewind(STAGE, Some(state.total))?;
        self.curves.rewind(Some(state.total))?;
        self.journal.append(STAGE, state.total, "rollback", &reason.to_string())?;
        self.snapshot = snapshot;
        self.commit(true)
    }

    /// Takes weights and optimiser off the device, where they must hold numbers.
    fn take(&mut self, trainer: &Trainer) -> Result<(), Error> {
        if self.snapshot.state.step > 0 {
            let state: OptimiserState = trainer.optimiser_state()?;
            self.snapshot.weights = Some((trainer.weights()?.checkpoint(), state));
        }
        self.snapshot.sound()
    }

    fn commit(&mut self, proven: bool) -> Result<(), Error> {
        self.curves.sync()?;
        let mut checkpoint = self.run.checkpoint(STAGE, self.snapshot.state.total)?;
        self.snapshot.write(&mut checkpoint)?;
        let checkpoint = if proven { checkpoint.proven() } else { checkpoint };
        Ok(checkpoint.commit()?)
    }
}
