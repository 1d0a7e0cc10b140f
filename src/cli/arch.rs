//! `natv2 arch`: everything on the search space alone, without running a network.

use super::{Error, Seed, input, output};
use crate::exit::Exit;
use crate::random::stream;
use crate::space::backbone::{PAPER_RESOLUTIONS, PAPER_WIDTHS};
use crate::space::sample::{Policy, sample};
use crate::space::show::{grouped, show};
use crate::space::walk::Exits;
use crate::space::{self, Channels, ExitScaling, Family, Space, cost};
use crate::supernet::Supernet;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const ENCODE_HELP: &str = "\
Examples:
  natv2 arch encode --family SE_B --arch @network.json
  natv2 arch encode --weights net.safetensors --arch '{\"r\":48,\"ks\":[..],\"e\":[..],\"d\":[..]}'

Prints the canonical genotype, a JSON list: genes of layers that are not there are 0.";

const DECODE_HELP: &str = "\
Examples:
  natv2 arch decode --family SE_B '[2,1,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9]'
  natv2 arch decode --resolutions 192:256:4 @genotype.json

Prints an architecture with 20 entries a list; those of layers that are not there are 3, 3 and 4.";

const COST_HELP: &str = "\
Examples:
  natv2 arch cost --family EE_B --classes 200 --arch @network.json --exits all --json
  natv2 arch cost --weights net.safetensors --arch @network.json

Prints trainable parameters of the stand-alone network and multiply-accumulates of its
convolutions and linear layers (squeeze-and-excitation included) for one image. Any resolution
from 32 to 1024 and any width will do.";

const SAMPLE_HELP: &str = "\
Examples:
  natv2 arch sample --family EE_D -n 100 --seed 1 > networks.jsonl
  natv2 arch sample --weights net.safetensors -n 10 --policy nat --json

Prints one architecture a line, or with --json one list; `natv2 evaluate --archs` reads both.";

const SHOW_HELP: &str = "\
Examples:
  natv2 arch show --family EE_DP --classes 200
  natv2 arch show --weights net.safetensors --arch @network.json";

/// `natv2 arch`.
#[derive(Debug, Subcommand)]
pub enum Arch {
    /// Turn an architecture into its genotype.
    Encode(Encode),
    /// Turn a genotype into its architecture.
    Decode(Decode),
    /// Count a network's parameters and multiply-accumulates.
    Cost(CostOf),
    /// Draw random networks.
    Sample(Sample),
    /// Draw a network as text: every layer with kernel, expansion, channels and map side.
    Show(Show),
}

/// Arguments of `encode`.
#[derive(Debug, Args)]
#[command(after_help = ENCODE_HELP)]
pub struct Encode {
    #[command(flatten)]
    space: SpaceArgs,
    /// The architecture: JSON text, or @FILE.
    #[arg(long, value_name = "ARCH")]
    arch: String,
    /// Accepted for uniformity: the output is JSON anyway.
    #[arg(long)]
    json: bool,
}

/// Arguments of `decode`.
#[derive(Debug, Args)]
#[command(after_help = DECODE_HELP)]
pub struct Decode {
    #[command(flatten)]
    space: SpaceArgs,
    /// The genotype: a JSON list of whole numbers, or @FILE.
    #[arg(value_name = "GENOTYPE")]
    genotype: String,
    /// Accepted for uniformity: the output is JSON anyway.
    #[arg(long)]
    json: bool,
}

/// Arguments of `cost`.
#[derive(Debug, Args)]
#[command(after_help = COST_HELP)]
pub struct CostOf {
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// The architecture: JSON text, or @FILE. Without `w`: the width of --weights, else 1.0.
    #[arg(long, value_name = "ARCH")]
    arch: String,
    /// As JSON: {"params":..,"macs":..}.
    #[arg(long)]
    json: bool,
}

/// Arguments of `sample`.
#[derive(Debug, Args)]
#[command(after_help = SAMPLE_HELP)]
pub struct Sample {
    #[command(flatten)]
    space: SpaceArgs,
    /// How many networks; they need not be distinct.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    number: u32,
    /// natv2: an optional layer ends its stage with probability 1/3. nat: every gene uniform, which
    /// makes nearly all stages full.
    #[arg(long, default_value = "natv2", value_parser = input::word::<Policy>())]
    policy: Policy,
    #[command(flatten)]
    seed: Seed,
    /// One JSON list instead of one architecture a line.
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = SHOW_HELP)]
pub struct Show {
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// The architecture: JSON text, or @FILE [default: the largest of the space].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
}

