//! `natv2 bench plan`: the performance model on the command line.

use super::{Error, print};
use crate::bench::plan::{Mode, Options, run};
use crate::cli::{Globals, Weights, input};
use crate::engine::model::Machine;
use crate::evaluator::CALIBRATION_BATCH;
use crate::run::Exit;
use crate::space::walk::Exits;
use crate::space::{Arch, Channels, ExitScaling, Family};
use crate::supernet::init::parts_of;
use crate::supernet::{Layout, Supernet};
use clap::{ArgGroup, Args};

const AFTER_HELP: &str = "\
Examples:
  natv2 bench plan --width 1.0 --classes 200 --resolution 64        a middle network, on every card
  natv2 bench plan --arch @network.json --mode evaluation --images 2000 --calibration-images 500
  natv2 bench plan --archs archive.json --mode evaluation --machine h100 --json
  natv2 bench plan --mode training --images 64 --teacher --machine here

No network runs. Bytes, operations and launches are those of the plan that the engine would run;
times take every call at full bandwidth or full arithmetic rate, whichever is longer, and add the
launches. Machines: a100, h100, h200 (data sheets), here (the --device, measured now) or all. The
floor is fused layers that read their input and write their output once.";

/// Arguments of `natv2 bench plan`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("networks").args(["arch", "archs"]))]
#[command(group = ArgGroup::new("layout").args(["weights", "width"]))]
pub struct Plan {
    #[command(flatten)]
    weights: Weights,
    /// Plan for a super-network of this width that needs not exist; --family is SE_B by default.
    #[arg(long, value_name = "W", value_parser = width)]
    width: Option<f64>,
    /// Its classes.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "width", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: u32,
    /// One architecture: JSON text, or @FILE [default: kernels of 5, expansions of 4, depths of 3].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// A population, or the students of a training step: as for `natv2 evaluate`.
    #[arg(long, value_name = "FILE")]
    archs: Option<String>,
    /// EE families: read these exits of each network, as in 1,3,5 or all.
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// Resolution, in pixels, in place of the architectures' own.
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(32..=1024))]
    resolution: Option<u32>,
    /// What to plan: inference, recalibration, evaluation (both) or training (one step).
    #[arg(long, value_name = "MODE", default_value = "inference", value_parser = mode)]
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
    /// Machine to estimate for, may be repeated: a100, h100, h200, here or all.
    #[arg(long, value_name = "NAME", default_values_t = ["all".to_string()], value_parser = machine)]
    machine: Vec<String>,
    #[command(flatten)]
    globals: Globals,
}

fn mode(text: &str) -> Result<Mode, String> {
    let found = Mode::ALL.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
    found.ok_or_else(|| "modes are inference, recalibration, evaluation and training".into())
}

fn machine(text: &str) -> Result<String, String> {
    let name = text.to_lowercase();
    match ["a100", "h100", "h200", "here", "all"].contains(&&*name) {
        true => Ok(name),
        false => Err("machines are a100, h100, h200, here and all".into()),
    }
}

fn width(text: &str) -> Result<f64, String> {
    match input::widths(text)?[..] {
        [width] => Ok(width),
        _ => Err("give one width multiplier".into()),
    }
}

/// The layout to plan on, its family, and the weights where there are any.
struct Ground {
    layout: Layout,
    family: Family,
    supernet: Option<Supernet>,
}

impl Plan {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let Ground { layout, family, supernet } = self.ground()?;
        let networks: Vec<(Arch, Exits)> = self
            .architectures(family, supernet.as_ref())?
            .into_iter()
            .map(|arch| {
                let exits = self.exits_of(&arch)?;
                self.check(&layout, &arch, exits)?;
                Ok((arch, exits))
            })
            .collect::<Result<_, Error>>()?;
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
        })?;
        print(&report, self.globals.talk.json)?;
        Ok(Exit::Done)
    }

    fn ground(&self) -> Result<Ground, Error> {
        let Some(width) = self.width else {
            let supernet = self.weights.load()?;
            let (layout, family) = (supernet.layout.clone(), supernet.family);
            return Ok(Ground { layout, family, supernet: Some(supernet) });
        };
        let family = self.weights.family.unwrap_or(Family::SE_B);
        let channels = Channels::new(width, ExitScaling::Once);
        let layout = Layout::new(channels, self.classes as usize, parts_of(family));
        Ok(Ground { layout, family, supernet: None })
    }

    fn architectures(&self, family: Family, supernet: Option<&Supernet>) -> Result<Vec<Arch>, Error> {
        let own = supernet.and_then(Supernet::network).map(|(own, _)| own.clone());
        let archs = match (&self.arch, &self.archs) {
            (Some(text), _) => vec![input::arch(text, family)?],
            (None, Some(text)) => input::archs(text, family)?,
            (None, None) => {
                let sides = supernet.map_or(&[64][..], |supernet| supernet.card.search_resolutions());
                let largest = Arch::largest(family, sides.iter().copied().max().unwrap_or(64), None);
                vec![own.unwrap_or(Arch { ks: [5; 20], e: [4; 20], d: [3; 5], ..largest })]
            }
        };
        let sized = |arch: Arch| Arch { r: self.resolution.unwrap_or(arch.r), ..arch };
        Ok(archs.into_iter().map(sized).collect())
    }

    fn exits_of(&self, arch: &Arch) -> Result<Exits, Error> {
        match &self.exits {
            Some(_) if !arch.family.early_exits => Err(Error::Usage(format!(
                "--exits: family {} has one plain head: leave the flag out, or name an EE family",
                arch.family
            ))),
            Some(list) => {
                Exits::parse(list, arch).map_err(|source| Error::Given { place: "--exits".into(), source })
            }
            None => Ok(Exits::single(arch)),
        }
    }

    fn check(&self, layout: &Layout, arch: &Arch, exits: Exits) -> Result<(), Error> {
        let width = layout.channels().width;
        if let Some(found) = arch.w.filter(|w| (w - width).abs() > 1e-9) {
            return Err(Error::Usage(format!(
                "the architecture has width {found}, and the plan is for width {width}: give --width {found}"
            )));
        }
        match layout.holds(arch, exits) {
            true => Ok(()),
            false => Err(Error::Usage(
                "the weights are those of one network, and this is another: plan for the super-network, or with --width".into(),
            )),
        }
    }
}
