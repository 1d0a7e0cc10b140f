//! `natv2 finetune`: what a search has found, trained on its own.

use super::session::{Session, stopped};
use super::{Error, output};
use crate::config::{self, Pick};
use crate::exit::Exit;
use crate::export::NetworkState;
use crate::finetune::{Finetuned, Inputs, Outcome, finetune, results};
use crate::pipeline::found;
use crate::run::{self, StopFlag};
use crate::shown;
use crate::space::show::grouped;
use crate::train::material::dataset;
use clap::Args;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Examples:
  natv2 finetune --set finetune.search=runs/search-7a7504b7     four networks: three with the highest trade-off
                                                 and the most accurate
  natv2 finetune --set finetune.search=runs/cifar --set finetune.pick=best --set finetune.count=1 \\
      --set finetune.max_macs=10000000 --set finetune.max_params=500000     the best within limits
  natv2 finetune --set finetune.search=runs/cifar --set finetune.number=7     by its number in the table
  natv2 finetune --set finetune.search=runs/ee --set finetune.exits=unif     all exits as an ensemble (AEP)
  natv2 finetune --precision bf16 ...            maps and their gradients in 16 bits, weights in f32
  natv2 finetune --set finetune.arch=network.json --set supernet.weights=net.safetensors

Each network is taken out of the super-network, its batch norms are recalibrated, and it is trained
until the validation loss stops falling; then again from the inherited weights with the validation
images, for as many epochs as were best. Where no epoch is better on the validation images than the inherited
weights (epoch 0), the network is kept as it was inherited, and everything says so (\"state\"; finetune.keep).
Test images are looked at once, at the end. Data and weights are those of the search where none are given.
Files in the run directory: finetuned.json, network-N.safetensors with a card, journal.jsonl, TensorBoard
events. Stop it at any time (Ctrl-C); the same command goes on, and ends with the same bits.

JSON: {\"version\":1,\"run\",\"family\",\"data\",\"networks\":[{\"number\",\"picked_for\",\"state\",\"genotype\",\"picked\",
\"arch\",\"strategy\",\"exits\",\"beta\",\"epochs\",\"best_epoch\",\"search_top1\",\"inherited_top1\",\"validation_top1\",
\"before\":{\"top1\",\"loss\",\"params\",\"macs\"},\"after\":{..},\"weights\",\"history\":[..]}]}, accuracies in per cent; before
and after are on the test split, \"state\" is fine-tuned or inherited.";

/// Arguments of `natv2 finetune`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Finetune {
    #[command(flatten)]
    session: Session,
}

impl Finetune {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let talk = self.session.globals.talk;
        let stop = StopFlag::install()?;
        let (config, place) = self.session.resolve("finetune")?;
        let source = config.finetune.search.clone().unwrap_or_else(|| place.path().into());
        let own = match config.finetune.search {
            Some(_) => {
                run::check(&source)?;
                found::inherit(&config, &source)?
            }
            None => config.clone(),
        };
        let (supernets, _) = found::supernets_of_front(&source, &own)?;
        talk.notes_of(&supernets);
        let dataset = Arc::new(dataset(&own, &supernets[0].card)?);
        let picked = found::pick(&config, &source, &supernets)?;
        let device = self.session.globals.open()?;
        let settings = (config.seed, &config.finetune, &config.train);
        let inputs = Inputs::new(settings, own.augmentation(dataset.facts()), supernets, dataset, picked)?;
        let directory = place.enter(&config)?;
        let path = directory.path().display().to_string();
        talk.note(&format!("run directory: {path}"));
        let numbers: Vec<String> = inputs.picked.iter().map(|p| p.number.to_string()).collect();
        talk.note(&format!("networks {}", numbers.join(", ")));
        let summary = match finetune(&inputs, device, &directory, &stop, talk.progress())? {
            Outcome::Stopped => return Ok(stopped(&stop, &talk)),
            Outcome::Finished(summary) => summary,
        };
        let first = summary.networks.first().map_or("network-1.safetensors", |network| &network.weights);
        let first = directory.path().join(first);
        if talk.json {
            let mut value = serde_json::to_value(&summary).expect("a summary is JSON");
            value["run"] = path.into();
            output::json(&value)?;
        } else {
            output::print(&format!(
                "{} networks of {} on {}\n\n{}{}networks: {path}/network-N.safetensors; results: {path}/{}\n\
                 next: {}\n      {}\n",
                summary.networks.len(),
                summary.family,
                summary.data,
                table(&summary.networks),
                picks(&summary.networks, &config.finetune),
                results::SUMMARY_FILE,
                shown::evaluate_network(&first),
                shown::export_network(&first, Path::new("net.onnx")),
            ))?
        }
        Ok(Exit::Done)
    }
}