/// A family, named or that of some weights.
#[derive(Debug, Args)]
struct FamilyArgs {
    /// Family of the networks: SE_B, SE_D, SE_P, SE_DP, EE_B, EE_D, EE_P or EE_DP [default: that of
    /// --weights, else SE_B].
    #[arg(long, value_name = "FAMILY")]
    family: Option<Family>,
    /// Super-network whose family, width, classes and resolutions to take.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

impl FamilyArgs {
    fn load(&self) -> Result<(Family, Option<Supernet>), Error> {
        let supernet = match &self.weights {
            Some(file) => Some(Supernet::open(Some(file), self.family)?),
            None => None,
        };
        let family = supernet.as_ref().map(|s| s.family).or(self.family).unwrap_or(Family::SE_B);
        Ok((family, supernet))
    }
}

/// A search space.
#[derive(Debug, Args)]
struct SpaceArgs {
    #[command(flatten)]
    family: FamilyArgs,
    /// Resolutions in pixels, ascending: 48,56,64 or first:last:step as in 192:256:4 [default: those
    /// of the card of --weights, else 48,56,64].
    #[arg(long, value_name = "LIST", value_parser = input::resolutions)]
    resolutions: Option<std::vec::Vec<u32>>,
    /// Width multipliers, ascending [default: that of --weights, else 1.0,1.2].
    #[arg(long, value_name = "LIST", value_parser = input::widths)]
    widths: Option<std::vec::Vec<f64>>,
}

impl SpaceArgs {
    fn load(&self) -> Result<(Space, Option<Supernet>), Error> {
        let (family, supernet) = self.family.load()?;
        let (card_resolutions, card_widths) = match &supernet {
            Some(supernet) => (supernet.card.search_resolutions().to_vec(), vec![supernet.channels().width]),
            None => (PAPER_RESOLUTIONS.to_vec(), PAPER_WIDTHS.to_vec()),
        };
        let resolutions = self.resolutions.as_ref().unwrap_or(&card_resolutions);
        let widths = self.widths.as_ref().unwrap_or(&card_widths);
        Ok((Space::new(family, resolutions, widths, ExitScaling::Once)?, supernet))
    }
}

/// What a stand-alone network depends on beside its architecture.
#[derive(Debug, Args)]
struct NetworkArgs {
    /// Classes to tell apart [default: those of --weights, which is needed otherwise].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
    /// EE families: the exits to count, `all` up to the architecture's or a list such as 1,3,5
    /// [default: the architecture's alone].
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// EE families: whether the width multiplier scales the exits once, or twice as in the OFAv2
    /// authors' programs [default: that of --weights, else once].
    #[arg(long, value_name = "RULE", value_parser = input::word::<ExitScaling>())]
    exit_scaling: Option<ExitScaling>,
}

impl NetworkArgs {
    fn classes(&self, supernet: Option<&Supernet>) -> Result<usize, Error> {
        let classes = self.classes.map(|n| n as usize).or(supernet.map(Supernet::classes));
        classes.ok_or_else(|| {
            Error::Usage(
                "the number of classes is not known: give it with --classes N, or give --weights".into(),
            )
        })
    }

    fn exits(&self, arch: &space::Arch) -> Result<Exits, Error> {
        match &self.exits {
            Some(text) => Exits::parse(text, arch).map_err(Error::given(format!("--exits {text}"))),
            None => Ok(Exits::single(arch)),
        }
    }

    fn channels(&self, arch: &space::Arch, supernet: Option<&Supernet>) -> Channels {
        match supernet {
            // The file knows how wide its exits are.
            Some(supernet) if supernet.has_width(arch.w) && self.exit_scaling.is_none() => {
                *supernet.channels()
            }
            _ => {
                let width = arch.w.or(supernet.map(|s| s.channels().width)).unwrap_or(1.0);
                Channels::new(width, self.exit_scaling.unwrap_or_default())
            }
        }
    }
}

impl Arch {
    pub(super) fn run(self) -> Result<Exit, Error> {
        match self {
            Arch::Encode(command) => command.run(),
            Arch::Decode(command) => command.run(),
            Arch::Cost(command) => command.run(),
            Arch::Sample(command) => command.run(),
            Arch::Show(command) => command.run(),
        }?;
        Ok(Exit::Done)
    }
}

impl Encode {
    fn run(self) -> Result<(), Error> {
        let (space, _) = self.space.load()?;
        let arch = input::arch(&self.arch, space.family())?;
        let genotype = space.encode(&arch).map_err(Error::given("--arch"))?;
        output::json(&genotype)
    }
}

impl Decode {
    fn run(self) -> Result<(), Error> {
        let (space, _) = self.space.load()?;
        let arch = space.decode_genes(&input::genotype(&self.genotype)?).map_err(Error::given("GENOTYPE"))?;
        output::json(&arch)
    }
}

impl CostOf {
    fn run(self) -> Result<(), Error> {
        let (family, supernet) = self.family.load()?;
        let arch = input::arch(&self.arch, family)?;
        let classes = self.network.classes(supernet.as_ref())?;
        let channels = self.network.channels(&arch, supernet.as_ref());
        let cost = cost(&channels, &arch, self.network.exits(&arch)?, classes);
        if self.json {
            output::json(&cost)
        } else {
            output::print(&format!("{} parameters, {} MACs", grouped(cost.params), grouped(cost.macs)))
        }
    }
}

impl Sample {
    fn run(self) -> Result<(), Error> {
        let (space, _) = self.space.load()?;
        let mut rng = stream(self.seed.seed, "arch/sample", 0, 0);
        let mut next = || -> Result<String, Error> {
            let arch = space.decode(&sample(&space, self.policy, &mut rng))?;
            serde_json::to_string(&arch).map_err(|e| Error::Stdout(e.into()))
        };
        let mut failed = None;
        output::stream(|out| {
            for index in 0..self.number {
                let text = match next() {
                    Ok(text) => text,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                match (self.json, index) {
                    (false, _) => writeln!(out, "{text}")?,
                    (true, 0) => write!(out, "[{text}")?,
                    (true, _) => write!(out, ",{text}")?,
                }
            }
            if self.json { writeln!(out, "]") } else { Ok(()) }
        })?;
        failed.map_or(Ok(()), Err)
    }
}

impl Show {
    fn run(self) -> Result<(), Error> {
        let (space, supernet) = self.space.load()?;
        let arch = match &self.arch {
            Some(text) => input::arch(text, space.family())?,
            None => space.decode(space.upper())?,
        };
        let classes = self.network.classes(supernet.as_ref())?;
        let channels = self.network.channels(&arch, supernet.as_ref());
        output::print(&show(&channels, &arch, self.network.exits(&arch)?, classes))
    }
}
