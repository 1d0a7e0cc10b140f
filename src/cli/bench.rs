//! `natv2 bench`: this machine's figures.

mod compare;
mod evaluate;
mod networks;
mod plan;
mod profile;
mod search;
mod train;

use super::{Error, Globals, output};
use crate::bench::kernels;
use crate::engine::Precision;
use crate::exit::Exit;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Display;

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Every kernel on the shapes of real sub-networks: checked first, then timed.
    Kernels(Kernels),
    /// What a plan costs before it runs, on cards and on this machine, beside the least it could.
    Plan(Box<plan::Plan>),
    /// Where the time of networks goes, operator by operator, against this machine's peaks.
    Profile(Box<profile::Profile>),
    /// Sub-networks a second, recalibration included: single ones, and populations as trees.
    Evaluate(evaluate::Evaluate),
    /// The parts of a search's iteration, and a whole one.
    Search(search::Search),
    /// Optimiser steps of the largest, the smallest, and of two networks with a teacher.
    Train(train::Train),
    /// What `cargo bench` measured last against a baseline that it saved; fails on a regression.
    Compare(compare::Compare),
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Error> {
        match self {
            Bench::Kernels(kernels) => kernels.run(),
            Bench::Plan(plan) => plan.run(),
            Bench::Profile(profile) => profile.run(),
            Bench::Evaluate(evaluate) => evaluate.run(),
            Bench::Search(search) => search.run(),
            Bench::Train(train) => train.run(),
            Bench::Compare(compare) => compare.run(),
        }
    }
}

/// Prints a report as a table or as JSON.
fn print(report: &(impl Serialize + Display), json: bool) -> Result<(), Error> {
    if json { output::json(report) } else { output::print(&report.to_string()) }
}

const AFTER_HELP: &str = "\
Examples:
  natv2 bench kernels --device cpu --threads 1
  natv2 bench kernels --device cuda --images 256 --edges --json > kernels.json
  natv2 bench kernels --device cuda --precision bf16 --images 1000 --check-images 4

Each kernel is first compared with the plain f64 definition on the same operands; a wrong one is
marked in the table and makes the exit code 1. With --check-images that is done on fewer images than
are timed, for which a device may take another tile of the same kernel. Times are medians with the caches flushed in between;
shares are of the copy rate and of the peaks of arithmetic measured on the same device in the same run:
fma (f32 multiply-adds), tensor (products of 16-bit numbers), or both, the longer of the two.";

/// Arguments of `natv2 bench kernels`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Kernels {
    /// Images of a call.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    images: u16,
    /// Check calls of so many images, where the reference of all takes too long [default: as many as are timed].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    check_images: Option<u16>,
    /// Resolution of the sub-networks, in pixels; may be repeated.
    #[arg(long, value_name = "PX", default_values_t = [64u16], value_parser = clap::value_parser!(u16).range(32..=1024))]
    resolution: Vec<u16>,
    /// Also the shapes at the edges: one pixel, odd sides, most channels.
    #[arg(long)]
    edges: bool,
    /// In 16 bits, also the fused MBConvs of a middle network of width 1.0: filters of 5, expansions of 4, depths of 3.
    #[arg(long)]
    middle: bool,
    /// Timed runs of a shape; the median counts.
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=10000))]
    repetitions: u16,
    /// Only operators whose name contains this, such as depthwise.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// What maps are stored as: f32, or f16 or bf16, with the operators that have a form for it.
    #[arg(long, value_name = "PRECISION", default_value_t)]
    precision: Precision,
    #[command(flatten)]
    globals: Globals,
}

impl Kernels {
    fn run(self) -> Result<Exit, Error> {
        let device = self.globals.open()?;
        let options = kernels::Options {
            images: self.images.into(),
            check_images: self.check_images.map(usize::from),
            resolutions: self.resolution.iter().map(|&r| r.into()).collect(),
            edges: self.edges,
            middle: self.middle,
            repetitions: self.repetitions.into(),
            only: self.only,
            precision: self.precision,
        };
        let report = kernels::run(&*device, &options)?;
        print(&report, self.globals.talk.json)?;
        if report.all_correct() {
            Ok(Exit::Done)
        } else {
            Err(Error::Check("a kernel is wrong on this device: see the table".into()))
        }
    }
}
