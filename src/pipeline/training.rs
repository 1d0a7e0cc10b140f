//! From a configuration to a training that is ready to run, and its result in the run directory.

use super::Error;
use crate::config::{Config, RunWarmup, Schedule, Training};
use crate::data::Dataset;
use crate::device::Device;
use crate::engine::{CALIBRATION_BATCH, Values};
use crate::run::{Output, RunDirectory, StopFlag};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::{Card, Supernet};
use crate::train::forecast::{self, Fit, Forecast, Pace};
use crate::train::material::{dataset, start};
use crate::train::results::{self, Summary};
use crate::train::{self, Material, Outcome, Task, phase, train};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Which training of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Of super-networks, as `[train]` says.
    Train,
    /// Of trained ones on another data set, as `[warmup]` says.
    Warmup,
}

impl Stage {
    /// The section of its settings.
    pub fn section(self) -> &'static str {
        match self {
            Stage::Train => "train",
            Stage::Warmup => "warmup",
        }
    }

    /// Its settings.
    pub fn settings(self, config: &Config) -> &Training {
        match self {
            Stage::Train => &config.train,
            Stage::Warmup => &config.warmup,
        }
    }
}

/// A training with everything loaded.
#[derive(Debug)]
pub struct LoadedTraining<'a> {
    stage: Stage,
    dataset: Arc<Dataset>,
    /// One after the other; more than one where super-networks of two widths train each on its own.
    trainings: Vec<(Task<'a>, Vec<Supernet>)>,
}

/// What a training came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// Of the super-network, or of two that trained together.
    #[serde(flatten)]
    pub summary: Summary,
    /// Of a wider one that trained on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wide: Option<Summary>,
}

/// Loads what a training begins with: weights, or random ones, and the data.
///
/// Two super-networks of different widths warm up together (NATv2), or learn from the wider one's largest network
/// together, and go through progressive shrinking one after the other.
///
/// # Errors
/// Weights or data that cannot be read, or that do not belong together.
pub fn prepare(config: &Config, stage: Stage) -> Result<LoadedTraining<'_>, Error> {
    let training = stage.settings(config);
    let (start, dataset) = start(config, training.init, |card| dataset(config, card))?;
    let dataset = Arc::new(dataset);
    let groups: Vec<Vec<Supernet>> = match stage {
        Stage::Train if !together(training) => start.into_iter().map(|supernet| vec![supernet]).collect(),
        _ => vec![start],
    };
    let names: &[&'static str] = match stage {
        Stage::Train => &["train", "train-wide"],
        Stage::Warmup => &["warmup"],
    };
    let mut trainings = Vec::new();
    for (number, (group, &name)) in groups.into_iter().zip(names).enumerate() {
        let Some(first) = group.first() else { continue };
        let augmentation = config.augmentation(dataset.facts());
        let material = Material::new(training, first, dataset.clone(), augmentation, false)?;
        let phases = phase::phases(training, first.family, group.len() > 1);
        let wide = number > 0;
        trainings.push((Task { stage: name, wide, seed: config.seed, training, phases, material }, group));
    }
    Ok(LoadedTraining { stage, dataset, trainings })
}

