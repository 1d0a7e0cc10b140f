//! `natv2 supernet`: what a super-network holds, new ones, and one family made into another.

use super::{Error, Seed, Talk, Weights, input, output};
use crate::exit::Exit;
use crate::space::show::grouped;
use crate::space::{Arch, ExitScaling, Family, cost, walk::Exits};
use crate::supernet::init::parts_of;
use crate::supernet::{self, Blank, Card, Init as Draw, Target, convert};
use clap::{Args, Subcommand};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// `natv2 supernet`
#[derive(Debug, Subcommand)]
pub enum Supernet {
    /// What a file holds: width, classes, parts, the families it serves, its card.
    Info(Info),
    /// A new super-network of random weights, and its card beside it.
    Init(Init),
    /// A super-network of one family made into one of another: what both have is kept, the rest is new.
    Convert(Convert),
    /// A stand-alone network put back into a super-network.
    Insert(Insert),
}

/// Arguments of `natv2 supernet info`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  natv2 supernet info --weights net.safetensors

JSON: {\"version\":1,\"file\",\"family\",\"families\",\"width\",\"classes\",\"exit_scaling\",\"parts\",\"tensors\",
\"parameters\",\"largest\":{\"params\",\"macs\"},\"card\"}; parameters are those of the whole super-network,
largest the cost of its largest network at the card's largest resolution. A stand-alone network's card
has its architecture and exits in \"network\".")]
pub struct Info {
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    talk: Talk,
}

/// Arguments of `natv2 supernet init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  natv2 supernet init --family EE_D --width 1.0 --classes 200 --seed 1 --out ee_d.safetensors

How weights are drawn is up to --init: he-fan-out is the once-for-all package's, uniform-fan-in
PyTorch's default, zero-residual that with blocks that begin as the identity (best in short
trainings), mobilenet that of MobileNets' programs. Batch norms and kernel-transform matrices begin
as the identity. The same seed gives the same file, and a tensor is the same in every family.")]
pub struct Init {
    /// Family, such as SE_B or EE_D.
    #[arg(long, value_name = "FAMILY")]
    family: Family,
    /// Width multiplier.
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    width: f64,
    /// Number of classes.
    #[arg(long, value_name = "N")]
    classes: usize,
    /// How often the width multiplier applies to the exits' heads: once, or twice as in the authors'
    /// programs.
    #[arg(long, value_name = "RULE", default_value = "once", value_parser = input::word::<ExitScaling>())]
    exit_scaling: ExitScaling,
    /// How weights are drawn.
    #[arg(long, value_name = "INIT", default_value = Draw::default().as_str(), value_parser = input::word::<Draw>())]
    init: Draw,
    /// Safetensors file to write, with NAME.card.json beside it; files that are there are replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    talk: Talk,
}

/// Arguments of `natv2 supernet convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  natv2 supernet convert --weights ofa.safetensors --to-family EE_D --out ee_d.safetensors
  natv2 supernet convert --weights tiny.safetensors --to-family SE_B --classes 10 --out cifar.safetensors

Shared tensors are kept bit for bit. The exit behind the last stage and the plain head are the same
thing under two names, and one becomes the other. Exits and branches that are new are drawn as by
`supernet init` and need training. With other --classes the classifiers are new, and the card no
longer names the data.")]
pub struct Convert {
    /// Super-network to convert [default: the built-in one, trained on the digits].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Family to convert to, such as SE_B or EE_D.
    #[arg(long, value_name = "FAMILY")]
    to_family: Family,
    /// Number of classes; other than the file's, classifiers are new [default: the file's].
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// How often the width multiplier applies to new exits' heads: once or twice [default: as the
    /// file's exits, else once].
    #[arg(long, value_name = "RULE", value_parser = input::word::<ExitScaling>())]
    exit_scaling: Option<ExitScaling>,
    /// How what is new is drawn, as for `supernet init`.
    #[arg(long, value_name = "INIT", default_value = Draw::default().as_str(), value_parser = input::word::<Draw>())]
    init: Draw,
    /// Safetensors file to write, with NAME.card.json beside it; files that are there are replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    talk: Talk,
}

