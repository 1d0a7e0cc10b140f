//! `natv2 run`: the whole method in one run directory.

use super::budget::Budget;
use super::session::Session;
use super::{Error, finetune, output, search, train};
use crate::config::{Config, Exits};
use crate::exit::Exit;
use crate::pipeline::found::Weights;
use crate::pipeline::whole::REPORT_FILE;
use crate::pipeline::{Outcome, Summary, begin, whole};
use crate::run::StopFlag;
use crate::shown;
use clap::Args;
use std::fmt::Write;
use std::path::Path;

const AFTER_HELP: &str = "\
Examples:
  natv2 run                                      everything on the built-in digits, minutes on two cores
  natv2 run --set supernet.family=EE_D --set finetune.exits=unif     early exits, ensembles in the end
  natv2 run configs/cifar10.toml --set data.dir=DATA_FOLDER --set supernet.weights=pretrained.safetensors
                                                 NATv2 as published, on a target data set
  natv2 run --precision bf16 ...                 every stage in 16 bits, weights in f32

Stages: a super-network is trained from random weights, or the one given is warmed up on the data set
if it comes from another (run.warmup); the search adapts it; the networks with the best trade-offs and the
most accurate one (finetune.pick) are fine-tuned, or kept where that makes them no better, and written for
onnxruntime; the report shows it all. Each stage is the one of `natv2 train`, `search` and `finetune` with the
same settings.
Files in the run directory: supernet.safetensors, training.json, archive.json, front.json,
adapted.safetensors, finetuned.json, network-N.safetensors and network-N.onnx, report.html, config.toml,
journal.jsonl, TensorBoard events. Stop it at any time (Ctrl-C); the same command goes on, and ends with
the same bits.

JSON: what `natv2 search` prints, with \"training\" as `natv2 train` prints it, where there was one,
\"networks\" as `natv2 finetune` prints them, and \"exported\", their ONNX files.";

/// Arguments of `natv2 run`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Run {
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    budget: Budget,
}

impl Run {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let talk = self.session.globals.talk;
        let stop = StopFlag::install()?;
        let (config, place) = self.budget.resolve(&self.session, "run")?;
        let device = self.session.globals.open()?;
        let start = begin(&config, place.path(), &device)?;
        let directory = place.enter(&config)?;
        talk.note(&format!("run directory: {}", directory.path().display()));
        match whole(&config, start, &device, &directory, &stop, talk.progress())? {
            Outcome::Stopped => Ok(self.budget.stopped(&stop, &talk, &config)),
            Outcome::Finished(summary) => {
                if talk.json {
                    output::json(&summary)?
                } else {
                    output::print(&text(&summary, &config))?
                }
                Ok(Exit::Done)
            }
        }
    }
}

/// The first network of the front that was not picked.
fn left_out(summary: &Summary) -> Option<usize> {
    let picked = |number: &usize| summary.networks.iter().any(|network| network.number == *number);
    summary.search.front.iter().filter_map(|network| network.number).filter(|number| !picked(number)).min()
}

/// What each stage came to, where everything is, and what to do next.
fn text(summary: &Summary, config: &Config) -> String {
    let run = &summary.search.run;
    let mut out = String::new();
    if let Some(training) = &summary.training {
        out += &train::table(training);
        out.push('\n');
    }
    out += &search::table(&summary.search, &config.search.objectives);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "hypervolume {:.5} after {} evaluations\n\nFine-tuned ({} networks)\n",
        summary.search.hypervolume,
        summary.search.evaluations,
        summary.networks.len()
    );
    out += &finetune::table(&summary.networks);
    out += &finetune::picks(&summary.networks, &config.finetune);
    if let Some(other) = left_out(summary) {
        let weights = Weights::found(Path::new(run), config);
        let commands = weights.commands(Path::new(run), config, true);
        let exits = Some(config.finetune.exits).filter(|&exits| exits != Exits::Single);
        let _ = writeln!(out, "        {}", commands.finetune(other).set("finetune.exits", exits));
    }
    let files: Vec<String> = summary.exported.iter().map(|file| format!("{run}/{file}")).collect();
    let _ = writeln!(out, "\nnetworks for onnxruntime: {}", files.join(" "));
    let _ = writeln!(out, "report: {run}/{REPORT_FILE} (open it in a browser)");
    if let Some(network) = summary.networks.first() {
        let file = Path::new(run).join(&network.weights);
        let _ = writeln!(out, "next: {}", shown::evaluate_network(&file));
    }
    out
}
