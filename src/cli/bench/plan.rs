//! `natv2 bench plan`: the performance model on the command line.

use super::networks::{LoadedNetworks, Networks};
use super::{Error, print};
use crate::bench::plan::{Mode, Options, run};
use crate::cli::Globals;
use crate::engine::model::Machine;
use crate::engine::{CALIBRATION_BATCH, Precision};
use crate::exit::Exit;
use crate::words::{Word, listed, parsed};
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench plan --width 1.0 --classes 200 --resolution 64        a middle network, on every card
  natv2 bench plan --arch @network.json --mode evaluation --images 2000 --calibration-images 500
  natv2 bench plan --archs archive.json --mode evaluation --machine h100 --json
  natv2 bench plan --width 1.0 --precision bf16 [--unfused]
  natv2 bench plan --mode training --images 64 --teacher --precision bf16 --machine here

No network runs. Bytes, operations and launches are those of the plan that the engine would run. Times
add up launches, the MBConvs by the estimate of cycles that their blocks are picked by, and of every
other call the longer of traffic and arithmetic. Behind each time stands what most of it is for, its
bound: traffic, launches, tensor (products of 16-bit numbers), fma (all other arithmetic) or occupancy
(multiprocessors that wait or have less to do than others). Machines: a100, h100, h200 (data sheets),
here (the --device, measured now) or all. The floor is fused layers that read their input and write
their output once, or their products or their filters at full rate, whichever is longest.";

/// Arguments of `natv2 bench plan`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Plan {
    #[command(flatten)]
    networks: Networks,
    /// What to plan: inference, recalibration, evaluation (both) or training (one step).
    #[arg(long, value_name = "MODE", default_value = "inference")]
    mode: Mode,
    /// Images that networks are measured on, or of a training step.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    images: u32,
    /// Training images that recalibrate, in batches of 100.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    calibration_images: u32,
    /// Images of an inference pass [default: as many as each machine takes at a time].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,
    /// Training: with the largest network as a teacher.
    #[arg(long)]
    teacher: bool,
    /// What maps are stored as: f32, f16 or bf16.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    precision: Precision,
    /// In 16 bits: every operator a call of its own, where MBConvs that fit a block are one otherwise.
    #[arg(long)]
    unfused: bool,
    /// Machine to estimate for, may be repeated: a100, h100, h200, here or all.
    #[arg(long, value_name = "NAME", default_values_t = ["all".to_string()], value_parser = machine)]
    machine: Vec<String>,
    #[command(flatten)]
    globals: Globals,
}

parsed!(Mode, String, |text| format!("modes are {}", listed(Mode::WORDS)));

fn machine(text: &str) -> Result<String, String> {
    let name = text.to_lowercase();
    if ["a100", "h100", "h200", "here", "all"].contains(&&*name) {
        Ok(name)
    } else {
        Err("machines are a100, h100, h200, here and all".into())
    }
}

impl Plan {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let LoadedNetworks { layout, family, networks, .. } = self.networks.ground()?;
        let training = self.mode == Mode::Training;
        if training && layout.is_network() {
            return Err(Error::Usage(
                "--mode training: the weights are those of one network: plan for the super-network, or with --width"
                    .into(),
            ));
        }
        if self.teacher && !training {
            return Err(Error::Usage("--teacher goes with --mode training".into()));
        }
        let wants = |name: &str| self.machine.iter().any(|asked| asked == name || asked == "all");
        let cards = Machine::cards().into_iter().filter(|card| wants(&card.name.to_lowercase())).collect();
        let device = if wants("here") { Some(self.globals.open()?) } else { None };
        let report = run(&Options {
            layout: &layout,
            family,
            networks: &networks,
            mode: self.mode,
            images: self.images as usize,
            calibration_images: self.calibration_images as usize,
            calibration_batch: CALIBRATION_BATCH,
            batch: self.batch.map(|n| n as usize),
            teacher: self.teacher,
            cards,
            device: device.as_deref(),
            precision: self.precision,
            fuse: !self.unfused,
        })?;
        print(&report, self.globals.talk.json)?;
        Ok(Exit::Done)
    }
}