/// Arguments of `natv2 supernet insert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  natv2 supernet insert --weights ofa.safetensors --network net.safetensors --out new.safetensors

The network's tensors overwrite the places of the super-network that it would be taken out of,
batch-norm statistics included, so that exporting the same network again gives the same numbers.
Depthwise filters of sizes 5 and 3 are what the kernel transform makes of the shared ones: where that
is no longer the network's filter, the layer's transform becomes the identity and the filter the
centre of the shared one, and other networks with small kernels in that layer change.

JSON: {\"version\":1,\"out\",\"family\",\"changed\",\"reset\"}: tensors with other numbers now, and the
layers (from 1) whose transform became the identity.")]
pub struct Insert {
    /// Super-network to put it into [default: the built-in one, trained on the digits].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Stand-alone network, as `natv2 export` writes it: safetensors with its card beside it.
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// Safetensors file to write, with NAME.card.json beside it; files that are there are replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    talk: Talk,
}

impl Insert {
    fn run(self) -> Result<(), Error> {
        output::check_file(&self.out)?;
        let weights = Weights { weights: self.weights.clone(), family: None };
        let (network, supernet) = (supernet::Network::load(&self.network)?, weights.load()?);
        self.talk.notes_of([network.weights(), &supernet]);
        let done = network.insert(&supernet)?;
        save(&self.out, &done.supernet)?;
        if self.talk.json {
            output::json(&json!({
                "version": 1,
                "out": self.out.display().to_string(),
                "family": done.supernet.family.to_string(),
                "changed": done.changed,
                "reset": done.reset,
            }))
        } else {
            let reset: Vec<String> = done.reset.iter().map(usize::to_string).collect();
            let reset = if reset.is_empty() {
                String::new()
            } else {
                format!("; kernel transforms of layers {} are the identity now", reset.join(", "))
            };
            self.talk.note(&format!("{}: {} tensors changed{reset}", self.out.display(), done.changed));
            Ok(())
        }
    }
}

impl Supernet {
    pub(super) fn run(self) -> Result<Exit, Error> {
        match self {
            Supernet::Info(info) => info.run()?,
            Supernet::Init(init) => init.run()?,
            Supernet::Convert(convert) => convert.run()?,
            Supernet::Insert(insert) => insert.run()?,
        }
        Ok(Exit::Done)
    }
}

/// Trainable numbers of a whole super-network, transform matrices included.
fn parameters(net: &supernet::Supernet) -> u64 {
    let trainable = net.layout.tensors().iter().filter(|t| !t.name.contains(".running_"));
    trainable.map(|t| t.shape.iter().product::<usize>() as u64).sum()
}

/// The families that a super-network's tensors serve.
fn families(net: &supernet::Supernet) -> Vec<String> {
    if net.network().is_some() {
        return vec![net.family.to_string()];
    }
    let parts = net.layout.parts();
    let served = Family::all().filter(|&family| parts.first_missing(parts_of(family)).is_none());
    served.map(|family| family.to_string()).collect()
}

impl Info {
    fn run(self) -> Result<(), Error> {
        let net = self.weights.load()?;
        self.talk.notes_of([&net]);
        let (channels, parts) = (net.channels(), net.layout.parts());
        let side = net.card.search_resolutions().last().copied().unwrap_or(64);
        let largest = Arch::largest(net.family, side, Some(channels.width));
        // The largest network of a stand-alone network is itself.
        let (arch, exits) = match net.network() {
            Some((arch, exits)) => (arch, exits),
            None => (&largest, Exits::single(&largest)),
        };
        let largest = cost(channels, arch, exits, net.classes());
        let card: serde_json::Value = serde_json::from_str(&net.card.to_json()).unwrap_or_default();
        if self.talk.json {
            return output::json(&json!({
                "version": 1,
                "file": net.file.display().to_string(),
                "family": net.family.to_string(),
                "families": families(&net),
                "width": channels.width,
                "classes": net.classes(),
                "exit_scaling": net.scaling(),
                "parts": {"head": parts.head, "exits": parts.exits, "parallel": parts.parallel},
                "tensors": net.layout.tensors().len(),
                "parameters": parameters(&net),
                "largest": largest,
                "card": card,
            }));
        }
        let named =
            [(parts.head, "plain head"), (parts.exits, "five exits"), (parts.parallel, "parallel branches")];
        let named: Vec<&str> = named.iter().filter_map(|&(here, name)| here.then_some(name)).collect();
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<12}{value}");
        };
        line("file", net.file.display().to_string());
        line("family", format!("{} (serves {})", net.family, families(&net).join(", ")));
        line("width", format!("{}, {} classes", channels.width, net.classes()));
        line("parts", format!("backbone, {}", named.join(", ")));
        line("tensors", format!("{}, {} parameters", net.layout.tensors().len(), grouped(parameters(&net))));
        let (params, macs) = (grouped(largest.params), grouped(largest.macs));
        let name = if net.network().is_some() { "network" } else { "largest" };
        line(name, format!("{params} parameters, {macs} MACs at {side} px"));
        let object = card.as_object().filter(|card| !card.is_empty());
        line("card", if object.is_some() { String::new() } else { "none".into() });
        for (key, value) in object.into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            line("", format!("{key}: {text}"));
        }
        output::print(&out)
    }
}

