//! `natv2 finetune`: what a search has found, trained on its own.

use super::session::{Session, stopped};
use super::{Error, output};
use crate::finetune::{Finetuned, Inputs, Outcome, finetune, results};
use crate::pipeline::found;
use crate::run::{self, Exit, StopFlag};
use crate::space::show::grouped;
use crate::train::material::dataset;
use clap::Args;
use std::fmt::Write;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Examples:
  natv2 finetune --set finetune.search=runs/search-7a7504b7     four networks with the highest trade-off
  natv2 finetune --set finetune.search=runs/cifar --set finetune.pick=best --set finetune.count=1 \\
      --set finetune.max_macs=10000000 --set finetune.max_params=500000     the best within limits
  natv2 finetune --set finetune.search=runs/cifar --set finetune.number=7     by its number in the table
  natv2 finetune --set finetune.search=runs/ee --set finetune.exits=unif     all exits as an ensemble (AEP)
  natv2 finetune --precision bf16 ...            maps and their gradients in 16 bits, weights in f32
  natv2 finetune --set finetune.arch=network.json --set supernet.weights=net.safetensors

Each network is taken out of the super-network, its batch norms are recalibrated, and it is trained
until the validation loss stops falling; then again from the inherited weights with the validation
images, for as many epochs as were best. Test images are looked at once, at the end. Data and weights
are those of the search where none are given.
Files in the run directory: finetuned.json, network-N.safetensors with a card, journal.jsonl, TensorBoard
events. Stop it at any time (Ctrl-C); the same command goes on, and ends with the same bits.

JSON: {\"version\":1,\"run\",\"family\",\"data\",\"networks\":[{\"number\",\"genotype\",\"picked\",\"arch\",\"strategy\",
\"exits\",\"beta\",\"epochs\",\"best_epoch\",\"search_top1\",\"validation_top1\",\"before\":{\"top1\",\"loss\",\"params\",
\"macs\"},\"after\":{..},\"weights\",\"history\":[..]}]}, accuracies in per cent; before and after are on the test split.";

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
        let (supernets, _) = found::supernets(&source, &own)?;
        let dataset = Arc::new(dataset(&own, supernets.first().map(|supernet| &supernet.card))?);
        let picked = found::pick(&config, &source, &supernets)?;
        let device = self.session.globals.open()?;
        let settings = (config.seed, &config.finetune, &config.train);
        let inputs = Inputs::new(settings, own.data.augmentation, supernets, dataset, picked)?;
        let directory = place.enter(&config)?;
        let path = directory.path().display().to_string();
        talk.note(&format!("run directory: {path}"));
        let numbers: Vec<String> = inputs.picked.iter().map(|p| p.number.to_string()).collect();
        talk.note(&format!("networks {}", numbers.join(", ")));
        let summary = match finetune(&inputs, device, &directory, &stop, talk.progress())? {
            Outcome::Stopped => return Ok(stopped(&stop, &talk)),
            Outcome::Finished(summary) => summary,
        };
        match talk.json {
            true => {
                let mut value = serde_json::to_value(&summary).expect("a summary is JSON");
                value["run"] = path.into();
                output::json(&value)?;
            }
            false => output::print(&format!(
                "{} networks of {} on {}\n\n{}networks: {path}/network-N.safetensors; results: {path}/{}\n\
                 next: natv2 export --weights {path}/{} --out net.onnx\n",
                summary.networks.len(),
                summary.family,
                summary.data,
                table(&summary.networks),
                results::SUMMARY_FILE,
                summary.networks.first().map_or("network-1.safetensors", |network| &network.weights),
            ))?,
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
            network.best_epoch,
            exits.join("+"),
            network.strategy
        );
    }
    out + "\nbefore and after are on the test images\n"
}
