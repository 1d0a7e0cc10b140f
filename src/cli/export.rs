//! `natv2 export`: a network written to a file of its own.

use super::session::stored_config;
use super::{Error, Globals, input, output};
use crate::engine::Precision;
use crate::engine::ensemble::Strategy;
use crate::evaluator::{Evaluator, Options};
use crate::export::{self, Accuracies, Ensemble, onnx};
use crate::pipeline::{self, found::Weights};
use crate::run::{self, Exit, write_atomic};
use crate::space::show::grouped;
use crate::space::walk::Exits;
use crate::space::{Arch, Family, Space, cost};
use crate::supernet::{Card, Network, Supernet, of_width};
use crate::train;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  natv2 export --run runs/digits --network 3 --out net.onnx
  natv2 export --run runs/digits --network 3 --out net.safetensors
  natv2 export --weights ee.safetensors --arch @network.json --aep asc --out ensemble.onnx
  natv2 evaluate --weights net.safetensors                       a stand-alone network runs like any
  natv2 export --weights net.safetensors --out net.onnx          and is exported with its statistics

Batch-norm statistics are recalibrated on the data set, as evaluate does, and stored in the file;
those of a stand-alone network are taken as they are, unless a data set is named.

safetensors: tensors under the names of once-for-all's static networks, and a card NAME.card.json
that describes them. onnx: opset 17, input `images` [batch, 3, r, r] (RGB scaled to 0..1, less mean,
over std), output `logits` [batch, classes]; the card is in the metadata. To run one:

  import numpy, onnxruntime
  session = onnxruntime.InferenceSession(\"net.onnx\")
  logits = session.run([\"logits\"], {\"images\": images.astype(numpy.float32)})[0]

JSON: {\"version\":1,\"out\",\"card\"?,\"format\",\"bytes\",\"family\",\"arch\",\"exits\",\"aep\"?,
\"exit_weights\"?,\"params\",\"macs\",\"top1\"?,\"statistics\",\"classes\",\"outputs\"?,\"folded\"?}";

/// Arguments of `natv2 export`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Export {
    /// Run directory of a search, whose weights and data are used.
    #[arg(long = "run", value_name = "DIR", requires = "network", conflicts_with_all = ["weights", "family", "arch"])]
    run: Option<PathBuf>,
    /// Network of the run: its number in the table that `natv2 search` prints (by MACs, from 1), its
    /// genotype ([2,0,9,..] or 2-0-9-..), or an architecture (JSON text, or @FILE).
    #[arg(long, value_name = "ID", requires = "run")]
    network: Option<String>,
    /// Super-network or stand-alone network, without a run [default: the built-in one, trained on the
    /// digits].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Family of the network, such as SE_B or EE_D [default: the card's, else what the tensors serve].
    #[arg(long, value_name = "FAMILY")]
    family: Option<Family>,
    /// Architecture, without a run: JSON text, or @FILE [default: that of a stand-alone network].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Form of the file [default: by the ending of --out].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// File to write; it appears whole or not at all.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// EE families: the exits that the network has, as in 1,3 or all; it ends at the last [default:
    /// the architecture's].
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// EE families: weigh the exits, or those of --exits, into one output: desc, asc, unif or mix
    /// (AEP's strategies).
    #[arg(long, visible_alias = "ensemble", value_name = "STRATEGY")]
    aep: Option<Strategy>,
    /// onnx: the logits of every exit are outputs too, exit_1 and so on.
    #[arg(long)]
    each_exit: bool,
    /// onnx: fold batch norms into the convolutions before them [default].
    #[arg(long, overrides_with = "no_fold")]
    fold: bool,
    /// onnx: keep batch norms as operators of their own.
    #[arg(long)]
    no_fold: bool,
    /// Take the batch-norm statistics that the weights hold; no data set is needed.
    #[arg(long, conflicts_with_all = ["data", "data_dir", "calibration_images"])]
    stored_statistics: bool,
    /// Data set to recalibrate on: digits, cifar10, cifar100, tiny-imagenet or image-folder [default:
    /// the run's, else the card's].
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Its folder, or the parent of that; digits needs none.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Recalibrate on the first N training images [default: the run's, else the card's, else the data
    /// set's usual number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_images: Option<u32>,
    #[command(flatten)]
    globals: Globals,
}

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Format {
    /// Tensors, and a card beside them; natv2 reads it again.
    Safetensors,
    /// For onnxruntime and other programs.
    Onnx,
}

/// A network of a run, and what the run knows of it.
struct Chosen {
    arch: Arch,
    known: Accuracies,
}

impl Export {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let format = self.format()?;
        self.check_files(format)?;
        let options = self.options()?;
        let weights = Weights { narrow: options.weights.clone(), wide: options.wide_weights.clone() };
        let (supernets, space) = weights.load(options.family)?;
        let Some(narrow) = supernets.first() else { return Err(train::Error::NoSupernet.into()) };
        let mut chosen = match (&self.run, &self.network) {
            (Some(run), Some(id)) => choose(run, id, &space)?,
            _ => Chosen {
                arch: input::arch_or_own(self.arch.as_deref(), narrow)?,
                known: Accuracies::default(),
            },
        };
        let supernet = of_width(&supernets, &chosen.arch).unwrap_or(narrow);
        let exits = self.exits(&chosen.arch, supernet)?;
        let named = self.data.is_some() || self.data_dir.is_some() || self.calibration_images.is_some();
        // The network ends at its last exit; with other exits, or other data, its accuracy is another.
        if exits != Exits::single(&chosen.arch) || named || self.stored_statistics {
            chosen.known = Accuracies::default();
        }
        if chosen.arch.family.early_exits {
            chosen.arch.nd = exits.last() as u8 + 1;
        }

        let mut network = Network::extract(supernet, &chosen.arch, exits)?;
        let own = supernet.network();
        let same = own.is_some_and(|(arch, _)| arch.r == chosen.arch.r);
        match self.stored_statistics || (same && !named) {
            true => {
                if let Some(card) = &mut network.weights_mut().card.network {
                    card.statistics.get_or_insert_with(|| "as the weights held them".into());
                }
            }
            false => export::prepare(&mut network, &Evaluator::open(&options, self.globals.open()?)?)?,
        }
        let own = Ensemble::of(&network).filter(|_| self.exits.is_none());
        let ensemble = self.aep.map(|strategy| Ensemble::new(strategy, network.exits().len())).or(own);
        export::describe(&mut network, ensemble.as_ref(), chosen.known);
        self.write(format, &network, ensemble)
    }

    fn format(&self) -> Result<Format, Error> {
        let ending = self.out.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let format = match (self.format, ending.as_deref()) {
            (Some(format), _) => format,
            (None, Some("onnx")) => Format::Onnx,
            (None, Some("safetensors")) => Format::Safetensors,
            _ => {
                let out = self.out.display();
                return Err(Error::Usage(format!("--out {out}: say --format safetensors or --format onnx")));
            }
        };
        let only_onnx = [(self.each_exit, "--each-exit"), (self.fold, "--fold"), (self.no_fold, "--no-fold")];
        match only_onnx.iter().find(|(given, _)| *given && format == Format::Safetensors) {
            Some((_, flag)) => Err(Error::Usage(format!("{flag} is for --format onnx: leave it out"))),
            None => Ok(format),
        }
    }

    fn check_files(&self, format: Format) -> Result<(), Error> {
        let card = (format == Format::Safetensors).then(|| Card::path(&self.out));
        let files = std::iter::once(self.out.clone()).chain(card);
        match files.into_iter().find(|file| !self.force && file.exists()) {
            Some(file) => {
                let file = file.display();
                Err(Error::Usage(format!("{file} is there already: choose another name, or --force")))
            }
            None => Ok(()),
        }
    }

    /// Weights and data: the run's, over which flags go.
    fn options(&self) -> Result<Options, Error> {
        let from = match &self.run {
            Some(run) => {
                let config = stored_config(run)?;
                let Weights { narrow, wide } = Weights::found(run, &config);
                Options { weights: narrow, wide_weights: wide, ..pipeline::options(&config)? }
            }
            None => Options { weights: self.weights.clone(), family: self.family, ..Options::default() },
        };
        Ok(Options {
            data: self.data.clone().or(from.data),
            data_dir: self.data_dir.clone().or(from.data_dir),
            calibration_images: self.calibration_images.map(|n| n as usize).or(from.calibration_images),
            // Exported networks are f32, and so are the statistics that they take along.
            precision: Precision::F32,
            ..from
        })
    }

    /// The exits that the exported network has: those asked for, else those of a stand-alone network.
    fn exits(&self, arch: &Arch, supernet: &Supernet) -> Result<Exits, Error> {
        match supernet.network() {
            Some((own, exits)) if self.exits.is_none() && self.aep.is_none() && own.nd == arch.nd => {
                Ok(exits)
            }
            _ => input::exits(self.exits.as_deref(), self.aep, "--exits", arch, supernet),
        }
    }

    fn write(&self, format: Format, network: &Network, ensemble: Option<Ensemble>) -> Result<Exit, Error> {
        let (arch, exits, weights) = (network.arch(), network.exits(), network.weights());
        let beta = ensemble.as_ref().map(|ensemble| ensemble.weights.clone());
        let options = onnx::Options {
            fold: !self.no_fold,
            weights: beta.clone(),
            each_exit: self.each_exit || (exits.len() > 1 && ensemble.is_none()),
        };
        let onnx = format == Format::Onnx;
        let card = Card::path(&self.out);
        let bytes = match format {
            Format::Onnx => onnx::model(network, &options, &export::metadata(network))?,
            Format::Safetensors => network.checkpoint().to_bytes()?,
        };
        if !onnx {
            // The card first, so that weights are never without it.
            write(&card, weights.card.to_json().as_bytes())?;
        }
        write(&self.out, &bytes)?;

        let cost = cost(weights.channels(), arch, exits, weights.classes());
        let facts = weights.card.network.as_ref();
        let statistics = facts.and_then(|facts| facts.statistics.as_deref()).unwrap_or_default();
        let top1 = facts.and_then(|facts| facts.other.get("top1"));
        let numbers: Vec<usize> = exits.iter().map(|exit| exit + 1).collect();
        let out = self.out.display();
        if self.globals.talk.json {
            let mut report = json!({
                "version": 1,
                "out": out.to_string(),
                "format": if onnx { "onnx" } else { "safetensors" },
                "bytes": bytes.len(),
                "family": arch.family.to_string(),
                "arch": arch,
                "exits": numbers,
                "params": cost.params,
                "macs": cost.macs,
                "statistics": statistics,
                "classes": weights.classes(),
            });
            let mut put = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    report[key] = value;
                }
            };
            put("card", (!onnx).then(|| json!(card.display().to_string())));
            put("outputs", onnx.then(|| json!(options.outputs(exits))));
            put("folded", onnx.then(|| json!(options.fold)));
            put("aep", ensemble.map(|ensemble| json!(ensemble.strategy)));
            put("exit_weights", beta.map(|beta| json!(beta)));
            put("top1", top1.cloned());
            output::json(&report)?;
            return Ok(Exit::Done);
        }
        let exits = match arch.family.early_exits {
            true => format!(", exits {}", numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
            false => String::new(),
        };
        let mut text = format!(
            "{out}: {} at {} px{exits}, {} parameters, {} MACs, {} bytes\nstatistics: {statistics}\n",
            arch.family,
            arch.r,
            grouped(cost.params),
            grouped(cost.macs),
            grouped(bytes.len() as u64),
        );
        text += &match format {
            Format::Safetensors => {
                format!("card: {}\nnext: natv2 evaluate --weights {out}\n", card.display())
            }
            Format::Onnx => format!(
                "outputs: {}\nnext: python3 -c 'import onnxruntime as o; s = o.InferenceSession(\"{out}\"); \
                 print(s.get_inputs()[0].shape, s.get_modelmeta().custom_metadata_map)'\n",
                options.outputs(network.exits()).join(", ")
            ),
        };
        output::print(&text)?;
        Ok(Exit::Done)
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomic(file, bytes).map_err(|error| Error::Output {
        file: file.into(),
        reason: match error {
            run::Error::NoSpace { source, .. }
            | run::Error::ReadOnly { source, .. }
            | run::Error::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        },
    })
}

/// The networks of a file of a run; none where the run has no such file yet.
fn networks(file: &Path) -> Result<Vec<Value>, Error> {
    let fail = |reason: String| Error::Inputs { file: file.into(), reason };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(format!("cannot be read: {error}"))),
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| fail(format!("is damaged: {e}")))?;
    match &value["networks"] {
        Value::Array(networks) => Ok(networks.clone()),
        _ => Err(fail("has no list `networks`: is it a file of `natv2 search`?".into())),
    }
}

/// The network of a run that `id` names.
fn choose(run: &Path, id: &str, space: &Space) -> Result<Chosen, Error> {
    let (family, id) = (space.family(), id.trim());
    let mut front = networks(&run.join("front.json"))?;
    // In the order of the table that the search prints.
    let genotype = |network: &Value| -> Vec<u64> {
        network["genotype"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    front.sort_by_key(|network| (network["macs"].as_u64(), genotype(network)));
    let known = |network: Option<&Value>| {
        let number = |key: &str| network.and_then(|network| network[key].as_f64());
        Accuracies { validation: number("top1"), test: number("test_top1") }
    };
    let place = |what: &str| format!("{}, {what}", run.join("front.json").display());
    if let Ok(number) = id.parse::<usize>() {
        let network = number.checked_sub(1).and_then(|index| front.get(index)).ok_or_else(|| {
            Error::Usage(match front.len() {
                0 => format!(
                    "{}: the run has no front yet: let the search finish its first iteration",
                    run.display()
                ),
                count => format!("--network {number}: the front has networks 1 to {count}"),
            })
        })?;
        let arch = Arch::from_json(family, &network["arch"])
            .map_err(|source| Error::Given { place: place(&format!("network {number}")), source })?;
        return Ok(Chosen { arch, known: known(Some(network)) });
    }
    let genes = id.contains('-') && id.split('-').all(|gene| gene.parse::<u8>().is_ok());
    let arch = if genes || id.starts_with('[') {
        let text = if genes { format!("[{}]", id.replace('-', ",")) } else { id.to_string() };
        let genes = input::genotype(&text)?;
        space.decode_genes(&genes).map_err(|source| Error::Given { place: "--network".into(), source })?
    } else if id.starts_with(['{', '@']) {
        input::arch(id, family)?
    } else {
        return Err(Error::Usage(format!(
            "--network {id}: give a number of the front, a genotype such as [2,0,9,..] or an architecture"
        )));
    };
    // What the run has measured of it.
    let archive = networks(&run.join("archive.json"))?;
    let alike = |network: &&Value| {
        let other = Arch::from_json(family, &network["arch"]);
        // One that was given without a width is of the only one.
        other.is_ok_and(|other| Arch { w: arch.w.and(other.w), ..other } == arch)
    };
    let found = front.iter().chain(&archive).find(alike);
    Ok(Chosen { known: known(found), arch })
}
