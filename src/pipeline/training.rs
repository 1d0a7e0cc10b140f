//! From a configuration to a training that is ready to run, and its result in the run directory.

use super::Error;
use crate::config::{Config, RunWarmup};
use crate::device::Device;
use crate::run::{Output, RunDirectory, StopFlag};
use crate::supernet::{Card, Supernet};
use crate::train::material::{dataset, start};
use crate::train::results::{self, Summary};
use crate::train::{Material, Outcome, Task, phase, train};
use std::path::Path;
use std::sync::Arc;

/// Which training of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Of a super-network, as `[train]` says.
    Train,
    /// Of a trained one on another data set, as `[warmup]` says.
    Warmup,
}

impl Stage {
    /// Its name in the run directory.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Train => "train",
            Stage::Warmup => "warmup",
        }
    }
}

/// A training with everything loaded.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// What is done.
    pub task: Task<'a>,
    /// The super-network that it begins with.
    pub start: Supernet,
}

/// Loads what a training begins with: weights, or random ones, and the data.
///
/// # Errors
/// Weights or data that cannot be read, or that do not belong together.
pub fn prepare(config: &Config, stage: Stage) -> Result<Prepared<'_>, Error> {
    let training = match stage {
        Stage::Train => &config.train,
        Stage::Warmup => &config.warmup,
    };
    let (start, dataset) = start(config, |card| dataset(config, card))?;
    let material = Material::new(training, &start, Arc::new(dataset), config.data.augmentation, false)?;
    let phases = phase::phases(training, start.family);
    let task = Task { stage: stage.name(), seed: config.seed, training, phases, material };
    Ok(Prepared { task, start })
}

impl Prepared<'_> {
    /// Trains, from where the run directory stands, and writes weights, card and summary there;
    /// `None` if a stop was asked for first.
    ///
    /// # Errors
    /// As [`train()`].
    pub fn run(
        self,
        device: Arc<dyn Device>,
        run: &RunDirectory,
        stop: &StopFlag,
        output: Output,
    ) -> Result<Option<Summary>, Error> {
        let snapshot = match train(&self.task, self.start, device.clone(), run, stop, output)? {
            Outcome::Stopped => return Ok(None),
            Outcome::Finished(snapshot) => snapshot,
        };
        let summary = results::summary(&self.task, &snapshot, &device)?;
        results::publish(run, &self.task, &snapshot, &summary)?;
        Ok(Some(summary))
    }
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
    let asked = config.data.name.map(|name| name.as_str());
    let data = asked.is_some_and(|asked| card.data.as_deref() != Some(asked));
    let family = config.supernet.family.map(|family| family.as_str().parse()).transpose()?;
    let other = family.is_some() && card.family.is_some() && card.family != family;
    Ok(data || other)
}
