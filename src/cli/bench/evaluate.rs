//! `natv2 bench evaluate`: sub-networks a second.

use super::{Error, print};
use crate::bench::evaluate::{Options, run};
use crate::cli::{Globals, Images, Seed, Weights};
use crate::engine::Precision;
use crate::evaluator::{self, Evaluator};
use crate::run::Exit;
use clap::Args;

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
    #[command(flatten)]
    images: Images,
    /// Networks of a random population; may be repeated, 0 for none.
    #[arg(long, value_name = "N", default_values_t = [10u32, 100], value_parser = clap::value_parser!(u32).range(0..=100_000))]
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

impl Evaluate {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let options = evaluator::Options {
            weights: self.weights.weights.clone(),
            family: self.weights.family,
            data: self.images.data,
            data_dir: self.images.data_dir,
            calibration_images: self.images.calibration_images.map(|n| n as usize),
            precision: self.precision,
            ..evaluator::Options::default()
        };
        let evaluator = Evaluator::open(&options, self.globals.open()?)?;
        let report = run(
            &evaluator,
            &Options {
                split: self.images.split,
                images: self.images.images.map(|n| n as usize),
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