impl LoadedTraining<'_> {
    /// Which training it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The data that it learns from.
    pub fn dataset(&self) -> Arc<Dataset> {
        self.dataset.clone()
    }

    /// Refuses a search of the super-networks, recalibrated on `images`, whose statistics would be of one
    /// value: it is found out here, before the training.
    ///
    /// # Errors
    /// They would.
    pub fn check_search(&self, images: Option<usize>) -> Result<(), Error> {
        let Some(((task, group), images)) = self.trainings.first().zip(images) else { return Ok(()) };
        let (Some(first), Some(&lowest)) = (group.first(), task.material.resolutions.first()) else {
            return Ok(());
        };
        let arch = Arch::largest(first.family, lowest as u32, None);
        let values = Values::fewest([(&arch, Exits::single(&arch))], images, CALIBRATION_BATCH);
        Ok(values.map_or(Ok(()), |values| values.check())?)
    }

    /// How long it will take on a device, by the pace of some steps; one forecast for each training.
    ///
    /// # Errors
    /// The device or the data fails.
    pub fn forecast(&self, device: &Arc<dyn Device>) -> Result<Vec<Forecast>, Error> {
        let forecast = |(task, start): &(Task<'_>, Vec<Supernet>)| {
            Ok(Pace::measure(task, start, device)?.forecast(task, &task.phases, start))
        };
        self.trainings.iter().map(forecast).collect()
    }

    /// The most epochs that fit into some minutes.
    ///
    /// # Errors
    /// Not even the fewest do; the device or the data fails.
    pub fn fit(&self, minutes: f64, device: &Arc<dyn Device>) -> Result<Fit, Error> {
        let mut trainings = Vec::new();
        for (task, start) in &self.trainings {
            trainings.push((task, &start[..], Pace::measure(task, start, device)?));
        }
        Ok(forecast::fit(minutes, &trainings).map_err(train::Error::from)?)
    }

    /// Trains, from where the run directory stands, and writes weights, cards and summaries there;
    /// `None` if a stop was asked for first.
    ///
    /// # Errors
    /// As [`train()`].
    pub fn run(
        self,
        device: &Arc<dyn Device>,
        run: &RunDirectory,
        stop: &StopFlag,
        output: Output,
    ) -> Result<Option<Trained>, Error> {
        let mut summaries = Vec::new();
        for (task, start) in self.trainings {
            start.iter().flat_map(|supernet| &supernet.notes).for_each(|note| output.note(note));
            let (snapshot, summary) = match train(&task, start, device.clone(), run, stop, output)? {
                Outcome::Stopped => return Ok(None),
                Outcome::Finished(snapshot, summary) => (snapshot, *summary),
            };
            results::publish(run, &task, &snapshot, &summary)?;
            summaries.push(summary);
        }
        let mut summaries = summaries.into_iter();
        let first = summaries.next().ok_or(train::Error::NoSupernet)?;
        Ok(Some(Trained { summary: first, wide: summaries.next() }))
    }
}

/// Whether super-networks of two widths go through a training side by side.
fn together(training: &Training) -> bool {
    matches!(training.schedule, Schedule::Target | Schedule::Sandwich) || training.phases.is_some()
}

/// Whether the training of `config` in the directory `run` has left all that it leaves.
pub fn is_over(config: &Config, run: &Path) -> bool {
    let supernet = &config.supernet;
    let two = supernet.wide_width.is_some() || supernet.wide_weights.is_some();
    let wide = two && !together(&config.train);
    let files = [Some(results::SUMMARY_FILE), wide.then_some(results::WIDE_SUMMARY_FILE)];
    files.into_iter().flatten().all(|file| run.join(file).exists())
}

/// The training that a whole run needs before its search: of a new super-network where no weights
/// are given, of given ones on the data set where they are another's; else none.
///
/// # Errors
/// A card or data that cannot be read.
pub fn needed(config: &Config) -> Result<Option<Stage>, Error> {
    let Some(weights) = &config.supernet.weights else { return Ok(Some(Stage::Train)) };
    let warm_up = match config.run.warmup {
        RunWarmup::Always => true,
        RunWarmup::Never => false,
        RunWarmup::Auto => foreign(config, weights)?,
    };
    Ok(warm_up.then_some(Stage::Warmup))
}

/// Whether weights were trained on another data set, or as another family.
fn foreign(config: &Config, weights: &Path) -> Result<bool, Error> {
    let card = Card::beside(weights)?;
    let asked = config.data.name.as_ref();
    let data = asked.is_some() && card.data.as_ref() != asked;
    let family = config.supernet.family;
    let other = family.is_some() && card.family.is_some() && card.family != family;
    Ok(data || other)
}
