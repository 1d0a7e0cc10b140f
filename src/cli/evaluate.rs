//! `natv2 evaluate`: the accuracy of sub-networks on a data set.

use super::input::Archs;
use super::{Error, Globals, Images, Weights, input, output};
use crate::data::facts::shares_help;
use crate::engine::ensemble::Strategy;
use crate::engine::{Evaluation, Precision};
use crate::evaluator::{Evaluator, Options};
use crate::exit::Exit;
use crate::export::Ensemble;
use crate::run::Progress;
use crate::space::show::grouped;
use crate::space::walk::Exits;
use crate::space::{Arch, Cost, cost};
use crate::supernet::Supernet;
use clap::{ArgGroup, Args};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

const AFTER_HELP: &str = "\
Examples:
  natv2 arch sample --family SE_B --resolutions 32,40,48 --widths 0.25 -n 5 > networks.jsonl
  natv2 evaluate --archs networks.jsonl
  natv2 evaluate --weights net.safetensors --arch @network.json --data cifar10 \\
      --data-dir DATA_FOLDER --json

Before each evaluation the batch norms are recalibrated on the first --calibration-images
training images in file order, without augmentation, in batches of 100; a last partial batch is
left out. Images to measure on are taken in file order too. Networks of a run's front keep their numbers.

A stand-alone network, a file that export, finetune or run wrote, runs as it and its card say: with
the statistics that it holds, its exits as the ensemble that they are, on the data set that it was
made on. --recalibrate, or --calibration-images, recalibrates it instead; so does an --arch with
another resolution.

JSON: {\"version\":1,\"results\":[{\"number\"?,\"arch\",\"top1\",\"loss\",\"params\",\"macs\"}],\"images\",
\"calibration_images\",\"seconds\",\"device\"}, top1 in per cent, in the order asked for; in 16 bits also
\"precision\". calibration_images is 0 where the statistics are the network's own, and \"statistics\" says
then where they come from. With --exits or --ensemble, or of an ensemble, every result also has \"exits\":[{\"exit\",\"top1\",\"loss\"}];
its own top1 and loss are the ensemble's, or without one the last exit's, and its cost is that of the
network with these exits.";

/// Arguments of `natv2 evaluate`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("networks").args(["arch", "archs"]))]
pub struct Evaluate {
    #[command(flatten)]
    weights: Weights,
    /// A second super-network of another width, for architectures of that.
    #[arg(long, value_name = "FILE", requires = "weights")]
    wide_weights: Option<PathBuf>,
    /// One architecture: JSON text, or @FILE. Any resolution from 32 to 1024 [default: that of the
    /// weights, if they are those of one network].
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Many: a file with a JSON list or one architecture a line, the archive.json or front.json of a
    /// run, or a JSON list as text.
    #[arg(long, value_name = "FILE")]
    archs: Option<String>,
    #[command(flatten)]
    images: Images,
    /// A stand-alone network: recompute its batch norms' statistics on training images, as those of a
    /// super-network are, in place of those that it holds.
    #[arg(long)]
    recalibrate: bool,
    /// CIFAR: images of the validation split, the last of the training images [default: the card's,
    /// else a tenth].
    #[arg(long, value_name = "N")]
    validation_images: Option<u32>,
    #[arg(long, value_name = "SHARE", help = shares_help())]
    validation_fraction: Option<f64>,
    /// What maps are stored as while networks run: f32, f16 or bf16.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    precision: Precision,
    /// EE families: measure these exits of each network, as in 1,3,5 or all, from one pass.
    #[arg(long, value_name = "LIST")]
    exits: Option<String>,
    /// EE families: measure the exits, or those of --exits, as an ensemble weighted by one of AEP's
    /// strategies: desc, asc, unif or mix.
    #[arg(long, value_name = "STRATEGY")]
    ensemble: Option<Strategy>,
    #[command(flatten)]
    globals: Globals,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    results: Vec<Row<'a>>,
    images: usize,
    calibration_images: usize,
    seconds: f64,
    device: String,
    /// Of statistics that the weights hold: where they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<&'a str>,
    /// How the exits of a stand-alone network make one output.
    #[serde(skip_serializing_if = "Option::is_none")]
    ensemble: Option<Weighted>,
    #[serde(skip_serializing_if = "is_f32")]
    precision: Precision,
}

/// Results in f32 have the form of version 1 as it began.
fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// The ensemble that the card of a network says it is.
#[derive(Serialize)]
struct Weighted {
    strategy: Strategy,
    weights: Vec<f64>,
}

#[derive(Serialize)]
struct Row<'a> {
    /// Its number in a run's front, where it comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
    arch: &'a Arch,
    top1: f64,
    loss: f64,
    #[serde(flatten)]
    cost: Cost,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exits: Vec<ExitRow>,
}

