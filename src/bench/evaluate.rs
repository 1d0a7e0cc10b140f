//! `natv2 bench evaluate`: sub-networks a second, recalibration included.
//!
//! Single networks use all lanes of the device. A population runs as trees of shared prefixes, and
//! then one by one, as many networks at a time as the device has lanes; both give the same results,
//! to the bit, which is checked. What recalibration takes is the time with it less the time with the
//! stored statistics.

use super::rounds::{self, Times, megabytes};
use super::ways;
use crate::data::Split;
use crate::device::Device;
use crate::engine::tree::Saving;
use crate::engine::{CALIBRATION_BATCH, Calibration, Engine, Evaluation, Images, Precision, whole_batches};
use crate::evaluator::{Error, Evaluator};
use crate::ops::Threads;
use crate::space::show::grouped;
use crate::space::walk::Exits;
use crate::space::{Arch, cost};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Split to measure on.
    pub split: Split,
    /// Its first images, or all.
    pub images: Option<usize>,
    /// Rounds of a measurement.
    pub rounds: usize,
    /// Sizes of the random populations.
    pub populations: Vec<usize>,
    /// Seed of the populations.
    pub seed: u64,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Single {
    /// Which.
    pub name: &'static str,
    /// Its resolution.
    pub resolution: u32,
    /// Multiply-accumulates of an image.
    pub macs: u64,
    /// Seconds of an evaluation.
    pub seconds: Times,
    /// Seconds of the images alone, with the stored statistics.
    pub inference: Times,
    /// Share of the evaluation that recalibration takes, 0 to 1.
    pub recalibration_share: f64,
    /// Peak memory of the process.
    pub peak_bytes: Option<u64>,
}

/// A population.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Networks.
    pub networks: usize,
    /// Seconds as trees of shared prefixes.
    pub tree: Times,
    /// Seconds one by one.
    pub one_by_one: Times,
    /// Networks a second as trees.
    pub networks_per_second: f64,
    /// Time one by one over the time as trees.
    pub ratio: f64,
    /// Layer executions that the trees save.
    pub saving: Saving,
    /// Share of the trees' time that recalibration takes, 0 to 1.
    pub recalibration_share: f64,
    /// Whether both ways gave the same results, to the bit.
    pub equal: bool,
    /// Peak memory of the process as trees.
    pub tree_peak_bytes: Option<u64>,
    /// And one by one.
    pub one_by_one_peak_bytes: Option<u64>,
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
    /// What maps are stored as.
    pub precision: Precision,
    /// The data set.
    pub data: String,
    /// Images that networks are measured on.
    pub images: usize,
    /// Images that recalibrate.
    pub calibration_images: usize,
    /// Single networks.
    pub singles: Vec<Single>,
    /// Populations.
    pub populations: Vec<Group>,
    /// What a launch costs, where ways were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch: Option<ways::Launch>,
    /// Networks of random weights on noise, in every way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<ways::Way>,
}

type Results = Vec<Vec<Evaluation>>;

/// Where evaluations run, and on what.
struct Bench<'a> {
    engine: &'a Engine,
    test: &'a dyn Images,
    calibration: Calibration<'a>,
}

