//! `natv2 status`: where a run stands, whether or not it is at work.

use super::session::{stored_config, stored_state};
use super::{Error, Talk, output};
use crate::config::Config;
use crate::run::{self, Event, Exit};
use crate::search::{self, Iteration, State};
use crate::train::tally::left_out;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
JSON: {\"version\":1,\"run\",\"method\",\"iteration\",\"iterations\",\"finished\",\"at_work\",\"stages\":[{\"stage\",\"step\",
\"last\"}],\"history\":[..]}, finished being the search's; inside an iteration's adaptation of the super-network also
\"adaptation\":{\"epoch\",\"epochs\",\"skipped\"}; of a comparison {\"version\":1,\"run\",\"searches\":[..]}, each search as above.";

/// Arguments of `natv2 status`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Status {
    /// The run directory.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    #[command(flatten)]
    talk: Talk,
}

#[derive(Serialize)]
struct Report {
    version: u32,
    run: String,
    method: &'static str,
    /// `None` before the initial archive is evaluated.
    iteration: Option<u64>,
    iterations: usize,
    finished: bool,
    at_work: bool,
    /// Of an iteration whose candidates are in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptation: Option<Adapting>,
    /// What has begun, in order.
    stages: Vec<Stage>,
    history: Vec<Iteration>,
}

/// Where the adaptation of an iteration stands.
#[derive(Serialize)]
struct Adapting {
    /// Epochs done.
    epoch: u64,
    epochs: u64,
    /// Steps in these that a super-network left out since its gradient overflowed f16.
    skipped: u64,
}

impl Adapting {
    fn of(state: &State, config: &Config) -> Option<Adapting> {
        state.adaptation.pending.as_ref()?;
        let done = || state.adaptation.epochs.iter().filter(|epoch| epoch.iteration == state.iteration + 1);
        let skipped = done().map(|epoch| epoch.skipped).sum();
        Some(Adapting { epoch: done().count() as u64, epochs: config.adaptation.epochs as u64, skipped })
    }
}

/// Where a stage of a run stands.
#[derive(Serialize)]
struct Stage {
    stage: String,
    /// Its step.
    step: u64,
    /// What it did last.
    last: String,
}

impl Status {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let searches = searches(&self.run)?;
        if !searches.is_empty() {
            return self.comparison(&searches);
        }
        let report = self.report(&self.run)?;
        match self.talk.json {
            true => output::json(&report)?,
            false => output::print(&text(&report))?,
        }
        Ok(Exit::Done)
    }

    /// The searches of a comparison, a line each.
    fn comparison(&self, searches: &[PathBuf]) -> Result<Exit, Error> {
        let reports =
            searches.iter().map(|path| self.report(path)).collect::<Result<Vec<Report>, Error>>()?;
        let run = self.run.display();
        match self.talk.json {
            true => {
                output::json(
                    &serde_json::json!({"version": 1, "run": run.to_string(), "searches": reports}),
                )?;
            }
            false => {
                let done = reports.iter().filter(|report| report.finished).count();
                let lines: String = reports.iter().map(|report| format!("{}\n", line(report))).collect();
                output::print(&format!(
                    "{run}: a comparison, {done} of {} searches finished\n\n{lines}",
                    reports.len()
                ))?;
            }
        }
        Ok(Exit::Done)
    }

    /// Where the search in `path` stands.
    fn report(&self, path: &Path) -> Result<Report, Error> {
        let config = stored_config(path)?;
        let state = stored_state(path, &self.talk)?;
        let holder = run::holder(path)?;
        let iterations = config.search.iterations;
        Ok(Report {
            version: 1,
            run: path.display().to_string(),
            method: config.search.method.as_str(),
            iteration: state.as_ref().map(|state| state.iteration),
            iterations,
            finished: state.as_ref().is_some_and(|state| state.iteration >= iterations as u64),
            at_work: holder.is_some(),
            adaptation: state.as_ref().and_then(|state| Adapting::of(state, &config)),
            stages: stages(&run::events(path)?),
            history: state.map(|state| state.history).unwrap_or_default(),
        })
    }
}

/// The stages of a run as its journal has them.
fn stages(events: &[Event]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for Event { stage, step, kind, data, .. } in events {
        let number = |key: &str| data[key].as_f64().map(|value| format!("{value:.2}"));
        let word = |key: &str| data[key].as_str().unwrap_or_default().to_string();
        let last = match &**kind {
            "epoch" if stage == "finetune" => {
                format!("epoch {}, loss {}", data["epoch"], number("loss").unwrap_or_default())
            }
            "epoch" => {
                let top1 = number("validation_top1").map(|top1| format!(", validation {top1} %"));
                let loss = number("loss").unwrap_or_default();
                format!(
                    "phase {}, epoch {}, loss {loss}{}",
                    word("phase"),
                    data["epoch"],
                    top1.unwrap_or_default()
                )
            }
            "phase" => format!("phase {} done", word("phase")),
            "iteration" => format!("iteration {} done", data["iteration"]),
            "finished" => format!("network {} done", data["network"]),
            "front" => "front tested".into(),
            other => other.to_string(),
        };
        match stages.iter_mut().find(|known| known.stage == *stage) {
            Some(known) => (known.step, known.last) = (*step, last),
            None => stages.push(Stage { stage: stage.clone(), step: *step, last }),
        }
    }
    stages
}

/// The searches of the comparison in `path` that have begun, by name; none where there is another run.
fn searches(path: &Path) -> Result<Vec<PathBuf>, Error> {
    run::check(path)?;
    if path.join("checkpoints").exists() {
        return Ok(Vec::new());
    }
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut searches: Vec<PathBuf> =
        inside.filter(|path| path.join("config.toml").exists() && run::check(path).is_ok()).collect();
    searches.sort();
    Ok(searches)
}

/// Where a search stands, in a line.
fn line(report: &Report) -> String {
    let at_work = if report.at_work { "at work now" } else { "nobody at work" };
    let stands = match (report.iteration, report.finished) {
        (None, _) if !report.stages.is_empty() => "not begun".to_string(),
        (None, _) => "evaluating the initial archive".to_string(),
        (Some(done), false) => {
            let adapting = report.adaptation.as_ref().map(|Adapting { epoch, epochs, skipped }| {
                format!(", adapting ({epoch} of {epochs} epochs done{})", left_out(*skipped))
            });
            format!("{done} of {} iterations done{}", report.iterations, adapting.unwrap_or_default())
        }
        (Some(_), true) => "finished".to_string(),
    };
    format!("{}: {} search, {stands}, {at_work}", report.run, report.method)
}

fn text(report: &Report) -> String {
    let mut out = line(report) + "\n";
    if report.stages.iter().any(|stage| stage.stage != search::STAGE) {
        out += "\nstage         step  last\n";
        for stage in &report.stages {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<10}  {:>6}  {}", stage.stage, stage.step, stage.last);
        }
    }
    if !report.history.is_empty() {
        out += "\niteration  evaluations  archive  front  best val %  hypervolume  predictor tau\n";
    }
    for row in &report.history {
        let tau = row.kendall.map_or("-".into(), |tau| format!("{tau:.3}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:>9}  {:>11}  {:>7}  {:>5}  {:>10.2}  {:>11.5}  {tau:>13}",
            row.iteration, row.evaluations, row.archive, row.front, row.best_top1, row.hypervolume
        );
    }
    if !report.finished && !report.at_work {
        out += "\nThe command that began it goes on with it.\n";
    }
    out
}