/// Where the statistics that a network holds come from.
fn statistics(supernet: &Supernet) -> &str {
    let said = supernet.card.network.as_ref().and_then(|network| network.statistics.as_deref());
    said.unwrap_or("its card does not say from where")
}

#[derive(Serialize)]
struct ExitRow {
    exit: usize,
    top1: f64,
    loss: f64,
}

/// What was measured of a network: as a whole, and where asked for, exit by exit.
struct Measured {
    whole: Evaluation,
    exits: Vec<Evaluation>,
    set: Exits,
}

impl Measured {
    fn rows(&self) -> Vec<ExitRow> {
        let row = |(exit, result): (usize, &Evaluation)| ExitRow {
            exit: exit + 1,
            top1: result.top1(),
            loss: result.loss,
        };
        self.set.iter().zip(&self.exits).map(row).collect()
    }
}

impl Evaluate {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let options = Options {
            weights: self.weights.weights.clone(),
            wide_weights: self.wide_weights.clone(),
            family: self.weights.family,
            data: self.images.data.clone(),
            data_dir: self.images.data_dir.clone(),
            validation_images: self.validation_images.map(|n| n as usize),
            validation_fraction: self.validation_fraction,
            calibration_images: self.images.calibration_images.map(|n| n as usize),
            stored_statistics: !self.recalibrate && self.images.calibration_images.is_none(),
            precision: self.precision,
        };
        let mut evaluator = Evaluator::open(&options, self.globals.open()?)?;
        self.globals.talk.notes_of(evaluator.supernets());
        let Archs { archs, numbers } = {
            let supernet = evaluator.engine().supernet();
            match (&self.arch, &self.archs) {
                (Some(text), _) => Archs::plain(vec![input::arch(text, supernet.family)?]),
                (None, Some(text)) => input::archs(text, supernet.family)?,
                (None, None) => Archs::plain(vec![input::arch_or_own(None, supernet)?]),
            }
        };
        // Statistics are those of maps of one size.
        let sized = |(own, _): (&Arch, Exits)| archs.iter().all(|arch| arch.r == own.r);
        if !evaluator.supernets().all(|supernet| supernet.network().is_none_or(sized)) {
            evaluator = evaluator.recalibrating()?;
        }
        let supernet = evaluator.engine().supernet();
        let ensemble = self.ensemble_of(supernet, &archs);

        let talk = self.globals.talk;
        let count = self.images.images.map(|n| n as usize);
        let set_of = |arch: &Arch| match (&ensemble, supernet.network()) {
            (Some(_), Some((_, own))) => Ok(own),
            _ => input::exits(self.exits.as_deref(), self.ensemble, "--exits", arch, supernet),
        };
        let sets: Vec<Exits> = archs.iter().map(set_of).collect::<Result<_, _>>()?;
        if let Some(note) = evaluator.few_values(archs.iter().zip(sets.iter().copied()))? {
            talk.note(&format!("note: {note}"));
        }
        let progress = Progress::start(talk.progress(), "evaluating", 0, archs.len() as u64);
        let done = |_: usize, results: &[Evaluation]| {
            if let Some(result) = results.last() {
                progress.message(format!("last {:.2} %", result.top1()));
            }
            progress.advance(1);
        };
        let started = Instant::now();
        let mut saving = None;
        let measured: Vec<Measured> = if self.ensemble.is_some() || ensemble.is_some() {
            let one = |(index, (arch, &set)): (usize, (_, &Exits))| {
                let given = self.ensemble.map(|strategy| strategy.weights(set.len()).beta);
                let beta = given.as_ref().or(ensemble.as_ref().map(|own| &own.weights));
                let beta = beta.map(|weights| &weights[..]);
                let result = evaluator.evaluate_exits(arch, set, beta, self.images.split, count)?;
                // The network answers with its ensemble, or with its last exit.
                let whole = result.ensemble.unwrap_or(result.exits[result.exits.len() - 1]);
                done(index, &[whole]);
                Ok::<_, Error>(Measured { whole, exits: result.exits, set })
            };
            archs.iter().zip(&sets).enumerate().map(one).collect::<Result<_, _>>()?
        } else {
            let networks: Vec<(Arch, Exits)> = archs.iter().cloned().zip(sets.iter().copied()).collect();
            let found =
                evaluator.evaluate_population(&networks, self.images.split, count, &|| false, &done)?;
            saving = found.as_ref().map(|population| population.saving);
            // Nothing asks for a stop, so there always are results; a network answers with its last.
            let results = found.map(|population| population.results).unwrap_or_default().into_iter();
            let one = |(exits, &set): (Vec<Evaluation>, _)| {
                let whole = *exits.last()?;
                Some(Measured { whole, exits: if self.exits.is_some() { exits } else { Vec::new() }, set })
            };
            results.zip(&sets).filter_map(one).collect()
        };
        let seconds = started.elapsed().as_secs_f64();
        progress.finish();
        if let Some(saving) = saving.filter(|saving| saving.distinct < saving.executions) {
            talk.note(&saving.to_string());
        }

