//! How long a training will take, before it runs, and how many epochs fit into some minutes.
//!
//! Time differs from phase to phase (one network or five, with a teacher or without) and within a phase only by
//! chance, so a few steps of each phase are taken, on the training's own images, and what they come to is
//! thrown away. What a training evaluates, for validations and its summary, is measured on a few images. The
//! rest is counting: a [`Pace`] says what any number of epochs takes.
//!
//! Nothing of a training's result depends on these times. They decide a number of epochs, which stands in the
//! run's configuration from then on.

use super::lesson::{lesson, students, validated};
use super::phase::{phases, teaches};
use super::results::{NETWORKS, smallest, tested};
use super::task::{Material, Task, evaluate, exit_weights};
use super::{Error, Settings, Team};
use crate::config::{self, MOST_EPOCHS, Phase};
use crate::data::Split;
use crate::device::Device;
use crate::space::Arch;
use crate::supernet::Supernet;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps of a phase that are timed, at least, behind one that is not.
const STEPS: u64 = 4;
/// More are timed while they take less than this.
const LEAST: Duration = Duration::from_millis(500);
/// Images of a timed evaluation.
const IMAGES: usize = 256;

/// How fast a training goes on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Seconds of a step of each phase.
    steps: Vec<f64>,
    /// Seconds of one network's evaluation, for each of its images, recalibration included.
    image: f64,
}

/// What a phase will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseTime {
    /// Its name.
    pub phase: String,
    /// Epochs, warm-up included.
    pub epochs: usize,
    /// Steps.
    pub steps: u64,
    /// Sub-networks of a step.
    pub networks: usize,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// Seconds of all validations.
    pub validation_seconds: f64,
    /// Seconds of the phase.
    pub seconds: f64,
}

/// What a training will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Name of its stage: `train`, `train-wide`, `warmup`.
    pub stage: &'static str,
    /// Its phases.
    pub phases: Vec<PhaseTime>,
    /// Seconds of the summary at the end.
    pub summary_seconds: f64,
    /// Seconds of all of it.
    pub seconds: f64,
}

impl Pace {
    /// Measures the pace of a training of `start`, which is left as it is.
    ///
    /// # Errors
    /// The device or the data fails.
    pub fn measure(task: &Task<'_>, start: &[Supernet], device: &Arc<dyn Device>) -> Result<Pace, Error> {
        let mut team = Team::in_precision(device, start.to_vec(), task.optimiser(), task.precision())?;
        let widest = start.last().ok_or(Error::NoSupernet)?;
        let answers = exit_weights(widest.family, task.training.exit_weights).1;
        let taught = task.phases.iter().any(teaches);
        let teacher = taught.then(|| team.teacher(Arc::new(widest.clone()), answers)).transpose()?;
        let mut steps = Vec::new();
        for phase in &task.phases {
            let Task { material, training, .. } = task;
            let mut loader =
                material.loader(&**device, (training.batch, task.seed), material.resolutions.clone(), 0)?;
            let teacher = teacher.as_ref().filter(|_| teaches(phase));
            let (mut seconds, mut pixels) = (0.0, 0.0);
            let began = Instant::now();
            for step in 0.. {
                let images = loader.next_batch()?;
                let settings = Settings {
                    // Weights stay what they are: what is measured does not depend on them.
                    rate: 0.0,
                    kd_ratio: phase.kd_ratio as f32,
                    dropout: phase.dropout as f32,
                    seed: task.seed,
                    step,
                    ..Settings::default()
                };
                let (students, teaching) =
                    lesson(phase, (&team, training.exit_weights), teacher, &settings, images.side);
                let start = Instant::now();
                team.step(&(&images).into(), &students, teaching, &settings)?;
                if step > 0 {
                    // Sides differ from step to step: what counts is the time of a pixel.
                    seconds += start.elapsed().as_secs_f64();
                    pixels += (images.side * images.side) as f64;
                }
                if step >= STEPS && began.elapsed() >= LEAST {
                    break;
                }
            }
            steps.push(seconds / pixels * mean_pixels(&material.resolutions));
        }
        let image = evaluation(task, start, device)?;
        Ok(Pace { steps, image })
    }

