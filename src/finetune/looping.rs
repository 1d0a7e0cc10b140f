//! Both trainings of every picked network, from a run directory's newest checkpoint to the end.
//!
//! A checkpoint is taken at the end of every epoch and where a stop is asked for. What a step draws
//! follows from the seed and its number, so a run that was interrupted ends with the same bits.

use super::prune::{self, Scored};
use super::results::{self, Finetuned, Measured, Summary};
use super::state::{Best, Epoch, Part, Snapshot, State, with_tensors};
use super::{Error, Picked};
use crate::config::{self, Finetune, FinetuneOptimiser, Training};
use crate::data::loader::{self, Loader};
use crate::data::{Dataset, Split};
use crate::device::Device;
use crate::engine::ensemble::{ExitWeights, Strategy};
use crate::engine::{Calibration, Engine, Precision};
use crate::evaluator::{CALIBRATION_BATCH, SplitImages};
use crate::run::{Curves, Journal, Output, Progress, RunDirectory, StopFlag};
use crate::space::walk::Exits;
use crate::space::{Arch, Family, cost};
use crate::supernet::{Network, Supernet, of_width};
use crate::train::checks::{Health, MOST_ROLLBACKS, Reason, Watch};
use crate::train::material::fingerprint;
use crate::train::tally::left_out;
use crate::train::{
    self, Batch, Decays, Material, Optimiser, OptimiserState, Rule, Settings, Student, Tally, Trainer,
    Weighting,
};
use serde_json::json;
use std::f64::consts::PI;
use std::sync::Arc;

/// Name of the checkpoints, journal entries and curves.
const STAGE: &str = "finetune";

/// What is fine-tuned, on what and how.
pub struct Inputs<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The settings.
    pub settings: &'a Finetune,
    /// The super-networks that networks inherit from, ascending by width.
    pub supernets: Vec<Supernet>,
    /// Their family.
    pub family: Family,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// The networks.
    pub picked: Vec<Picked>,
    /// Images and transforms of the first training, at any resolution.
    material: Material,
    /// Of the second: with the validation images.
    whole: Material,
}

/// How a fine-tuning ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over.
    Finished(Summary),
    /// A stop was asked for; the same call goes on.
    Stopped,
}

impl<'a> Inputs<'a> {
    /// Checks that everything fits. `training` says what settings of a training fine-tuning has
    /// none of its own for, `augmentation` what happens to images where that is not the usual.
    ///
    /// # Errors
    /// Data with other classes or without validation images; an ensemble of a family without exits.
    pub fn new(
        (seed, settings, training): (u64, &'a Finetune, &Training),
        augmentation: Option<config::Augmentation>,
        supernets: Vec<Supernet>,
        dataset: Arc<Dataset>,
        picked: Vec<Picked>,
    ) -> Result<Inputs<'a>, Error> {
        let first = supernets.first().ok_or(train::Error::NoSupernet)?;
        let family = first.family;
        if settings.exits != config::Exits::Single && !family.early_exits {
            let family = family.to_string();
            return Err(Error::NoExits { exits: settings.exits.as_str(), family });
        }
        let training = Training {
            calibration_images: settings.calibration_images,
            validation_images: settings.validation_images,
            ..training.clone()
        };
        let material = |with| Material::new(&training, first, dataset.clone(), augmentation, with);
        let (material, whole) = (material(false)?, material(true)?);
        if material.validation.is_empty() {
            return Err(Error::NoValidation { dataset: dataset.name().into() });
        }
        Ok(Inputs { seed, settings, family, supernets, dataset, picked, material, whole })
    }

    fn material(&self, part: Part) -> &Material {
        match part {
            Part::Train => &self.material,
            Part::Final => &self.whole,
        }
    }

    /// The super-network of a network's width.
    fn supernet_of(&self, arch: &Arch) -> Result<&Supernet, Error> {
        let missing = || Error::Front {
            file: "the network".into(),
            reason: format!("width {:?} is that of no super-network: give the search's weights", arch.w),
        };
        of_width(&self.supernets, arch).ok_or_else(missing)
    }

    /// Steps of an epoch.
    pub fn epoch_steps(&self, part: Part) -> u64 {
        let images = self.material(part).images.len();
        loader::steps_per_epoch(self.settings.epoch_images.unwrap_or(images).min(images), self.settings.batch)
    }

    /// The rate of a step of a part: a cosine over as many epochs as there may be, which the
    /// second training leaves early.
    pub fn rate(&self, part: Part, step: u64) -> f64 {
        let (high, low) = (self.settings.rate, self.settings.min_rate);
        let all = self.settings.epochs as u64 * self.epoch_steps(part);
        low + 0.5 * (high - low) * (1.0 + (PI * step as f64 / all as f64).cos())
    }

