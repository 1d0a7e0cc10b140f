//! Adaptation: the super-network trains on between the rounds of a search, on sub-networks like the
//! best of the archive (NAT, arXiv 2005.05859; NATv2).
//!
//! ```text
//! distributions = fit(best networks of the archive)
//! for each step of adaptation.epochs epochs:
//!     resolution   = one at random
//!     sub-networks = 4 drawn from the distributions
//!     step on the sum of their gradients of cross entropy + distillation
//! ```
//!
//! The teacher is the largest network as it was when the search began, for all rounds. One optimiser
//! and one learning-rate schedule span all rounds too: a warm-up and then a cosine over
//! `search.iterations * adaptation.epochs` epochs.
//!
//! Steps have a precision of their own (`adaptation.precision`), beside that of evaluations
//! (`search.precision`). An evaluation in 16 bits rounds an answer, and f16 rounds it less; a step changes
//! the weights that all later ones descend from, and bf16 has the range that gradients need. The weights
//! between the two are f32 in any case: whoever reads them makes its own 16-bit rows.
//!
//! [`Progress`] is the part of a search's state that belongs here; weights and the optimiser's vectors
//! lie beside it in the checkpoint. Two super-networks of different widths train side by side, each
//! with the sub-networks of its width and an optimiser of its own; the wide one's largest network
//! teaches both.

use super::distribution::Distributions;
use super::state::Snapshot;
use super::{Error, State};
use crate::config::{Adaptation, Config, Phase};
use crate::data::loader::{self, Loader};
use crate::evaluator::Evaluator;
use crate::random::{fnv1a64, stream};
use crate::run::RunDirectory;
use crate::space::Space;
use crate::supernet::{Card, Supernet};
use crate::train::checks::guess;
use crate::train::rate::Rate;
use crate::train::tally::{Figures, nothing};
use crate::train::training_loop::{self, Monitor, Taken};
use crate::train::{
    self, Decays, LossScale, Optimiser, Rule, Settings, Student, Tally, Teacher, Team, TeamState, Weighting,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The adapted super-network's file in the run directory.
pub const ADAPTED_FILE: &str = "adapted.safetensors";
/// Its card.
pub const ADAPTED_CARD_FILE: &str = "adapted.card.json";
/// The wider one of two.
pub const WIDE_ADAPTED_FILE: &str = "adapted-wide.safetensors";
/// Its card.
pub const WIDE_ADAPTED_CARD_FILE: &str = "adapted-wide.card.json";

/// Training resolutions between those of the search are multiples of this.
const RESOLUTION_STEP: usize = 4;

/// How an epoch of adaptation went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The round, from 1.
    pub iteration: u64,
    /// The epoch of the whole search, from 1.
    pub epoch: u64,
    /// Steps of the whole search.
    pub step: u64,
    /// Mean loss of a sub-network: cross entropy, and distillation where there is a teacher.
    pub loss: f64,
    /// Accuracy on the training images as they were augmented, per cent.
    pub train_top1: f64,
    /// Rate of the last step.
    pub rate: f64,
    /// Steps that a super-network left out since its gradient overflowed f16.
    #[serde(default, skip_serializing_if = "nothing")]
    pub skipped: u64,
}

/// What adaptation did to the networks of the archive in a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adapted {
    /// Steps of this round.
    pub steps: u64,
    /// Mean loss of the round's last epoch.
    pub loss: f64,
    /// Networks that were evaluated again: the whole archive.
    pub reevaluated: usize,
    /// Mean validation accuracy of the archive before, per cent.
    pub top1_before: f64,
    /// And after.
    pub top1_after: f64,
}

/// How well the predictor did on a round's candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Root mean square error, in points.
    pub rmse: Option<f64>,
    /// Spearman's rank correlation.
    pub spearman: Option<f64>,
    /// Kendall's tau.
    pub kendall: Option<f64>,
}

/// Where adaptation stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps of the whole search.
    pub steps: u64,
    /// A round whose candidates are in the archive and whose adaptation is not over.
    pub pending: Option<Predicted>,
    /// Divergences that were rolled back.
    pub rollbacks: u32,
    /// Every epoch so far.
    pub epochs: Vec<Epoch>,
    /// Networks that were evaluated again so far.
    pub reevaluations: usize,
    /// The steps of this epoch so far, and the watch over the losses.
    #[serde(flatten)]
    pub(super) monitor: Monitor,
    /// Steps that each tensor of each super-network has taken.
    pub(super) tensor_steps: Vec<u64>,
    /// The scale of each super-network's losses, where it is not what a training begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) loss_scales: Vec<LossScale>,
}

/// How many steps there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Steps of an epoch.
    pub epoch: u64,
    /// Steps of a round; 0 where there is no adaptation.
    pub round: u64,
}

impl Plan {
    /// The plan of a configuration with this many training images.
    pub fn new(adaptation: &Adaptation, images: usize) -> Plan {
        let images = adaptation.epoch_images.unwrap_or(images).min(images);
        let epoch = loader::steps_per_epoch(images, adaptation.batch);
        Plan { epoch, round: epoch * adaptation.epochs as u64 }
    }

