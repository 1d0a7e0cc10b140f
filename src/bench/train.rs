//! `natv2 bench train`: optimiser steps on random images.
//!
//! The largest sub-network, the smallest, and one and two that mix kernels, depths and expansions; two with the
//! largest as their teacher, as in a width phase of progressive shrinking; and a step of the schedule `sandwich`,
//! in which the largest teaches the smallest and as many mixed ones as that schedule has.

use super::evaluate::smallest;
use super::rounds::{self, Times, megabytes};
use crate::config::Schedule;
use crate::data::Source;
use crate::device::Device;
use crate::engine::Precision;
use crate::random::stream;
use crate::space::Arch;
use crate::supernet::Supernet;
use crate::train::forecast::Forecast;
use crate::train::phase::built_in;
use crate::train::{Batch, Decays, Error, Optimiser, Rule, Settings, Student, Teaching, Trainer, Weighting};
use rand::RngExt;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Images of a batch.
    pub batch: usize,
    /// Side of the images.
    pub resolution: usize,
    /// Steps of a measurement.
    pub rounds: usize,
    /// What maps are stored as.
    pub precision: Precision,
}

/// One kind of step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub name: &'static str,
    /// Sub-networks whose gradients are added up.
    pub students: usize,
    /// Whether a network that does not train runs too, as their teacher.
    pub teacher: bool,
    /// Seconds of a step.
    pub seconds: Times,
    /// Images of the batch over the time of a step.
    pub images_per_second: f64,
    /// Peak memory of the process.
    pub peak_bytes: Option<u64>,
}

/// The figures of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// The device.
    pub device: String,
    /// Family of the super-network.
    pub family: String,
    /// Its width multiplier.
    pub width: f64,
    /// Images of a batch.
    pub batch: usize,
    /// Side of the images.
    pub resolution: usize,
    /// What maps are stored as.
    pub precision: Precision,
    /// The steps.
    pub steps: Vec<Row>,
}

/// Kernels, expansions and depths that change from layer to layer.
fn mixed(largest: &Arch, offset: usize) -> Arch {
    let pick = |from: [u8; 3], i: usize| from[(i + offset) % 3];
    Arch {
        ks: std::array::from_fn(|i| pick([3, 5, 7], i)),
        e: std::array::from_fn(|i| pick([3, 4, 6], i / 2)),
        d: std::array::from_fn(|i| pick([2, 3, 4], i)),
        ..largest.clone()
    }
}

/// Who teaches in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teaches {
    Nobody,
    Other,
    First,
}

/// Measures steps.
///
/// # Errors
/// The device fails.
pub fn run(device: Arc<dyn Device>, supernet: &Supernet, options: &Options) -> Result<Report, Error> {
    let &Options { batch, resolution, rounds, precision } = options;
    let optimiser = Optimiser {
        rule: Rule::Sgd { momentum: 0.9, nesterov: true },
        decay: 3e-5,
        decays: Decays::Weights,
        clip: None,
    };
    let (width, classes) = (supernet.channels().width, supernet.classes());
    let mut random = stream(0, "bench/train", 0, 0);
    let pixels: Vec<f32> =
        (0..batch * resolution * resolution * 3).map(|_| random.random_range(-1.7..1.7)).collect();
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    let images = Batch { images: Source::Made(&pixels), labels: &labels, side: resolution };
    let settings =
        Settings { rate: 1e-4, smoothing: 0.1, kd_ratio: 1.0, dropout: 0.1, seed: 0, epoch: 0, step: 0 };
    let largest = Arch::largest(supernet.family, resolution as u32, None);
    let own = |arch| Student { arch, weighting: Weighting::Own };
    let ends = [own(largest.clone()), own(smallest(&largest))];
    let mixed = |networks| (0..networks).map(|offset| own(mixed(&largest, offset))).collect::<Vec<_>>();
    let others = built_in(Schedule::Sandwich, supernet.family).iter().map(|phase| phase.networks).sum();
    let kinds = [
        ("largest", ends[..1].to_vec(), Teaches::Nobody),
        ("smallest", ends[1..].to_vec(), Teaches::Nobody),
        ("one mixed", mixed(1), Teaches::Nobody),
        ("two mixed", mixed(2), Teaches::Nobody),
        ("two mixed, teacher", mixed(2), Teaches::Other),
        ("sandwich", ends.iter().cloned().chain(mixed(others)).collect(), Teaches::First),
    ];
    let mut steps = Vec::new();
    for (name, students, teaches) in kinds {
        rounds::reset_peak();
        let mut trainer = Trainer::in_precision(device.clone(), supernet.clone(), optimiser, precision)?;
        let teacher = match teaches {
            Teaches::Other => Some(trainer.teacher(Arc::new(supernet.clone()), Weighting::Own)?),
            Teaches::Nobody | Teaches::First => None,
        };
        let teaching = match teaches {
            Teaches::First => Teaching::First(Weighting::Own),
            Teaches::Nobody | Teaches::Other => teacher.as_ref().into(),
        };
        let seconds = rounds::time(rounds, || {
            trainer.step(&images, &students, teaching, &settings)?;
            Ok::<_, Error>(device.synchronise()?)
        })?;
        steps.push(Row {
            name,
            students: students.len(),
            teacher: teaches == Teaches::Other,
            seconds,
            images_per_second: batch as f64 / seconds.median,
            peak_bytes: rounds::peak_bytes(),
        });
    }
    let family = supernet.family.to_string();
    let device = device.describe();
    Ok(Report { version: 1, device, family, width, batch, resolution, precision, steps })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} of width {}, batches of {} random images of {} px, maps in {}, SGD\n",
            self.device, self.family, self.width, self.batch, self.resolution, self.precision
        )?;
        writeln!(f, "{:<22} {:>10} {:>8} {:>14} {:>8}", "step", "ms", "spread", "images/s", "peak MB")?;
        for row in &self.steps {
            writeln!(
                f,
                "{:<22} {:>10.2} {:>7.0}% {:>14.0} {:>8}",
                row.name,
                1e3 * row.seconds.median,
                100.0 * row.seconds.spread(),
                row.images_per_second,
                megabytes(row.peak_bytes)
            )?;
        }
        Ok(())
    }
}

/// What the trainings of a configuration will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScheduleReport {
    /// Version of this JSON.
    pub version: u32,
    /// The device.
    pub device: String,
    /// One training, or two of super-networks that train each on its own.
    pub trainings: Vec<Forecast>,
}

impl fmt::Display for ScheduleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |seconds: f64| seconds / 60.0;
        for Forecast { stage, phases, summary_seconds, seconds } in &self.trainings {
            writeln!(f, "{}, {stage}: {:.1} minutes\n", self.device, minutes(*seconds))?;
            writeln!(
                f,
                "{:<16} {:>7} {:>9} {:>9} {:>10} {:>12} {:>9}",
                "phase", "epochs", "steps", "networks", "ms a step", "validations", "minutes"
            )?;
            for phase in phases {
                writeln!(
                    f,
                    "{:<16} {:>7} {:>9} {:>9} {:>10.2} {:>12.1} {:>9.1}",
                    phase.phase,
                    phase.epochs,
                    phase.steps,
                    phase.networks,
                    1e3 * phase.step_seconds,
                    minutes(phase.validation_seconds),
                    minutes(phase.seconds)
                )?;
            }
            writeln!(f, "{:<16} {:>67} {:>9.1}", "summary", "", minutes(*summary_seconds))?;
        }
        Ok(())
    }
}