    /// The optimiser of the settings, or the published one for the family.
    pub fn optimiser(&self) -> Optimiser {
        let adam = match self.settings.optimiser {
            FinetuneOptimiser::Auto => self.family.early_exits,
            FinetuneOptimiser::Sgd => false,
            FinetuneOptimiser::Adamw => true,
        };
        let (rule, decay) = match adam {
            true => (Rule::AdamW, 0.01),
            false => (Rule::Sgd { momentum: self.settings.momentum as f32, nesterov: false }, 5e-4),
        };
        let decay = self.settings.weight_decay.unwrap_or(decay) as f32;
        Optimiser { rule, decay, decays: Decays::All, clip: None }
    }

    /// What maps are stored as in a step.
    pub fn precision(&self) -> Precision {
        self.settings.precision.into()
    }

    /// The exits of a network that are trained, and their weights.
    fn exits(&self, arch: &Arch) -> (Exits, ExitWeights) {
        let strategy = match self.settings.exits {
            config::Exits::Single => {
                return (Exits::single(arch), ExitWeights { alpha: vec![1.0], beta: vec![1.0] });
            }
            config::Exits::Desc => Strategy::Desc,
            config::Exits::Asc => Strategy::Asc,
            config::Exits::Unif => Strategy::Unif,
            config::Exits::Mix => Strategy::Mix,
        };
        let exits = Exits::up_to(arch);
        (exits, strategy.weights(exits.len()))
    }

    /// Takes a network out of the super-network, its batch norms recalibrated.
    ///
    /// # Errors
    /// A network that the super-network does not have, a device that fails.
    pub fn inherited(&self, device: &Arc<dyn Device>, arch: &Arch) -> Result<Supernet, Error> {
        let exits = self.exits(arch).0;
        let network = Network::extract(self.supernet_of(arch)?, arch, exits)?;
        let engine = Engine::new(device.clone(), Arc::new(network.weights().clone()))?;
        let images = SplitImages::new(&self.dataset, &self.material.calibration, self.material.pixels);
        let count = self.material.calibration.len();
        let calibration = Calibration::Batches { images: &images, count, batch: CALIBRATION_BATCH };
        Ok(engine.recalibrated(arch, exits, calibration)?)
    }

    fn fingerprint(&self, device: &dyn Device) -> String {
        let archs: Vec<&Arch> = self.picked.iter().map(|picked| &picked.arch).collect();
        let archs = serde_json::to_string(&archs).expect("architectures are JSON");
        let data = format!("{} {} {archs}", self.material.fingerprint, self.whole.fingerprint);
        fingerprint(&self.supernets, &data, &self.precision().arithmetic(device))
    }
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
        work.commit()?;
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

/// A network at work.
struct Subject<'a> {
    picked: &'a Picked,
    exits: Exits,
    weights: ExitWeights,
    inherited: Supernet,
}

/// How a training was left.
enum Left {
    AtItsEnd(Box<Supernet>),
    Stopped,
    Diverged(Reason),
}