    /// The number of a state's checkpoint. Rounds without adaptation are numbered as they are; with it
    /// there are as many numbers in between as there are moments to stop at: before the first step
    /// and after each.
    pub fn number(&self, state: &State) -> u64 {
        let stride = if self.round == 0 { 1 } else { self.round + 2 };
        let within = match state.adaptation.pending {
            None => 0,
            Some(_) => 1 + self.done(state),
        };
        state.iteration * stride + within
    }

    /// Steps of the round that is under way.
    pub fn done(&self, state: &State) -> u64 {
        state.adaptation.steps - state.iteration * self.round
    }
}

/// The optimiser of NAT's and NATv2's programs.
const RULE: Rule = Rule::Sgd { momentum: 0.9, nesterov: false };

/// Super-networks that train on while a search uses them.
pub(super) struct Adapter<'a> {
    config: &'a Config,
    evaluator: &'a Evaluator,
    rate: Rate,
    images: Vec<u32>,
    batches: loader::Settings,
    team: Team,
    teacher: Option<Teacher>,
}

impl<'a> Adapter<'a> {
    /// The super-networks of `evaluator`, of which the widest also teaches, before their first step; `None` where the
    /// configuration does not adapt.
    pub(super) fn new(config: &'a Config, evaluator: &'a Evaluator) -> Result<Option<Adapter<'a>>, Error> {
        let settings = &config.adaptation;
        if settings.epochs == 0 {
            return Ok(None);
        }
        let supernets: Vec<Supernet> = evaluator.supernets().cloned().collect();
        let optimiser = Optimiser {
            rule: RULE,
            decay: settings.weight_decay as f32,
            decays: Decays::All,
            clip: (settings.clip > 0.0).then_some(settings.clip as f32),
        };
        let device = evaluator.engine().shared_device();
        let team = Team::in_precision(&device, supernets.clone(), optimiser, settings.precision)?;
        let weighting = train::exit_weights(team.narrowest().family, settings.exit_weights).1;
        let widest = supernets.last().filter(|_| settings.kd_ratio > 0.0);
        let teacher = widest.map(|widest| team.teacher(Arc::new(widest.clone()), weighting)).transpose()?;
        let dataset = evaluator.dataset();
        let images = loader::training_images(dataset, false);
        let batches = loader::Settings::new(
            settings.batch,
            // Other shuffles than those of a training with the run's seed.
            config.seed ^ fnv1a64(b"search/adaptation"),
            config.augmentation(dataset.facts()).augmentation(),
            resolutions(settings, evaluator.space()),
            evaluator.pixels(),
        );
        let plan = Plan::new(settings, images.len());
        let schedule = Phase {
            warmup_epochs: settings.warmup_epochs,
            warmup_rate: Some(settings.warmup_rate),
            ..Phase::new("adaptation", config.search.iterations * settings.epochs, settings.rate)
        };
        let rate = Rate::new(&schedule, plan.epoch);
        Ok(Some(Adapter { config, evaluator, rate, images, batches, team, teacher }))
    }

    /// The steps of the round that is under way, from where the snapshot stands.
    pub(super) fn round<'r>(&'r mut self, snapshot: &Snapshot) -> Result<Round<'r, 'a>, Error> {
        let start = TeamState::new(self.evaluator.supernets().cloned().collect(), RULE);
        self.team.restore(snapshot.team.as_ref().unwrap_or(&start))?;
        let (search, settings, state) = (&self.config.search, &self.config.adaptation, &snapshot.state);
        let mut best = state.archive.clone();
        let algorithm = super::archive::algorithm(search.algorithm, search.objectives.len());
        let mut rng = stream(self.config.seed, "search/adaptation/top", state.iteration + 1, 0);
        best.survive(&search.objectives, settings.top, algorithm, &mut rng)?;
        let space = self.evaluator.space();
        let distributions =
            Distributions::fit(settings.distribution, settings.smoothing, space, &best.entries);
        let (dataset, images) = (self.evaluator.shared_dataset(), self.images.clone());
        let (device, batches) = (self.evaluator.engine().device(), self.batches.clone());
        let loader = train::batches(device, dataset, images, batches, state.adaptation.steps)?;
        Ok(Round { adapter: self, distributions, loader })
    }

    /// Writes the adapted super-networks and their cards into the run directory.
    pub(super) fn publish(
        &self,
        Snapshot { state, team, .. }: &Snapshot,
        run: &RunDirectory,
    ) -> Result<(), Error> {
        let start = || self.evaluator.supernets().cloned().collect();
        let weights = team.as_ref().map_or_else(start, |team| team.weights.clone());
        let names = [(ADAPTED_CARD_FILE, ADAPTED_FILE), (WIDE_ADAPTED_CARD_FILE, WIDE_ADAPTED_FILE)];
        for (weights, (card_file, file)) in weights.iter().zip(names) {
            run.write_atomic(card_file, self.card(&state.adaptation, weights).to_json().as_bytes())?;
            run.write_atomic(file, &weights.checkpoint().to_bytes().map_err(train::Error::from)?)?;
        }
        Ok(())
    }

    fn card(&self, progress: &Progress, weights: &Supernet) -> Card {
        let (pixels, evaluator) = (self.evaluator.pixels(), self.evaluator);
        let before = weights.card.trained.as_deref().map(|before| format!("{before}; ")).unwrap_or_default();
        let mut card = weights.card.clone();
        card.made_on(evaluator.dataset());
        Card {
            family: Some(weights.family),
            width: Some(weights.channels().width),
            classes: Some(weights.classes()),
            resolutions: evaluator.space().resolutions().to_vec(),
            mean: Some(pixels.mean),
            std: Some(pixels.std),
            calibration_images: Some(evaluator.calibration_images()),
            trained: Some(format!(
                "{before}natv2 search: adaptation ({} steps, seed {})",
                progress.steps, self.config.seed
            )),
            ..card
        }
    }
}

