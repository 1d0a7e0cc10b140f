//! Both trainings of every picked network, from a run directory's newest checkpoint to the end.
//!
//! A checkpoint is written at the end of every epoch and when a stop is asked for. The random draws of a step
//! follow from the seed and the step's number, so a run that was interrupted ends with the same bits.

use super::inputs::Inputs;
use super::measure::{NetworkInTraining, one_based};
use super::prune::Score;
use super::results::{self, Finetuned, Measured, Summary};
use super::state::{Best, Epoch, Part, Snapshot, State, VERSION, with_tensors};
use super::{Error, Picked};
use crate::config::{self, Keep};
use crate::data::loader::Loader;
use crate::device::Device;
use crate::export::NetworkState;
use crate::run::{self, Output, Progress, RunDirectory, StopFlag};
use crate::space::walk::Exits;
use crate::space::{Arch, cost};
use crate::supernet::Supernet;
use crate::train::checks::{Reason, Watch, guess};
use crate::train::record::{BeganWith, Stage};
use crate::train::tally::Figures;
use crate::train::training_loop::{self, Advanced, Taken};
use crate::train::{self, Settings, Student, Tally, Teaching, Trainer, Weighting};
use serde_json::json;
use std::sync::Arc;

type Run<'a> = training_loop::Run<'a, Snapshot>;

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

/// Fine-tunes the networks of `inputs` in `directory`, from where it stands.
///
/// # Errors
/// A device, the data or the run directory fails, or training diverges however small the rate; the
/// run directory is as it was at the last checkpoint.
pub fn finetune(
    inputs: &Inputs<'_>,
    device: Arc<dyn Device>,
    directory: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let stage = Stage {
        name: STAGE,
        section: STAGE,
        inputs: "networks, weights, images",
        remedy: inputs.remedy(),
        began_with: BeganWith {
            version: VERSION,
            fingerprint: inputs.fingerprint(&*device),
            arithmetic: inputs.precision().arithmetic(&*device),
        },
        directory,
        stop,
        output,
    };
    let fresh = |began_with| Snapshot { state: State { began_with, ..State::default() }, weights: None };
    let (mut run, begins) = Run::open(stage, fresh, Snapshot::read)?;
    if run.snapshot.state.network < inputs.picked.len() {
        directory.check_writable()?;
    }
    if begins {
        run.append("picked", &inputs.picked)?;
        run.commit(true)?;
    }
    let parts = Parts { inputs, device };
    let done = run.until_done(|run| parts.advance(run));
    let done = done.map_err(|error| match (error, inputs.picked.get(run.snapshot.state.network)) {
        (Error::Train(train::Error::KeepsDiverging(hopeless)), Some(&Picked { number, .. })) => {
            Error::KeepsDiverging { number, hopeless }
        }
        (error, _) => error,
    });
    if !done? {
        return Ok(Outcome::Stopped);
    }
    let summary = Summary {
        version: 1,
        family: inputs.family.to_string(),
        data: inputs.dataset.name().into(),
        networks: run.snapshot.state.finished,
    };
    results::publish(directory, &summary)?;
    Ok(Outcome::Finished(summary))
}

/// A fine-tuning at work.
struct Parts<'a> {
    inputs: &'a Inputs<'a>,
    device: Arc<dyn Device>,
}

/// The steps of a part.
struct Stretch<'a> {
    parts: &'a Parts<'a>,
    subject: NetworkInTraining<'a>,
    trainer: Trainer,
    weighting: Weighting,
    /// Steps of an epoch.
    epoch: u64,
    loader: Loader,
}

