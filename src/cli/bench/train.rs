//! `natv2 bench train`: optimiser steps.

use super::{Error, print};
use crate::bench::train::{Options, run};
use crate::cli::{Globals, Weights};
use crate::engine::Precision;
use crate::exit::Exit;
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench train                                      the built-in super-network, batches of 64
  natv2 bench train --weights net.safetensors --batch 128 --resolution 48 --rounds 10 --json
  natv2 bench train --precision bf16                     maps and their gradients in 16 bits

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
    /// What maps and their gradients are stored as: f32, f16 or bf16.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    globals: Globals,
}

impl Train {
    pub(super) fn run(self) -> Result<Exit, Error> {
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
            precision: self.precision,
        };
        print(&run(self.globals.open()?, &supernet, &options)?, self.globals.talk.json)?;
        Ok(Exit::Done)
    }
}
