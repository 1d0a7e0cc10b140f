//! `natv2 export`: a network written to a file of its own.

use super::session::stored;
use super::{Error, Globals, input, output};
use crate::data::NAMES;
use crate::data::facts::listed;
use crate::engine::Precision;
use crate::engine::ensemble::Strategy;
use crate::evaluator::{Evaluator, Options};
use crate::exit::Exit;
use crate::export::{self, Accuracies, Ensemble, NetworkState, onnx};
use crate::pipeline::found::Weights;
use crate::pipeline::networks::{Chosen, Networks};
use crate::pipeline::standing::nothing_found;
use crate::shown;
use crate::space::show::grouped;
use crate::space::walk::Exits;
use crate::space::{Arch, Family, cost};
use crate::supernet::{Card, Network, Supernet};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  natv2 export --run runs/digits --network 3 --out net.onnx
  natv2 export --run runs/digits --network 3 --out net.safetensors
  natv2 export --run runs/digits --network 3 --inherited --out before.onnx   as the super-network has it
  natv2 export --weights ee.safetensors --arch @network.json --aep asc --out ensemble.onnx
  natv2 evaluate --weights net.safetensors                       a stand-alone network runs like any
  natv2 export --weights net.safetensors --out net.onnx          and is exported with its statistics

A network of a run is written in its best state: fine-tuned, with its exits and their weights, where the run
fine-tuned it, else as the super-network has it; \"state\" says which (fine-tuned, inherited).

Batch-norm statistics are recalibrated on the data set, as evaluate does, and stored in the file;
those of a stand-alone or fine-tuned network are taken as they are, unless a data set is named.