    /// What these phases, which are those that were measured, will take with any numbers of epochs.
    pub fn forecast(&self, task: &Task<'_>, phases: &[Phase], start: &[Supernet]) -> Forecast {
        let Task { training, material, .. } = task;
        let network = |images: usize| self.image * (images + material.calibration.len()) as f64;
        let phases: Vec<PhaseTime> = phases
            .iter()
            .zip(&self.steps)
            .map(|(phase, &step_seconds)| {
                let (epochs, steps) =
                    (phase.total_epochs(), phase.total_epochs() as u64 * task.epoch_steps());
                let validations = match material.validation.len() {
                    0 => 0,
                    _ => epochs.div_ceil(training.validation_epochs),
                };
                let networks = validated(task, start, phase).len();
                let validation_seconds =
                    validations as f64 * networks as f64 * network(material.validation.len());
                PhaseTime {
                    phase: phase.name.clone(),
                    epochs,
                    steps,
                    networks: students(phase, start.len()),
                    step_seconds,
                    validation_seconds,
                    seconds: steps as f64 * step_seconds + validation_seconds,
                }
            })
            .collect();
        let summary_seconds = NETWORKS as f64 * network(tested(material).1.len());
        let seconds = phases.iter().map(|phase| phase.seconds).sum::<f64>() + summary_seconds;
        Forecast { stage: task.stage, phases, summary_seconds, seconds }
    }
}

fn mean_pixels(sides: &[usize]) -> f64 {
    sides.iter().map(|side| (side * side) as f64).sum::<f64>() / sides.len().max(1) as f64
}

/// Seconds of an image in a network's evaluation: the mean of the largest and the smallest network.
fn evaluation(task: &Task<'_>, start: &[Supernet], device: &Arc<dyn Device>) -> Result<f64, Error> {
    let Material { dataset, resolutions, calibration, .. } = &task.material;
    let side = resolutions[resolutions.len() / 2] as u32;
    let widest = start.last().ok_or(Error::NoSupernet)?;
    let largest = Arch::largest(widest.family, side, Some(widest.channels().width));
    let networks = [smallest(largest.clone()), largest];
    let images = &dataset.split(Split::Train);
    let images = &images[..images.len().min(IMAGES)];
    let began = Instant::now();
    evaluate(device, start, &networks, &task.material, images)?;
    let count = networks.len() * (images.len() + calibration.len());
    Ok(began.elapsed().as_secs_f64() / count.max(1) as f64)
}

/// A training that takes longer than it may, however few its epochs are.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{minutes} minutes are too few: one epoch of each phase takes {least:.2} here: give more minutes, \
     {section}.epoch_images for shorter epochs, or a schedule of fewer phases ({section}.schedule)"
)]
pub struct TooShort {
    /// What it may take.
    pub minutes: f64,
    /// What the fewest epochs take.
    pub least: f64,
    /// The section of its settings.
    pub section: &'static str,
}

/// So many epochs as fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Epochs of each schedule.
    pub epochs: usize,
    /// Seconds that they will take.
    pub seconds: f64,
}

/// The most epochs of the schedules of trainings, one behind the other, that fit into some minutes.
///
/// # Errors
/// Not even the fewest do.
pub fn fit(minutes: f64, trainings: &[(&Task<'_>, &[Supernet], Pace)]) -> Result<Fit, TooShort> {
    let seconds = |epochs: usize| -> f64 {
        let of = |(task, start, pace): &(&Task<'_>, &[Supernet], Pace)| {
            let training = config::Training { epochs: Some(epochs), ..task.training.clone() };
            let phases = phases(&training, start[0].family, start.len() > 1);
            pace.forecast(task, &phases, start).seconds
        };
        trainings.iter().map(of).sum()
    };
    let budget = 60.0 * minutes;
    if seconds(1) > budget {
        let section = trainings.first().map_or("train", |(task, ..)| task.section());
        return Err(TooShort { minutes, least: seconds(1) / 60.0, section });
    }
    // More epochs never take less.
    let (mut fits, mut over) = (1, MOST_EPOCHS + 1);
    while over - fits > 1 {
        let middle = fits + (over - fits) / 2;
        if seconds(middle) <= budget { fits = middle } else { over = middle }
    }
    Ok(Fit { epochs: fits, seconds: seconds(fits) })
}