/// Before and after as a table.
pub(super) fn table(networks: &[Finetuned]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>3}  {:>8}  {:>7}  {:>6}  {:>11}  {:>7}  {:>12}  {:>7}  epochs, exits",
        "", "before %", "after %", "change", "parameters", "change", "MACs", "change"
    );
    for network in networks {
        let Finetuned { before, after, .. } = network;
        let top1 = |top1: Option<f64>| top1.map_or("-".into(), |top1| format!("{top1:.2}"));
        let gain = before.top1.zip(after.top1).map(|(a, b)| format!("{:+.2}", b - a));
        let share = |a: u64, b: u64| format!("{:+.1}%", 100.0 * (b as f64 / a as f64 - 1.0));
        let exits: Vec<String> = network.exits.iter().map(usize::to_string).collect();
        let _ = writeln!(
            out,
            "{:>3}  {:>8}  {:>7}  {:>6}  {:>11}  {:>7}  {:>12}  {:>7}  {}, {} ({})",
            network.number,
            top1(before.top1),
            top1(after.top1),
            gain.unwrap_or("-".into()),
            grouped(after.params),
            share(before.params, after.params),
            grouped(after.macs),
            share(before.macs, after.macs),
            match network.state {
                NetworkState::FineTuned => network.best_epoch.to_string(),
                NetworkState::Inherited => "kept as inherited".into(),
            },
            exits.join("+"),
            network.strategy
        );
    }
    out += "\nbefore and after are on the test images\n";
    if networks.iter().any(|network| network.state == NetworkState::Inherited) {
        out += "kept as inherited: no epoch was better on the validation images (finetune.keep)\n";
    }
    out
}

/// Which networks were picked, why, and how others are.
pub(super) fn picks(networks: &[Finetuned], settings: &config::Finetune) -> String {
    let reasons = |network: &Finetuned| -> String {
        let words: Vec<&str> = network.picked_for.iter().map(|reason| reason.as_str()).collect();
        words.join(", ")
    };
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for network in networks {
        let (why, number) = (reasons(network), network.number.to_string());
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, numbers)) => numbers.push(number),
            None => groups.push((why, vec![number])),
        }
    }
    let listed: Vec<String> =
        groups.into_iter().map(|(why, numbers)| format!("{} ({why})", numbers.join(", "))).collect();
    let by = match (&settings.arch, settings.number) {
        (Some(_), _) => "finetune.arch".to_string(),
        (None, Some(number)) => format!("finetune.number = {number}"),
        (None, None) if settings.pick == Pick::Front => "finetune.pick = front".to_string(),
        (None, None) => format!("finetune.pick = {}, finetune.count = {}", settings.pick, settings.count),
    };
    let alone = if settings.pick == Pick::TradeOff && settings.count == 1 {
        "a single network is that with the highest trade-off; finetune.pick=best is the most accurate\n"
    } else {
        ""
    };
    format!(
        "picked by {by}: {}\n{alone}others: by finetune.number, finetune.pick (trade-off, front, best) or \
         finetune.count\n",
        listed.join("; ")
    )
}