safetensors: tensors under the names of once-for-all's static networks, and a card NAME.card.json
that describes them. onnx: opset 17, input `images` [batch, 3, r, r] (RGB scaled to 0..1, less mean,
over std), output `logits` [batch, classes]; the card is in the metadata. To run one:

  import numpy, onnxruntime
  session = onnxruntime.InferenceSession(\"net.onnx\")
  logits = session.run([\"logits\"], {\"images\": images.astype(numpy.float32)})[0]

JSON: {\"version\":1,\"out\",\"card\"?,\"format\",\"bytes\",\"number\"?,\"state\"?,\"family\",\"arch\",\"exits\",
\"aep\"?,\"exit_weights\"?,\"params\",\"macs\",\"top1\"?,\"statistics\",\"classes\",\"outputs\"?,\"folded\"?}";

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
    /// The network as the super-network has it, whether the run fine-tuned it or not.
    #[arg(long, requires = "run")]
    inherited: bool,
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
    /// File to write; it appears whole or not at all, and replaces one that is there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Nothing any more, since files that are there are replaced without it; scripts may still say it.
    #[arg(long = "force", hide = true)]
    _force: bool,
    /// EE families: the exits that the network has, as in 1,3 or all; it ends at the last [default:
    /// the architecture's]. Of an ensemble they keep their weights, scaled to sum to one.
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
    #[arg(
        long,
        value_name = "NAME",
        help = format!("Data set to recalibrate on: {} [default: the run's, else the card's]", listed(NAMES))
    )]
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

/// What is exported.
struct Source {
    number: Option<usize>,
    state: Option<NetworkState>,
    arch: Arch,
    supernet: Supernet,
    known: Accuracies,
    /// Weights and data, over which flags go.
    options: Options,
}

impl Export {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let format = self.format()?;
        self.check_files(format)?;
        let Source { number, state, mut arch, supernet, mut known, options } = self.source()?;
        self.globals.talk.notes_of([&supernet]);
        let options = self.over(options);
        let exits = self.exits(&arch, &supernet)?;
        let named = self.data.is_some() || self.data_dir.is_some() || self.calibration_images.is_some();
        // The network ends at its last exit; with other exits, or other data, its accuracy is another.
        if exits != Exits::single(&arch) || named || self.stored_statistics {
            known = Accuracies::default();
        }
        if arch.family.early_exits {
            arch.nd = exits.last() as u8 + 1;
        }

        let mut network = Network::extract(&supernet, &arch, exits)?;
        if let Some(state) = state {
            state.mark(&mut network.weights_mut().card);
        }
        let own = supernet.network();
        let same = own.is_some_and(|(own, _)| own.r == arch.r);
        if self.stored_statistics || (same && !named) {
            export::probe::check(&network)?;
            if let Some(card) = &mut network.weights_mut().card.network {
                card.statistics.get_or_insert_with(|| "as the weights held them".into());
            }
        } else {
            let evaluator = Evaluator::open(&options, self.globals.open()?)?;
            if let Some(note) = evaluator.few_values([(network.arch(), network.exits())])? {
                self.globals.talk.note(&format!("note: {note}"));
            }
            export::prepare(&mut network, &evaluator)?;
        }
        let own = supernet.card.network.as_ref().filter(|_| own.is_some());
        let own = own.and_then(|card| Ensemble::said_by(card)?.keeping(card.exits, exits));
        let ensemble = self.aep.map(|strategy| Ensemble::new(strategy, network.exits().len())).or(own);
        export::describe(&mut network, ensemble.as_ref(), known);
        self.write(format, &network, ensemble, number)
    }

    /// The network of a run, or that of weights.
    fn source(&self) -> Result<Source, Error> {
        if let (Some(run), Some(id)) = (&self.run, &self.network) {
            let stored = stored(run, &self.globals.talk)?;
            let given = self.stored_statistics || self.data.is_some() || self.data_dir.is_some();
            let data = stored.config.data.dir.as_deref().filter(|_| !given);
            stored.check(Weights::found(run, &stored.config).files().chain(data))?;
            let networks = Networks::open(run, &stored.config)?;
            if networks.is_empty() {
                return Err(Error::Usage(nothing_found(run, &stored)?));
            }
            let Chosen { number, state, arch, supernet, weights, known } =
                named(&networks, id.trim(), self.inherited)?;
            let family = supernet.network().is_none().then_some(networks.options().family).flatten();
            let options =
                Options { weights: weights.narrow, wide_weights: weights.wide, family, ..networks.options() };
            return Ok(Source { number, state: Some(state), arch, supernet, known, options });
        }
        let supernet = Supernet::open(self.weights.as_deref(), self.family)?;
        let arch = input::arch_or_own(self.arch.as_deref(), &supernet)?;
        let state = match supernet.network() {
            Some(_) => NetworkState::of(&supernet.card),
            None => Some(NetworkState::Inherited),
        };
        let options = Options { weights: self.weights.clone(), family: self.family, ..Options::default() };
        Ok(Source { number: None, state, arch, supernet, known: Accuracies::default(), options })
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
        std::iter::once(self.out.clone()).chain(card).try_for_each(|file| output::check_file(&file))
    }

    /// Weights and data with what flags say over them.
    fn over(&self, from: Options) -> Options {
        Options {
            data: self.data.clone().or(from.data),
            data_dir: self.data_dir.clone().or(from.data_dir),
            calibration_images: self.calibration_images.map(|n| n as usize).or(from.calibration_images),
            // Exported networks are f32, and so are the statistics that they take along.
            precision: Precision::F32,
            ..from
        }
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

    fn write(
        &self,
        format: Format,
        network: &Network,
        ensemble: Option<Ensemble>,
        number: Option<usize>,
    ) -> Result<Exit, Error> {
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
            output::file(&card, weights.card.to_json().as_bytes())?;
        }
        output::file(&self.out, &bytes)?;

        let cost = cost(weights.channels(), arch, exits, weights.classes());
        let facts = weights.card.network.as_ref();
        let statistics = facts.and_then(|facts| facts.statistics.as_deref()).unwrap_or_default();
        let state = NetworkState::of(&weights.card);
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
            put("number", number.map(|number| json!(number)));
            put("state", state.map(|state| json!(state)));
            put("card", (!onnx).then(|| json!(card.display().to_string())));
            put("outputs", onnx.then(|| json!(options.outputs(exits))));
            put("folded", onnx.then(|| json!(options.fold)));
            put("aep", ensemble.map(|ensemble| json!(ensemble.strategy)));
            put("exit_weights", beta.map(|beta| json!(beta)));
            put("top1", top1.cloned());
            output::json(&report)?;
            return Ok(Exit::Done);
        }
        let exits = if arch.family.early_exits {
            format!(", exits {}", numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
        } else {
            String::new()
        };
        let mut text = format!(
            "{out}: {} at {} px{exits}, {} parameters, {} MACs, {} bytes\nstatistics: {statistics}\n",
            arch.family,
            arch.r,
            grouped(cost.params),
            grouped(cost.macs),
            grouped(bytes.len() as u64),
        );
        if let Some(state) = state {
            let number = number.map(|number| format!("network {number}, ")).unwrap_or_default();
            text += &format!("state: {number}{state}\n");
        }
        text += &match format {
            Format::Safetensors => {
                format!("card: {}\nnext: {}\n", card.display(), shown::evaluate_network(&self.out))
            }
            Format::Onnx => format!(
                "outputs: {}\nnext: {}\n",
                options.outputs(network.exits()).join(", "),
                shown::describe_onnx(&self.out)
            ),
        };
        output::print(&text)?;
        Ok(Exit::Done)
    }
}

/// The network of a run that `id` names.
fn named(networks: &Networks, id: &str, inherited: bool) -> Result<Chosen, Error> {
    if let Ok(number) = id.parse::<usize>() {
        return Ok(networks.numbered(number, inherited)?);
    }
    let space = networks.space();
    let genes = id.contains('-') && id.split('-').all(|gene| gene.parse::<u8>().is_ok());
    let arch = if genes || id.starts_with('[') {
        let text = if genes { format!("[{}]", id.replace('-', ",")) } else { id.to_string() };
        let genes = input::genotype(&text)?;
        space.decode_genes(&genes).map_err(Error::given("--network"))?
    } else if id.starts_with(['{', '@']) {
        input::arch(id, space.family())?
    } else {
        return Err(Error::Usage(format!(
            "--network {id}: give a number of the front, a genotype such as [2,0,9,..] or an architecture"
        )));
    };
    Ok(networks.with(&arch, inherited)?)
}