impl Init {
    fn run(self) -> Result<(), Error> {
        let blank = Blank {
            family: self.family,
            width: self.width,
            classes: self.classes,
            scaling: self.exit_scaling,
            init: self.init,
        };
        let net = supernet::Supernet::random(&blank, self.seed.seed)?;
        save(&self.out, &net)?;
        let tensors = net.layout.tensors().len();
        if self.talk.json {
            output::json(&json!({
                "version": 1,
                "out": self.out.display().to_string(),
                "family": net.family.to_string(),
                "tensors": tensors,
                "parameters": parameters(&net),
            }))
        } else {
            let count = grouped(parameters(&net));
            self.talk.note(&format!("{}: {tensors} new tensors, {count} parameters", self.out.display()));
            Ok(())
        }
    }
}

impl Convert {
    fn run(self) -> Result<(), Error> {
        output::check_file(&self.out)?;
        let weights = Weights { weights: self.weights.clone(), family: None };
        let net = weights.load()?;
        self.talk.notes_of([&net]);
        let target = Target {
            family: self.to_family,
            classes: self.classes,
            scaling: self.exit_scaling,
            init: self.init,
            seed: self.seed.seed,
        };
        let done = convert(&net.checkpoint(), &net.card, &target)?;
        save(&self.out, &done.supernet)?;
        let counts = [&done.kept, &done.moved, &done.new, &done.dropped].map(Vec::len);
        let [kept, moved, new, dropped] = counts;
        if self.talk.json {
            output::json(&json!({
                "version": 1,
                "out": self.out.display().to_string(),
                "from": net.family.to_string(),
                "family": done.supernet.family.to_string(),
                "classes": done.supernet.classes(),
                "kept": kept,
                "moved": moved,
                "new": new,
                "dropped": dropped,
            }))
        } else {
            self.talk.note(&format!(
                    "{}: {} to {}: {kept} tensors kept, {moved} moved between plain head and last exit, {new} new, {dropped} left out",
                    self.out.display(),
                    net.family,
                    done.supernet.family
                ));
            Ok(())
        }
    }
}

/// Writes a super-network and its card; each appears whole or not at all, the card first, so that
/// weights are never without it.
fn save(file: &Path, net: &supernet::Supernet) -> Result<(), Error> {
    let bytes = net.checkpoint().to_bytes()?;
    output::file(&Card::path(file), net.card.to_json().as_bytes())?;
    output::file(file, &bytes)
}
