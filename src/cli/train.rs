//! `natv2 train`: a super-network, from random weights or from a checkpoint, through all phases.

use super::budget::Budget;
use super::session::Session;
use super::{Error, output};
use crate::exit::Exit;
use crate::pipeline::found::Weights;
use crate::pipeline::training::{Stage, Trained, prepare};
use crate::run::StopFlag;
use crate::shown;
use crate::space::show::grouped;
use crate::train::results::{self, Measured, Summary};
use clap::Args;
use std::fmt::Write;

const AFTER_HELP: &str = "\
Examples:
  natv2 train                                    the built-in digits, a minute or two
  natv2 train --set data.name=cifar10 --set data.dir=DATA_FOLDER \\
      --set supernet.family=EE_D --set supernet.width=0.25 --run runs/ee-d
  natv2 train --set supernet.weights=net.safetensors --set train.schedule=target ...
                                                 warm up trained weights on another data set
  natv2 train --minutes 20 --set data.name=cifar10 --set data.dir=DATA_FOLDER
                                                 as many epochs as fit into 20 minutes here
  natv2 train --precision bf16 ...               maps and their gradients in 16 bits, weights in f32

Phases are those of a schedule (train.schedule: eps, ofa, full, target, sandwich) or your own ([[train.phases]]
in the configuration). Files in the run directory: supernet.safetensors with its card at the end,
training.json, journal.jsonl, TensorBoard events, checkpoints. Stop it at any time (Ctrl-C); the same
command goes on, and ends with the same bits.

JSON: {\"version\":1,\"run\",\"weights\",\"family\",\"steps\",\"rollbacks\",\"split\",\"smallest\",\"largest\",
\"random\":[{\"arch\",\"top1\",\"loss\",\"params\",\"macs\"}],\"epochs\":[..]}, accuracies in per cent.";

/// Arguments of `natv2 train`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Train {
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    budget: Budget,
}

impl Train {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let talk = self.session.globals.talk;
        let stop = StopFlag::install()?;
        let (config, place) = self.budget.resolve(&self.session, "train")?;
        let prepared = prepare(&config, Stage::Train)?;
        let device = self.session.globals.open()?;
        let directory = place.enter(&config)?;
        let path = directory.path().display().to_string();
        talk.note(&format!("run directory: {path}"));
        let Some(trained) = prepared.run(&device, &directory, &stop, talk.progress())? else {
            return Ok(self.budget.stopped(&stop, &talk, &config));
        };
        if talk.json {
            let mut value = serde_json::to_value(&trained).expect("a summary is JSON");
            value["run"] = path.clone().into();
            value["weights"] = format!("{path}/{}", results::WEIGHTS_FILE).into();
            output::json(&value)?;
        } else {
            let weights = format!("{path}/{}", results::WEIGHTS_FILE);
            let table = table(&trained);
            let Weights { narrow, wide } = Weights::trained(directory.path(), &config);
            let narrow = narrow.unwrap_or_else(|| weights.clone().into());
            let next = shown::search_of(&config, &narrow, wide.as_deref());
            output::print(&format!("{table}\nweights: {weights}\nnext: {next}\n"))?;
        }
        Ok(Exit::Done)
    }
}

/// The accuracies as a table.
pub(super) fn table(trained: &Trained) -> String {
    let wide = trained.wide.as_ref().map(|summary| format!("\n{}", table_of(summary)));
    table_of(&trained.summary) + &wide.unwrap_or_default()
}

fn table_of(summary: &Summary) -> String {
    let mut out = format!(
        "{} super-network after {} steps, {} images\n\n",
        summary.family, summary.steps, summary.split
    );
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:<10}  {:>7}  {:>11}  {:>12}  resolution", "", "top-1 %", "parameters", "MACs");
    let mut line = |name: &str, network: &Measured| {
        let _ = writeln!(
            out,
            "{name:<10}  {:>7.2}  {:>11}  {:>12}  {} px",
            network.top1,
            grouped(network.params),
            grouped(network.macs),
            network.arch.r
        );
    };
    line("smallest", &summary.smallest);
    line("largest", &summary.largest);
    let mut random: Vec<&Measured> = summary.random.iter().collect();
    random.sort_by(|a, b| a.top1.total_cmp(&b.top1));
    for (name, index) in
        [("worst of", 0), ("median of", random.len() / 2), ("best of", random.len().saturating_sub(1))]
    {
        if let Some(network) = random.get(index) {
            line(&format!("{name} {}", random.len()), network);
        }
    }
    out
}