/// The steps of a round.
pub(super) struct Round<'r, 'a> {
    adapter: &'r mut Adapter<'a>,
    distributions: Distributions,
    loader: Loader,
}

impl training_loop::Stretch for Round<'_, '_> {
    type Snapshot = Snapshot;
    type Epoch = Epoch;

    fn is_over(&self, Snapshot { state, plan, .. }: &Snapshot) -> bool {
        plan.done(state) >= plan.round
    }

    fn step(&mut self, snapshot: &mut Snapshot) -> Result<Taken, Error> {
        let Adapter { config, evaluator, rate, batches, team, teacher, .. } = &mut *self.adapter;
        let (settings, space) = (&config.adaptation, evaluator.space());
        let (progress, plan) = (&mut snapshot.state.adaptation, snapshot.plan);
        let images = self.loader.next_batch()?;
        let epoch = progress.steps / plan.epoch;
        let mut rng = stream(config.seed, "search/adaptation/networks", epoch, progress.steps);
        let students = (0..settings.networks)
            .map(|_| {
                let arch = space.decode(&self.distributions.sample(space, &mut rng))?;
                Ok(Student { arch, weighting: Weighting::Own })
            })
            .collect::<Result<Vec<Student>, Error>>()?;
        let step = Settings {
            rate: (progress.monitor.watch.rate_factor() * rate.at(progress.steps)) as f32,
            kd_ratio: settings.kd_ratio as f32,
            seed: batches.seed,
            epoch,
            step: progress.steps,
            ..Settings::default()
        };
        let report = team.step(&(&images).into(), &students, teacher.as_ref().into(), &step)?;
        progress.steps += 1;
        Ok(Taken {
            report,
            images: images.labels.len(),
            guess: guess(team.narrowest().classes(), settings.kd_ratio),
            ends_epoch: progress.steps.is_multiple_of(plan.epoch),
        })
    }

    fn take(&self, snapshot: &mut Snapshot) -> Result<(), Error> {
        let progress = &mut snapshot.state.adaptation;
        if progress.steps > 0 {
            let team = self.adapter.team.state()?;
            team.sound()?;
            (progress.tensor_steps, progress.loss_scales) = (team.tensor_steps(), team.loss_scales());
            snapshot.team = Some(team);
        }
        Ok(())
    }

    fn end_epoch(&mut self, snapshot: &mut Snapshot, tally: Tally) -> Result<(Epoch, Figures), Error> {
        let (iteration, progress) = (snapshot.state.iteration + 1, &mut snapshot.state.adaptation);
        let epoch = progress.steps / snapshot.plan.epoch;
        let rate = progress.monitor.watch.rate_factor() * self.adapter.rate.at(progress.steps - 1);
        let entry = Epoch {
            iteration,
            epoch,
            step: progress.steps,
            loss: tally.loss(),
            train_top1: tally.top1(),
            rate,
            skipped: tally.skipped(),
        };
        progress.epochs.push(entry);
        let kd_ratio = self.adapter.config.adaptation.kd_ratio;
        Ok((entry, Figures { epoch, tally, kd_ratio, rate, ..Figures::default() }))
    }

    fn due(&self, snapshot: &Snapshot, _: Option<&Epoch>) -> Option<bool> {
        let every = self.adapter.config.adaptation.checkpoint_steps as u64;
        let due = snapshot.plan.done(&snapshot.state).is_multiple_of(every);
        (due || self.is_over(snapshot)).then_some(false)
    }
}

/// The sides of the images that steps draw from.
fn resolutions(settings: &Adaptation, space: &Space) -> Vec<usize> {
    let own = space.resolutions();
    match (&settings.resolutions, own.first(), own.last()) {
        (Some(given), ..) => given.iter().map(|&r| r as usize).collect(),
        (None, Some(&first), Some(&last)) => {
            (first as usize..=last as usize).step_by(RESOLUTION_STEP).collect()
        }
        _ => Vec::new(),
    }
}