        let row = |((arch, &number), measured): ((_, &Option<usize>), &Measured)| Row {
            number,
            arch,
            top1: measured.whole.top1(),
            loss: measured.whole.loss,
            cost: cost(
                evaluator.engine_of(arch).supernet().channels(),
                arch,
                measured.set,
                supernet.classes(),
            ),
            exits: measured.rows(),
        };
        let report = Report {
            version: 1,
            results: archs.iter().zip(&numbers).zip(&measured).map(row).collect(),
            images: measured.first().map_or(0, |measured| measured.whole.images),
            calibration_images: evaluator.calibration_images(),
            seconds,
            device: evaluator.engine().device().describe(),
            statistics: (evaluator.calibration_images() == 0).then(|| statistics(supernet)),
            ensemble: ensemble.map(|Ensemble { strategy, weights }| Weighted { strategy, weights }),
            precision: self.precision,
        };
        if talk.json {
            output::json(&report)?
        } else {
            output::print(&self.table(&report, evaluator.dataset().name()))?
        }
        Ok(Exit::Done)
    }

    /// The ensemble that a stand-alone network is, where nothing else is asked of its exits.
    fn ensemble_of(&self, supernet: &Supernet, archs: &[Arch]) -> Option<Ensemble> {
        let (own, _) = supernet.network().filter(|_| self.exits.is_none() && self.ensemble.is_none())?;
        let alike = |arch: &Arch| Arch { r: own.r, w: own.w, ..arch.canonical() } == own.canonical();
        archs.iter().all(alike).then(|| Ensemble::said_by(supernet.card.network.as_ref()?)).flatten()
    }

    fn table(&self, report: &Report<'_>, dataset: &str) -> String {
        let mut out = format!(
            "{} {} images of {dataset}, {}{}; {:.2} s on {}{}\n\n",
            report.images,
            self.images.split,
            match report.statistics {
                Some(statistics) => format!("with the network's own statistics ({statistics})"),
                None => format!("recalibrated on {} training images", report.calibration_images),
            },
            report
                .ensemble
                .as_ref()
                .map(|Weighted { strategy, weights }| {
                    let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
                    format!(", exits as an ensemble ({}: {})", strategy.as_str(), weights.join(", "))
                })
                .unwrap_or_default(),
            report.seconds,
            report.device,
            match report.precision {
                Precision::F32 => String::new(),
                other => format!(" in {other}"),
            }
        );
        let early_exits = report.results.first().is_some_and(|row| row.arch.family.early_exits);
        let exit = |text: String| if early_exits { format!(" {text:>4}") } else { String::new() };
        let header = exit("exit".into());
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:>5} {:>5}{header}  {:<10} {:>12} {:>14} {:>8} {:>8}",
            "#", "r", "depths", "parameters", "MACs", "top-1 %", "loss"
        );
        let numbered = report.results.iter().any(|row| row.number.is_some());
        for (index, row) in report.results.iter().enumerate() {
            let place = row.number.or((!numbered).then_some(index + 1));
            let depths: Vec<String> = row.arch.d[..row.arch.stages()].iter().map(u8::to_string).collect();
            let _ = writeln!(
                out,
                "{:>5} {:>5}{}  {:<10} {:>12} {:>14} {:>8.2} {:>8.4}",
                place.map_or("-".into(), |number| number.to_string()),
                row.arch.r,
                exit(row.arch.nd.to_string()),
                depths.join(","),
                grouped(row.cost.params),
                grouped(row.cost.macs),
                row.top1,
                row.loss
            );
            for exit in &row.exits {
                let _ = writeln!(
                    out,
                    "{:>11} {:>4}  {:<10} {:>12} {:>14} {:>8.2} {:>8.4}",
                    "", exit.exit, "", "", "", exit.top1, exit.loss
                );
            }
        }
        out
    }
}
