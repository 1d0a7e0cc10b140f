//! `natv2 bench evaluate`: sub-networks a second.

use super::networks::width;
use super::{Error, print};
use crate::bench::evaluate::{Options, Report, run, run_ways};
use crate::bench::ways;
use crate::cli::{Globals, Images, Seed, Weights};
use crate::engine::{Graphs, Precision};
use crate::evaluator::{self, Evaluator};
use crate::exit::Exit;
use crate::space::Family;
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench evaluate                                   the built-in super-network on the digits
  natv2 bench evaluate --weights net.safetensors --data-dir FOLDER --images 2000 \\
      --calibration-images 500 --population 100 --json
  natv2 bench evaluate --width 1.0 --classes 200 --networks 100 --precision bf16 --device cuda
                                                         random weights, noise: every way to run them

An evaluation is what a search does with a network: recalibration on training images, then the
images to measure on. Populations are random (NATv2's policy); as trees of shared prefixes, and one
by one on as many lanes as the device has. Times are medians of --rounds rounds behind one that does
not count, the ways in turns; spread is the longest less the shortest, of the median.

With --width no weights and no data are needed: a middle network and random populations run on noise
that is stored on the device, with each of --streams and --graphs. The host's milliseconds: planning
is the evaluation on a device that does nothing; launching, recording graphs, starting them, copying
and waiting are what it asks of this one, all threads together. They overlap with the device.";

/// Arguments of `natv2 bench evaluate`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Evaluate {
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    images: Images,
    /// Take a super-network of this width and random weights, and noise as images.
    #[arg(long, value_name = "W", value_parser = width, conflicts_with_all = ["weights", "data", "data_dir", "split"])]
    width: Option<f64>,
    /// With --width: its classes.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "width", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: u32,
    /// With --width: resolution of the networks, in pixels; may be repeated. Images have the largest.
    #[arg(long, value_name = "PX", default_values_t = [64u32], requires = "width", value_parser = clap::value_parser!(u32).range(32..=1024))]
    resolution: Vec<u32>,
    /// With --width: streams that a population runs on, 1 or 2; may be repeated.
    #[arg(long, value_name = "N", default_values_t = [1u8, 2], requires = "width", value_parser = clap::value_parser!(u8).range(1..=2))]
    streams: Vec<u8>,
    /// With --width: when programs run as graphs, auto, always or never; may be repeated.
    #[arg(long, value_name = "WHEN", default_values = ["never", "always"], requires = "width")]
    graphs: Vec<Graphs>,
    /// Networks of a random population; may be repeated, 0 for none.
    #[arg(long, visible_alias = "networks", value_name = "N", default_values_t = [10u32, 100], value_parser = clap::value_parser!(u32).range(0..=100_000))]
    population: Vec<u32>,
    /// Timed rounds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// What maps are stored as while networks run: f32, f16 or bf16.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    globals: Globals,
}

/// Images of noise that networks are measured on, unless told otherwise.
const IMAGES: u32 = 10_000;
/// And that recalibrate.
const CALIBRATION_IMAGES: u32 = 500;

impl Evaluate {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let populations = self.population.iter().map(|&n| n as usize).filter(|&n| n > 0).collect();
        let report = match self.width {
            Some(width) => self.ways(width, populations)?,
            None => self.networks(populations)?,
        };
        print(&report, self.globals.talk.json)?;
        if report.all_equal() {
            Ok(Exit::Done)
        } else {
            Err(Error::Check("networks gave other results in another way of running them".into()))
        }
    }

    /// Random weights on noise.
    fn ways(&self, width: f64, populations: Vec<usize>) -> Result<Report, Error> {
        let options = ways::Options {
            family: self.weights.family.unwrap_or(Family::SE_B),
            width,
            classes: self.classes as usize,
            resolutions: self.resolution.clone(),
            images: self.images.images.unwrap_or(IMAGES) as usize,
            calibration_images: self.images.calibration_images.unwrap_or(CALIBRATION_IMAGES) as usize,
            rounds: self.rounds.into(),
            populations,
            streams: self.streams.iter().map(|&streams| streams.into()).collect(),
            graphs: self.graphs.clone(),
            precision: self.precision,
            seed: self.seed.seed,
        };
        Ok(run_ways(self.globals.open()?, &options)?)
    }

    /// A super-network on its data.
    fn networks(&self, populations: Vec<usize>) -> Result<Report, Error> {
        let images = &self.images;
        let options = evaluator::Options {
            weights: self.weights.weights.clone(),
            family: self.weights.family,
            data: images.data.clone(),
            data_dir: images.data_dir.clone(),
            calibration_images: images.calibration_images.map(|n| n as usize),
            precision: self.precision,
            ..evaluator::Options::default()
        };
        let evaluator = Evaluator::open(&options, self.globals.open()?)?;
        let options = Options {
            split: images.split,
            images: images.images.map(|n| n as usize),
            rounds: self.rounds.into(),
            populations,
            seed: self.seed.seed,
        };
        Ok(run(&evaluator, &options)?)
    }
}
