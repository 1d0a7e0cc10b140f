//! `natv2 search`: sub-networks with the best trade-offs of a trained super-network.

use super::session::{OpenRun, Session, stopped};
use super::{Error, output};
use crate::config::{Config, Objective};
use crate::exit::Exit;
use crate::pipeline::found::Weights;
use crate::pipeline::whole::write_report;
use crate::run::StopFlag;
use crate::search::results::{Network, Summary};
use crate::search::{Outcome, search};
use crate::shown::OfRun;
use crate::space::show::grouped;
use clap::Args;
use std::fmt::Write;

const AFTER_HELP: &str = "\
Examples:
  natv2 search                                   the built-in digits and super-network, ten seconds
  natv2 search --set supernet.weights=net.safetensors --set data.name=cifar10 \\
      --set data.dir=DATA_FOLDER --run runs/cifar     a super-network of your own
  natv2 search --set search.method=random        random search with as many evaluations
  natv2 search --precision bf16 --set adaptation.epochs=1 ...     evaluations and adaptation in 16 bits

Files in the run directory: archive.json and front.json after every iteration, report.html at the
end, journal.jsonl, config.toml with every setting; adapted.safetensors with its card where the search
adapted the weights (adaptation.epochs). Stop it at any time (Ctrl-C); the same command goes on.

JSON: {\"version\":1,\"run\",\"front\":[{\"number\",\"genotype\",\"arch\",\"top1\",\"params\",\"macs\",\"latency_ms\"?,
\"test_top1\"?}],\"hypervolume\",\"evaluations\",\"weights\"?}, accuracies in per cent; top1 is on the validation
split, test_top1 on the test split.";

/// Arguments of `natv2 search`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Search {
    #[command(flatten)]
    session: Session,
}

impl Search {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let talk = self.session.globals.talk;
        let stop = StopFlag::install()?;
        let OpenRun { config, evaluator, directory } = self.session.open("search")?;
        let path = directory.path().display();
        talk.note(&format!("run directory: {path}"));
        match search(&config, &evaluator, &directory, &stop, talk.progress())? {
            Outcome::Stopped => Ok(stopped(&stop, &talk)),
            Outcome::Finished(summary, state) => {
                write_report(&directory, &evaluator, &config, &state)?;
                let weights = Weights::found(directory.path(), &config);
                let next = weights.commands(directory.path(), &config, state.test_top1.is_some());
                if talk.json {
                    output::json(&summary)?
                } else {
                    output::print(&text(&summary, &config, &next))?
                }
                Ok(Exit::Done)
            }
        }
    }
}

/// The front as a table, where it is, and what to do next.
fn text(summary: &Summary, config: &Config, next: &OfRun<'_>) -> String {
    let run = &summary.run;
    format!(
        "{}\nhypervolume {:.5} after {} evaluations\n\
         results: {run}/front.json, archive.json and report.html (open it in a browser)\n\
         next: {}    {}\n      {}\n",
        table(summary, &config.search.objectives),
        summary.hypervolume,
        summary.evaluations,
        next.evaluate_front(),
        next.status(),
        next.export(1, "net.onnx")
    )
}

/// The front as a table.
pub(super) fn table(summary: &Summary, objectives: &[Objective]) -> String {
    let mut front: Vec<&Network> = summary.front.iter().collect();
    front.sort_by_key(|network| network.number);
    let names: Vec<&str> = objectives.iter().map(|o| o.as_str()).collect();
    let mut out = format!("Pareto front over {} ({} networks)\n\n", names.join(", "), front.len());
    let latency = front.iter().any(|n| n.latency_ms.is_some());
    // Writing to a String cannot fail.
    let _ = write!(out, "{:>3}  {:>7}  {:>7}  {:>11}  {:>12}", "", "val %", "test %", "parameters", "MACs");
    let _ = writeln!(out, "{}  resolution, depths", if latency { "   ms/pass" } else { "" });
    for network in &front {
        let test = network.test_top1.map_or("-".into(), |top1| format!("{top1:.2}"));
        let _ = write!(
            out,
            "{:>3}  {:>7.2}  {test:>7}  {:>11}  {:>12}",
            network.number.map(|number| number.to_string()).unwrap_or_default(),
            network.top1,
            grouped(network.params),
            grouped(network.macs)
        );
        if latency {
            let _ = write!(out, "  {:>8}", network.latency_ms.map_or("-".into(), |ms| format!("{ms:.3}")));
        }
        let depths: Vec<String> = network.arch.d[..network.arch.stages()].iter().map(u8::to_string).collect();
        let _ = writeln!(out, "  {} px, {}", network.arch.r, depths.join("-"));
    }
    out
}
