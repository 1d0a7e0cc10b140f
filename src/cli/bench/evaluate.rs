//! `natv2 bench evaluate`: sub-networks a second.

use super::{Error, print};
use crate::bench::evaluate::{Options, run};
use crate::cli::{Globals, Seed, Weights};
use crate::data::Split;
use crate::evaluator::{self, Evaluator};
use crate::run::Exit;
use clap::Args;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench evaluate                                   the built-in super-network on the digits
  natv2 bench evaluate --weights net.safetensors --data-dir FOLDER --images 2000 \\
      --calibration-images 500 --population 100 --json

An evaluation is what a search does with a network: recalibration on training images, then the
images to measure on. Populations are random (NATv2's policy); as trees of shared prefixes, and one
by one on as many lanes as the device has. Times are medians of --rounds rounds behind one that does
not count, the ways in turns; spread is the longest less the shortest, of the median.";

/// Arguments of `natv2 bench evaluate`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Evaluate {
    #[command(flatten)]
    weights: Weights,
    /// Data set: digits, cifar10, cifar100, tiny-imagenet or image-folder [default: the card's].
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Its folder, or the parent of that; digits needs none.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Split to measure on: test, val or train.
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// Measure on the first N images of the split [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: Option<u32>,
    /// Recalibrate on the first N training images [default: the card's, else the data set's usual number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_images: Option<u32>,
    /// Networks of a random population; may be repeated, 0 for none.
    #[arg(long, value_name = "N", default_values_t = [10u32, 100], value_parser = clap::value_parser!(u32).range(0..=100_000))]
    population: Vec<u32>,
    /// Timed rounds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    globals: Globals,
}

impl Evaluate {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let options = evaluator::Options {
            weights: self.weights.weights.clone(),
            family: self.weights.family,
            data: self.data,
            data_dir: self.data_dir,
            calibration_images: self.calibration_images.map(|n| n as usize),
            ..evaluator::Options::default()
        };
        let evaluator = Evaluator::open(&options, self.globals.open()?)?;
        let report = run(
            &evaluator,
            &Options {
                split: self.split,
                images: self.images.map(|n| n as usize),
                rounds: self.rounds.into(),
                populations: self.population.iter().filter(|&&n| n > 0).map(|&n| n as usize).collect(),
                seed: self.seed.seed,
            },
        )?;
        print(&report, self.globals.talk.json)?;
        match report.all_equal() {
            true => Ok(Exit::Done),
            false => Err(Error::Check("a population gave other results than its networks alone".into())),
        }
    }
}