impl Loop<'_> {
    fn all(mut self) -> Result<Outcome, Error> {
        while let Some(picked) = self.inputs.picked.get(self.snapshot.state.network) {
            let (exits, weights) = self.inputs.exits(&picked.arch);
            let inherited = self.inputs.inherited(&self.device, &picked.arch)?;
            let subject = Subject { picked, exits, weights, inherited };
            match (self.part(&subject)?, self.snapshot.state.part) {
                (Left::Stopped, _) => return Ok(Outcome::Stopped),
                (Left::Diverged(reason), _) => self.roll_back(picked, reason)?,
                (Left::AtItsEnd(_), Part::Train) => self.chosen(picked)?,
                (Left::AtItsEnd(weights), Part::Final) => self.finish(&subject, &weights)?,
            }
        }
        let summary = Summary {
            version: 1,
            family: self.inputs.family.to_string(),
            data: self.inputs.dataset.name().into(),
            networks: self.snapshot.state.finished,
        };
        summary.publish(self.run)?;
        Ok(Outcome::Finished(summary))
    }

    /// Trains a network from where its part stands.
    fn part(&mut self, subject: &Subject<'_>) -> Result<Left, Error> {
        let part = self.snapshot.state.part;
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
                self.checkpoint(&trainer)?;
                return Ok(Left::Stopped);
            }
            if let Health::Diverged(reason) = self.step(subject, &mut trainer, &mut loader)? {
                progress.finish();
                return Ok(Left::Diverged(reason));
            }
            if self.snapshot.state.step.is_multiple_of(steps) {
                let message = self.end_epoch(subject, &trainer)?;
                progress.message(message);
                // The last epoch's checkpoint is the next part's first.
                if !self.over() {
                    self.checkpoint(&trainer)?;
                }
            }
            progress.advance(1);
        }
        progress.finish();
        Ok(Left::AtItsEnd(Box::new(trainer.weights()?)))
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
        subject: &Subject<'_>,
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
    fn end_epoch(&mut self, subject: &Subject<'_>, trainer: &Trainer) -> Result<String, Error> {
        let part = self.snapshot.state.part;
        let epoch = self.snapshot.state.step / self.inputs.epoch_steps(part);
        let validation = match part {
            Part::Train => Some(self.validate(subject, trainer, epoch)?),
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
    fn validate(
        &mut self,
        subject: &Subject<'_>,
        trainer: &Trainer,
        epoch: u64,
    ) -> Result<(f64, f64), Error> {
        let images = &self.inputs.material.validation;
        let logits = self.logits(&trainer.weights()?, &subject.picked.arch, subject.exits, images)?;
        let labels = self.labels(images);
        let ExitWeights { alpha, beta } = &subject.weights;
        let all: Vec<usize> = (0..logits.len()).collect();
        let ensemble = Scored::new(&prune::ensemble(&logits, &all, beta), &labels);
        let joint = |(logits, alpha): (&Vec<f32>, &f64)| alpha * Scored::new(logits, &labels).loss;
        let loss: f64 = logits.iter().zip(alpha).map(joint).sum();
        let state = &mut self.snapshot.state;
        if state.lowest.is_none_or(|(lowest, _)| loss < lowest) && loss.is_finite() {
            state.lowest = Some((loss, epoch));
        }
        if state.best.as_ref().is_none_or(|best| ensemble.top1() > best.top1) {
            let (kept, scored) = match self.inputs.settings.prune {
                true => prune::best_subset(&logits, beta, &labels),
                false => (all, ensemble),
            };
            let exits: Vec<usize> = subject.exits.iter().collect();
            let kept = kept.into_iter().map(|index| exits[index]).collect();
            state.best = Some(Best { epoch, top1: ensemble.top1(), kept, kept_top1: scored.top1() });
        }
        Ok((loss, ensemble.top1()))
    }

    /// Logits of stand-alone weights with their own statistics.
    fn logits(
        &self,
        weights: &Supernet,
        arch: &Arch,
        exits: Exits,
        images: &[u32],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let engine = Engine::new(self.device.clone(), Arc::new(weights.clone()))?;
        let images = SplitImages::new(&self.inputs.dataset, images, self.inputs.material.pixels);
        Ok(engine.logits(arch, exits, &images, Calibration::Stored)?)
    }

    fn labels(&self, images: &[u32]) -> Vec<u32> {
        images.iter().map(|&index| self.inputs.dataset.label(index)).collect()
    }

    /// From the first training to the second, which begins with the inherited weights.
    fn chosen(&mut self, picked: &Picked) -> Result<(), Error> {
        let state = &mut self.snapshot.state;
        if let Some(best) = &state.best {
            let entry = json!({"network": picked.number, "epoch": best.epoch, "top1": best.top1,
                "exits": one_based(&best.kept), "kept_top1": best.kept_top1});
            self.journal.append(STAGE, state.total, "chosen", &entry)?;
        }
        self.begin(Part::Final)
    }

    /// Tests a network, once, and writes it down.
    fn finish(&mut self, subject: &Subject<'_>, trained: &Supernet) -> Result<(), Error> {
        let &Subject { picked, exits, ref weights, ref inherited } = subject;
        let Some(best) = self.snapshot.state.best.clone() else { return Err(Error::NoCheckpoint) };
        let all: Vec<usize> = exits.iter().collect();
        let beta_of = |exit: &usize| all.iter().position(|other| other == exit).map(|at| weights.beta[at]);
        let beta: Vec<f64> = best.kept.iter().filter_map(beta_of).collect();
        let (arch, kept, pruned) = self.pruned(picked, &best.kept, trained)?;
        let supernet = self.inputs.supernet_of(&picked.arch)?;
        let (classes, channels) = (supernet.classes(), supernet.channels());
        let own = Exits::single(&picked.arch);
        let before = self.test(inherited, &picked.arch, own, &[1.0])?;
        let after = self.test(&pruned, &arch, kept, &beta)?;
        let measured = |scored: Option<Scored>, arch: &Arch, exits: Exits| {
            let cost = cost(channels, arch, exits, classes);
            let (top1, loss) = (scored.map(|s| s.top1()), scored.map(|s| s.loss));
            Measured { top1, loss: loss.filter(|l| l.is_finite()), params: cost.params, macs: cost.macs }
        };
        let state = &mut self.snapshot.state;
        let history = std::mem::take(&mut state.history);
        let json = |arch: &Arch| serde_json::to_value(arch).expect("architectures are JSON");
        let result = Finetuned {
            number: picked.number,
            genotype: picked.genotype.clone(),
            picked: json(&picked.arch),
            arch: json(&arch),
            strategy: self.inputs.settings.exits.as_str().into(),
            exits: one_based(&best.kept),
            beta,
            epochs: history.iter().filter(|epoch| epoch.part == Part::Train).count() as u64,
            best_epoch: best.epoch,
            search_top1: picked.search_top1,
            validation_top1: best.kept_top1,
            before: measured(before, &picked.arch, own),
            after: measured(after, &arch, kept),
            weights: results::weights_file(picked),
            history,
        };
        let pixels = self.inputs.material.pixels;
        let network = results::network(pruned, &self.inputs.dataset, pixels, &result)?;
        results::publish(self.run, &network, &result)?;
        let line = |m: &Measured| m.top1.map_or("-".into(), |top1| format!("{top1:.2} %"));
        self.output.note(&format!(
            "network {}: test accuracy {} before, {} after {} epochs",
            picked.number,
            line(&result.before),
            line(&result.after),
            best.epoch
        ));
        let entry = json!({"network": picked.number, "before": result.before, "after": result.after});
        self.journal.append(STAGE, state.total, "finished", &entry)?;
        state.finished.push(result);
        state.network += 1;
        (state.best, state.lowest) = (None, None);
        self.begin(Part::Train)
    }

    /// The trained network with some of its exits only, and without what lies behind them.
    fn pruned(
        &self,
        picked: &Picked,
        kept: &[usize],
        trained: &Supernet,
    ) -> Result<(Arch, Exits, Supernet), Error> {
        let last = kept.last().copied().unwrap_or(usize::from(picked.arch.nd) - 1);
        let arch = Arch { nd: last as u8 + 1, ..picked.arch.clone() }.canonical();
        let list: Vec<String> = one_based(kept).iter().map(usize::to_string).collect();
        let exits = match picked.arch.family.early_exits {
            true => Exits::parse(&list.join(","), &arch)?,
            false => Exits::single(&arch),
        };
        // Blocks are numbered from the front, so a shorter network has the names of the longer one.
        let shorter = Network::extract(self.inputs.supernet_of(&arch)?, &arch, exits)?;
        let pruned = with_tensors(shorter.weights(), &trained.checkpoint())?;
        Ok((arch, exits, pruned))
    }

    fn test(
        &self,
        weights: &Supernet,
        arch: &Arch,
        exits: Exits,
        beta: &[f64],
    ) -> Result<Option<Scored>, Error> {
        let images = self.inputs.dataset.split(Split::Test);
        if images.is_empty() {
            return Ok(None);
        }
        let logits = self.logits(weights, arch, exits, images)?;
        let all: Vec<usize> = (0..logits.len()).collect();
        Ok(Some(Scored::new(&prune::ensemble(&logits, &all, beta), &self.labels(images))))
    }

    /// Goes to the first step of a part.
    fn begin(&mut self, part: Part) -> Result<(), Error> {
        let state = &mut self.snapshot.state;
        (state.part, state.step, state.watch) = (part, 0, Watch::new());
        self.snapshot.weights = None;
        self.commit()
    }

    /// Back to the last checkpoint, with half the rate.
    fn roll_back(&mut self, picked: &Picked, reason: Reason) -> Result<(), Error> {
        let at = self.snapshot.state.total;
        let restored = self.run.latest_checkpoint(STAGE)?.checkpoint;
        let mut snapshot = Snapshot::read(&restored.ok_or(Error::NoCheckpoint)?)?;
        let state = &mut snapshot.state;
        state.watch = self.snapshot.state.watch.rolled_back(state.watch.clone(), reason).map_err(|_| {
            Error::Hopeless { number: picked.number, times: MOST_ROLLBACKS + 1, reason: reason.to_string() }
        })?;
        let factor = state.watch.rate_factor();
        self.output
            .note(&format!("step {at}: {reason}; back to step {} with {factor} of the rate", state.total));
        self.journal.rewind(STAGE, Some(state.total))?;
        self.curves.rewind(Some(state.total))?;
        self.journal.append(STAGE, state.total, "rollback", &reason.to_string())?;
        self.snapshot = snapshot;
        self.commit()
    }

    /// Takes weights and optimiser off the device and writes a checkpoint.
    fn checkpoint(&mut self, trainer: &Trainer) -> Result<(), Error> {
        if self.snapshot.state.step > 0 {
            let state: OptimiserState = trainer.optimiser_state()?;
            self.snapshot.weights = Some((trainer.weights()?.checkpoint(), state));
        }
        self.commit()
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.curves.sync()?;
        let mut checkpoint = self.run.checkpoint(STAGE, self.snapshot.state.total)?;
        self.snapshot.write(&mut checkpoint)?;
        Ok(checkpoint.commit()?)
    }
}

/// Exits as people count them.
fn one_based(exits: &[usize]) -> Vec<usize> {
    exits.iter().map(|exit| exit + 1).collect()
}
