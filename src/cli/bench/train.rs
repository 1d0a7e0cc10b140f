//! `natv2 bench train`: optimiser steps, and what a training will cost.

use super::{Error, print};
use crate::bench::train::ScheduleReport;
use crate::bench::train::{Options, run};
use crate::cli::session::Settings;
use crate::cli::{Globals, Weights};
use crate::engine::Precision;
use crate::exit::Exit;
use crate::pipeline::training::{Stage, prepare};
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench train                                      the built-in super-network, batches of 64
  natv2 bench train --weights net.safetensors --batch 128 --resolution 48 --rounds 10 --json
  natv2 bench train --precision bf16                     maps and their gradients in 16 bits

  natv2 bench train --schedule --profile paper --set data.name=cifar10 --set data.dir=DATA_FOLDER
                                                         what such a training will take here, phase by phase
  natv2 bench train --schedule --set train.schedule=sandwich --set train.epochs=30

With --schedule nothing is trained: some steps of every phase are timed on the training's own images, and
validations and the summary at the end are counted in. `natv2 train --minutes` fits a training by the same
figures.

A step is forward, backward and update, on random images that are there already; loading and
augmenting is not in it.";

/// Arguments of `natv2 bench train`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Train {
    #[command(flatten)]
    weights: Weights,
    /// Images of a batch.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=8192))]
    batch: u16,
    /// Resolution, in pixels [default: the largest of the card].
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u16).range(32..=1024))]
    resolution: Option<u16>,
    /// Timed steps of each kind.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10000))]
    rounds: u16,
    /// What the training of a configuration will take, as `natv2 train` would run it.
    #[arg(long, conflicts_with_all = ["weights", "family", "batch", "resolution", "rounds"])]
    schedule: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    globals: Globals,
}

impl Train {
    pub(super) fn run(self) -> Result<Exit, Error> {
        if self.schedule {
            return self.forecast();
        }
        if self.settings.is_given() {
            return Err(Error::Usage(
                "a configuration, --set, --profile and --seed are for the training of --schedule: give that too"
                    .into(),
            ));
        }
        let supernet = self.weights.load()?;
        self.globals.talk.notes_of([&supernet]);
        if supernet.network().is_some() {
            return Err(Error::Usage(
                "--weights: these are the weights of one network: give those of a super-network".into(),
            ));
        }
        let largest = supernet.card.search_resolutions().iter().max().map_or(64, |&r| r as usize);
        let options = Options {
            batch: self.batch.into(),
            resolution: self.resolution.map_or(largest, usize::from),
            rounds: self.rounds.into(),
            precision: self.settings.precision.unwrap_or(Precision::F32),
        };
        print(&run(self.globals.open()?, &supernet, &options)?, self.globals.talk.json)?;
        Ok(Exit::Done)
    }

    fn forecast(&self) -> Result<Exit, Error> {
        self.globals.machine.prepare()?;
        let config = self.settings.with("train", &[])?;
        let prepared = prepare(&config, Stage::Train)?;
        let device = self.globals.open()?;
        let trainings = prepared.forecast(&device)?;
        let report = ScheduleReport { version: 1, device: device.describe(), trainings };
        print(&report, self.globals.talk.json)?;
        Ok(Exit::Done)
    }
}