impl Bench<'_> {
    fn alone(
        &self,
        (arch, exits): &(Arch, Exits),
        calibration: Calibration<'_>,
        threads: Threads,
    ) -> Result<Vec<Evaluation>, Error> {
        Ok(self.engine.evaluate(arch, *exits, self.test, calibration, threads)?)
    }

    fn one_by_one(&self, networks: &[(Arch, Exits)]) -> Result<Results, Error> {
        if self.engine.device().lanes() == 1 {
            return networks.iter().map(|n| self.alone(n, self.calibration, Threads::All)).collect();
        }
        let networks = networks.par_iter().with_max_len(1);
        networks.map(|n| self.alone(n, self.calibration, Threads::One)).collect()
    }

    fn tree(
        &self,
        networks: &[(Arch, Exits)],
        calibration: Calibration<'_>,
    ) -> Result<(Results, Saving), Error> {
        let found =
            self.engine.evaluate_population(networks, self.test, calibration, &|| false, &|_, _| ())?;
        // Nothing asks for a stop, so there always are results.
        Ok(found.map(|population| (population.results, population.saving)).unwrap_or_default())
    }

    fn single(&self, name: &'static str, arch: &Arch, options: &Options) -> Result<Single, Error> {
        let network = (arch.clone(), Exits::single(arch));
        rounds::reset_peak();
        let mut whole = || self.alone(&network, self.calibration, Threads::All).map(drop);
        let mut stored = || self.stored(self.alone(&network, Calibration::Stored, Threads::All)).map(drop);
        let times = rounds::alternate(options.rounds, &mut [&mut whole, &mut stored])?;
        let supernet = self.engine.supernet();
        Ok(Single {
            name,
            resolution: arch.r,
            macs: cost(supernet.channels(), arch, network.1, supernet.classes()).macs,
            seconds: times[0],
            inference: times[1],
            recalibration_share: share(&times[0], &times[1]),
            peak_bytes: rounds::peak_bytes(),
        })
    }

    fn population(&self, networks: &[(Arch, Exits)], options: &Options) -> Result<Group, Error> {
        // Once each to compare, with a peak of its own each.
        rounds::reset_peak();
        let (together, saving) = self.tree(networks, self.calibration)?;
        let tree_peak_bytes = rounds::peak_bytes();
        rounds::reset_peak();
        let apart = self.one_by_one(networks)?;
        let one_by_one_peak_bytes = rounds::peak_bytes();
        let mut tree = || self.tree(networks, self.calibration).map(drop);
        let mut one_by_one = || self.one_by_one(networks).map(drop);
        let mut stored = || self.stored(self.tree(networks, Calibration::Stored)).map(drop);
        let times = rounds::alternate(options.rounds, &mut [&mut tree, &mut one_by_one, &mut stored])?;
        Ok(Group {
            networks: networks.len(),
            tree: times[0],
            one_by_one: times[1],
            networks_per_second: networks.len() as f64 / times[0].median,
            ratio: times[1].median / times[0].median,
            saving,
            recalibration_share: share(&times[0], &times[2]),
            equal: together == apart,
            tree_peak_bytes,
            one_by_one_peak_bytes,
        })
    }

    /// A result with stored statistics, which need not belong to the network: its loss may be no
    /// number, and took its time all the same.
    fn stored<T: Default>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(Error::Engine(crate::engine::Error::NotFinite { .. })) => Ok(T::default()),
            other => other,
        }
    }
}

fn share(with: &Times, without: &Times) -> f64 {
    (1.0 - without.median / with.median).max(0.0)
}

/// Kernels of 3, expansions of 3, depths of 2.
pub(super) fn smallest(largest: &Arch) -> Arch {
    Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..largest.clone() }
}

/// Measures single networks at every resolution of the weights, and random populations.
///
/// # Errors
/// A split without images, a device that fails, a loss that is no number.
pub fn run(evaluator: &Evaluator, options: &Options) -> Result<Report, Error> {
    let engine = evaluator.engine();
    let (test, train) =
        (evaluator.images(options.split, options.images)?, evaluator.images(Split::Train, None)?);
    let count = evaluator.calibration_images();
    let calibration = Calibration::Batches { images: &train, count, batch: CALIBRATION_BATCH };
    let bench = Bench { engine, test: &test, calibration };
    let (supernet, space) = (engine.supernet(), evaluator.space());
    let mut singles = Vec::new();
    for &r in space.resolutions() {
        match supernet.network() {
            Some((own, _)) => {
                singles.push(bench.single("the network", &Arch { r, ..own.clone() }, options)?)
            }
            None => {
                let largest = Arch::largest(supernet.family, r, None);
                singles.push(bench.single("smallest", &smallest(&largest), options)?);
                singles.push(bench.single("largest", &largest, options)?);
            }
        }
    }
    let mut populations = Vec::new();
    for &count in options.populations.iter().filter(|_| supernet.network().is_none()) {
        populations.push(bench.population(&ways::random(space, count, options.seed)?, options)?);
    }
    Ok(Report {
        version: 1,
        device: engine.device().describe(),
        family: supernet.family.to_string(),
        width: supernet.channels().width,
        precision: engine.precision(),
        data: evaluator.dataset().name().into(),
        images: test.len(),
        calibration_images: count,
        singles,
        populations,
        launch: None,
        ways: Vec::new(),
    })
}

