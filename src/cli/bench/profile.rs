//! `natv2 bench profile`: operators of an evaluation and of a training step, each call on the clock.

use super::networks::Networks;
use super::{Error, print};
use crate::bench::profile::{Options, run};
use crate::cli::Globals;
use crate::engine::Precision;
use crate::exit::Exit;
use clap::{Args, ValueEnum};

const AFTER_HELP: &str = "\
Examples:
  natv2 bench profile --weights net.safetensors --threads 1      a middle network
  natv2 bench profile --width 1.0 --classes 200 --resolution 64 --work evaluation
  natv2 bench profile --width 1.0 --precision bf16 --device cuda
  natv2 bench profile --archs archive.json --images 2000 --calibration-images 500 --json

The networks run on noise, with random weights where --width stands for a super-network; every call
is timed on its own. Times are of the quickest of --rounds rounds. A call on one of several lanes
takes its share of the device, so that rates stand beside the peaks of the whole; bytes are those of
each operand once, also of what stays in a cache. Outside of calls are loading, planning, moving
results, and lanes without work. On a GPU every call is waited for, which small ones do not have in
a run.";

/// What is profiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Recalibration and inference, as a search evaluates.
    Evaluation,
    /// An optimiser step.
    Training,
}

/// Arguments of `natv2 bench profile`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Profile {
    #[command(flatten)]
    networks: Networks,
    /// What to profile, may be repeated [default: both; evaluation alone for the weights of one network].
    #[arg(long, value_name = "WORK")]
    work: Vec<Work>,
    /// Images that networks are measured on.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    images: u32,
    /// Training images that recalibrate, in batches of 100.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    calibration_images: u32,
    /// Images of a training step.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=8192))]
    batch: u16,
    /// What maps are stored as: f32, f16 or bf16.
    #[arg(long, value_name = "PRECISION", default_value_t)]
    precision: Precision,
    /// Rounds of which the quickest is shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    #[command(flatten)]
    globals: Globals,
}

impl Profile {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let ground = self.networks.ground()?;
        let networks = ground.networks.clone();
        let supernet = ground.weights()?;
        let alone = supernet.network().is_some();
        if alone && self.work.contains(&Work::Training) {
            return Err(Error::Usage(
                "--work training: the weights are those of one network: give those of the super-network"
                    .into(),
            ));
        }
        let wants = |work: Work| self.work.is_empty() || self.work.contains(&work);
        let options = Options {
            networks: &networks,
            evaluation: wants(Work::Evaluation),
            training: wants(Work::Training) && !alone,
            images: self.images as usize,
            calibration_images: self.calibration_images as usize,
            batch: self.batch.into(),
            rounds: self.rounds.into(),
            precision: self.precision,
        };
        print(&run(self.globals.open()?, &supernet, &options)?, self.globals.talk.json)?;
        Ok(Exit::Done)
    }
}