impl training_loop::Stretch for Stretch<'_> {
    type Snapshot = Snapshot;
    type Epoch = Epoch;

    fn is_over(&self, snapshot: &Snapshot) -> bool {
        let State { part, step, lowest, best, .. } = &snapshot.state;
        let (settings, epoch) = (self.parts.inputs.settings, step / self.epoch);
        if !step.is_multiple_of(self.epoch) || epoch == 0 {
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

    fn step(&mut self, snapshot: &mut Snapshot) -> Result<Taken, Error> {
        let (inputs, state) = (self.parts.inputs, &mut snapshot.state);
        let images = self.loader.next_batch()?;
        let settings = Settings {
            rate: (state.monitor.watch.rate_factor() * inputs.rate(state.part, state.step)) as f32,
            seed: inputs.seed,
            epoch: state.step / self.epoch,
            step: state.step,
            ..Settings::default()
        };
        let student = Student { arch: self.subject.picked.arch.clone(), weighting: self.weighting };
        let report = self.trainer.step(&(&images).into(), &[student], Teaching::Labels, &settings)?;
        state.step += 1;
        state.total += 1;
        Ok(Taken {
            report,
            images: images.labels.len(),
            guess: guess(self.trainer.supernet().classes(), 0.0),
            ends_epoch: state.step.is_multiple_of(self.epoch),
        })
    }

    fn take(&self, snapshot: &mut Snapshot) -> Result<(), Error> {
        if snapshot.state.step > 0 {
            let optimiser = self.trainer.optimiser_state()?;
            snapshot.weights = Some((self.trainer.weights()?.checkpoint(), optimiser));
        }
        snapshot.sound()
    }

    fn end_epoch(&mut self, snapshot: &mut Snapshot, tally: Tally) -> Result<(Epoch, Figures), Error> {
        let (Parts { inputs, device }, subject, state) = (self.parts, &self.subject, &mut snapshot.state);
        let (part, epoch) = (state.part, state.step / self.epoch);
        let weights = self.trainer.weights()?;
        let images = &inputs.material.validation;
        let images = if part == Part::Train { &images[..] } else { &images[..images.len().min(GLANCE)] };
        let logits = inputs.logits(device, &weights, &subject.picked.arch, subject.exits, images)?;
        if let Some(&value) = logits.iter().flatten().find(|value| !value.is_finite()) {
            return Err(train::Error::from(Reason::Validation(f64::from(value))).into());
        }
        let validated = (part == Part::Train).then(|| inputs.validate(subject, logits, epoch, state));
        let (loss, validation_top1) = validated.unzip();
        let validation_loss = loss.filter(|loss| loss.is_finite());
        let rate = state.monitor.watch.rate_factor() * inputs.rate(part, state.step - 1);
        let entry = Epoch {
            part,
            epoch,
            step: state.total,
            loss: tally.loss(),
            train_top1: tally.top1(),
            validation_loss,
            validation_top1,
            rate,
            skipped: tally.skipped(),
        };
        state.history.push(entry.clone());
        let of = if part == Part::Train { "train" } else { "final" };
        let curves = format!("network-{}/{of}/", subject.picked.number);
        let figures =
            Figures { epoch, tally, rate, validation_loss, validation_top1, curves, ..Figures::default() };
        Ok((entry, figures))
    }

    fn due(&self, snapshot: &Snapshot, ended: Option<&Epoch>) -> Option<bool> {
        // The last epoch's checkpoint is the next part's first.
        (ended.is_some() && !self.is_over(snapshot)).then_some(true)
    }
}

impl Parts<'_> {
    /// A network's part from where it stands to the next one's start.
    fn advance(&self, run: &mut Run<'_>) -> Result<Advanced, Error> {
        let (inputs, part) = (self.inputs, run.snapshot.state.part);
        let Some(picked) = inputs.picked.get(run.snapshot.state.network) else {
            return Ok(Advanced::ToTheEnd);
        };
        let mut stretch = self.stretch(picked, &mut run.snapshot)?;
        let state = &run.snapshot.state;
        let epochs = match &state.best {
            Some(best) if part == Part::Final => best.epoch,
            _ => inputs.settings.epochs as u64,
        };
        let name = format!(
            "network {}/{}, {}",
            state.network + 1,
            inputs.picked.len(),
            if part == Part::Train { "to find its epochs" } else { "with the validation images" }
        );
        let progress = Progress::start(run.stage.output, name, state.step, epochs * stretch.epoch);
        if !run.steps(&mut stretch, progress, 1)? {
            return Ok(Advanced::Stopped);
        }
        match part {
            Part::Train => self.chosen(&stretch.subject, run)?,
            Part::Final => self.finish(&stretch.subject, &stretch.trainer.weights()?, run)?,
        }
        Ok(Advanced::Further)
    }

    /// Puts a network on the device as its part stands.
    fn stretch<'s>(&'s self, picked: &'s Picked, snapshot: &mut Snapshot) -> Result<Stretch<'s>, Error> {
        let (inputs, state) = (self.inputs, &mut snapshot.state);
        let subject = inputs.subject(&self.device, picked)?;
        if state.part == Part::Train && state.inherited.is_none() {
            // Epoch 0. It follows from the weights alone, so a run that stops here finds the same again.
            let validation = inputs.validation(&self.device, &subject, &subject.inherited)?;
            state.inherited = Some(validation.candidate(&subject, inputs.settings.prune, 0));
        }
        let (optimiser, precision) = (inputs.optimiser(), inputs.precision());
        let (device, inherited) = (self.device.clone(), subject.inherited.clone());
        let mut trainer = Trainer::in_precision(device, inherited, optimiser, precision)?;
        if let Some((tensors, optimiser)) = &snapshot.weights {
            trainer.restore(&with_tensors(&subject.inherited, tensors)?, optimiser)?;
        }
        let weighting = match inputs.settings.exits {
            config::Exits::Single => Weighting::Own,
            _ => {
                let mut alpha = [0.0; 5];
                let given = subject.exits.iter().zip(&subject.weights.alpha);
                given.for_each(|(exit, &weight)| alpha[exit] = weight as f32);
                Weighting::Joint(alpha)
            }
        };
        let (draws, resolutions) = ((inputs.settings.batch, inputs.seed), vec![picked.arch.r as usize]);
        let material = inputs.material(state.part);
        let loader = material.loader(&*self.device, draws, resolutions, state.step)?;
        let epoch = inputs.epoch_steps(state.part);
        Ok(Stretch { parts: self, subject, trainer, weighting, epoch, loader })
    }

    /// From the first training to the second, which begins with the inherited weights; or to the end, where
    /// no epoch made a better network than these. Equally good is not better: then nothing was learnt.
    fn chosen(&self, subject: &NetworkInTraining<'_>, run: &mut Run<'_>) -> Result<(), Error> {
        let state = &mut run.snapshot.state;
        let (Some(best), Some(inherited)) = (&state.best, &state.inherited) else {
            return Err(run::Error::NoCheckpoint.into());
        };
        let kept = self.inputs.settings.keep == Keep::Best && inherited.kept_top1 >= best.kept_top1;
        let chosen: Best = if kept { inherited.clone() } else { best.clone() };
        let entry = json!({"network": subject.picked.number, "epoch": chosen.epoch, "top1": chosen.top1,
            "exits": one_based(&chosen.kept), "kept_top1": chosen.kept_top1,
            "inherited_top1": inherited.kept_top1});
        state.best = Some(chosen);
        run.append("chosen", &entry)?;
        if kept { self.finish(subject, &subject.inherited, run) } else { begin(Part::Final, run) }
    }

    /// Tests a network, once, and writes it down.
    fn finish(
        &self,
        subject: &NetworkInTraining<'_>,
        trained: &Supernet,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let &NetworkInTraining { picked, ref inherited, .. } = subject;
        let state = &run.snapshot.state;
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
        let history = std::mem::take(&mut run.snapshot.state.history);
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
        results::store(run.stage.directory, &network, &result)?;
        let line = |m: &Measured| m.top1.map_or("-".into(), |top1| format!("{top1:.2} %"));
        run.stage.output.note(&match result.state {
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
        run.append("finished", &entry)?;
        let state = &mut run.snapshot.state;
        state.finished.push(result);
        state.network += 1;
        (state.inherited, state.best, state.lowest) = (None, None, None);
        begin(Part::Train, run)
    }
}

/// Goes to the first step of a part.
fn begin(part: Part, run: &mut Run<'_>) -> Result<(), Error> {
    let Snapshot { state, weights } = &mut run.snapshot;
    (state.part, state.step, state.monitor.watch) = (part, 0, Watch::new());
    *weights = None;
    run.commit(true)
}