/// Measures networks of random weights on noise, in every way.
///
/// # Errors
/// As [`ways::run`].
pub fn run_ways(device: Arc<dyn Device>, options: &ways::Options) -> Result<Report, Error> {
    let (found, supernet) = ways::run(device.clone(), options)?;
    Ok(Report {
        version: 1,
        device: device.describe(),
        family: supernet.family.to_string(),
        width: supernet.channels().width,
        precision: options.precision,
        data: "noise".into(),
        images: options.images,
        calibration_images: whole_batches(options.calibration_images),
        singles: Vec::new(),
        populations: Vec::new(),
        launch: Some(found.launch),
        ways: found.ways,
    })
}

impl Report {
    /// Whether all ways of running the same networks gave the same results.
    pub fn all_equal(&self) -> bool {
        self.populations.iter().all(|group| group.equal) && self.ways.iter().all(|way| way.equal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = self.precision.unless_f32(" in ");
        writeln!(
            f,
            "{}: {} of width {}{}, {} images of {} each, recalibrated on {}\n",
            self.device, self.family, self.width, precision, self.images, self.data, self.calibration_images
        )?;
        if let Some(launch) = &self.launch {
            writeln!(f, "{launch}\n")?;
            return ways::table(&self.ways, f);
        }
        writeln!(
            f,
            "{:<12} {:>5} {:>14} {:>10} {:>8} {:>12} {:>13} {:>8}",
            "network", "r", "MACs", "ms", "spread", "a second", "recalibration", "peak MB"
        )?;
        for row in &self.singles {
            writeln!(
                f,
                "{:<12} {:>5} {:>14} {:>10.2} {:>7.0}% {:>12.1} {:>12.0}% {:>8}",
                row.name,
                row.resolution,
                grouped(row.macs),
                1e3 * row.seconds.median,
                100.0 * row.seconds.spread(),
                1.0 / row.seconds.median,
                100.0 * row.recalibration_share,
                megabytes(row.peak_bytes)
            )?;
        }
        if self.populations.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<12} {:>10} {:>8} {:>12} {:>13} {:>8} {:>14} {:>8} {:>6} {:>7}",
            "population",
            "tree ms",
            "spread",
            "a second",
            "recalibration",
            "peak MB",
            "one by one ms",
            "peak MB",
            "ratio",
            "saved"
        )?;
        for group in &self.populations {
            let saved = 1.0 - group.saving.distinct as f64 / group.saving.executions.max(1) as f64;
            writeln!(
                f,
                "{:<12} {:>10.1} {:>7.0}% {:>12.1} {:>12.0}% {:>8} {:>14.1} {:>8} {:>6.2} {:>6.0}%{}",
                format!("{} random", group.networks),
                1e3 * group.tree.median,
                100.0 * group.tree.spread(),
                group.networks_per_second,
                100.0 * group.recalibration_share,
                megabytes(group.tree_peak_bytes),
                1e3 * group.one_by_one.median,
                megabytes(group.one_by_one_peak_bytes),
                group.ratio,
                100.0 * saved,
                if group.equal { "" } else { "  DIFFERENT RESULTS" }
            )?;
        }
        Ok(())
    }
}
