//! `natv2 status`: where a run stands, whether or not it is at work.

use super::session::{stored, stored_state};
use super::{Error, Talk, output};
use crate::config::Config;
use crate::exit::Exit;
use crate::pipeline::standing::{self, Kind, searches};
use crate::run;
use crate::search::{self, Iteration, State};
use crate::train::tally::left_out;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
A run directory of any command will do: train, search, run, finetune, compare. Nothing else is needed, so a
copy of it will do too, without weights and data.

JSON: {\"version\":1,\"run\",\"command\",\"method\",\"iteration\",\"iterations\",\"finished\",\"at_work\",
\"stages\":[{\"stage\",\"step\",\"last\",\"finished\"}],\"history\":[..]}, finished being the command's, all its
stages; iteration is null where nothing was searched yet; inside an iteration's adaptation of the super-network
also \"adaptation\":{\"epoch\",\"epochs\",\"skipped\"}; of a comparison {\"version\":1,\"run\",\"command\",\"finished\",
\"at_work\",\"searches\":[..]}, each search as above.";

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
    command: &'static str,
    #[serde(skip)]
    kind: Kind,
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
    finished: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let report = self.report(&self.run)?;
        match (report.kind, self.talk.json) {
            (Kind::Compare, _) => self.comparison(&report)?,
            (_, true) => output::json(&report)?,
            (_, false) => output::print(&text(&report))?,
        }
        Ok(Exit::Done)
    }

    /// The searches of a comparison, a line each.
    fn comparison(&self, own: &Report) -> Result<(), Error> {
        let searches = searches(&self.run);
        let reports =
            searches.iter().map(|path| self.report(path)).collect::<Result<Vec<Report>, Error>>()?;
        let done = reports.iter().filter(|report| report.finished).count();
        let finished = own.finished && done == reports.len();
        let at_work = own.at_work || reports.iter().any(|report| report.at_work);
        if self.talk.json {
            return output::json(&serde_json::json!({
                "version": 1,
                "run": own.run,
                "command": own.command,
                "finished": finished,
                "at_work": at_work,
                "searches": reports,
            }));
        }
        let lines: String = reports.iter().map(|report| format!("{}\n", line(report))).collect();
        let stands = if finished { "finished, " } else { "" };
        output::print(&format!(
            "{}: a comparison (natv2 compare), {stands}{done} of {} searches finished, {}\n\n{lines}",
            own.run,
            reports.len(),
            worked_on(at_work)
        ))
    }

    /// Where the run in `path` stands.
    fn report(&self, path: &Path) -> Result<Report, Error> {
        let stored = stored(path, &self.talk)?;
        let config = &stored.own;
        let state = stored_state(path, &self.talk)?;
        let events = run::events(path)?;
        let iterations = config.search.iterations;
        let searched = state.as_ref().is_some_and(|state| state.iteration >= iterations as u64);
        let kind = Kind::of(path, &stored, &events);
        let stage =
            |standing::Stage { name, step, last, finished }| Stage { stage: name, step, last, finished };
        Ok(Report {
            version: 1,
            run: path.display().to_string(),
            command: kind.as_str(),
            kind,
            method: config.search.method.as_str(),
            iteration: state.as_ref().map(|state| state.iteration),
            iterations,
            finished: kind.is_over(path, config, searched),
            at_work: run::holder(path)?.is_some(),
            adaptation: state.as_ref().and_then(|state| Adapting::of(state, config)),
            stages: standing::stages(path, &events, searched).into_iter().map(stage).collect(),
            history: state.map(|state| state.history).unwrap_or_default(),
        })
    }
}

fn worked_on(at_work: bool) -> &'static str {
    if at_work { "at work now" } else { "nobody at work" }
}

/// Where a run stands, in a line.
fn line(report: &Report) -> String {
    let what = match report.kind {
        Kind::Search => format!("{} search", report.method),
        other => format!("natv2 {}", other.as_str()),
    };
    let stage = report.stages.last();
    let stands = match (report.finished, stage) {
        (true, _) => "finished".to_string(),
        (false, None) if report.kind == Kind::Search => "evaluating the initial archive".to_string(),
        (false, None) => "not begun".to_string(),
        (false, Some(stage)) if stage.stage == search::STAGE => searching(report),
        (false, Some(stage)) => format!("{}: {}", stage.stage, stage.last),
    };
    format!("{}: {what}, {stands}, {}", report.run, worked_on(report.at_work))
}

/// How far a search is.
fn searching(report: &Report) -> String {
    let adapting = report.adaptation.as_ref().map(|Adapting { epoch, epochs, skipped }| {
        format!(", adapting ({epoch} of {epochs} epochs done{})", left_out(*skipped))
    });
    let done = report.iteration.unwrap_or(0);
    format!("{done} of {} iterations done{}", report.iterations, adapting.unwrap_or_default())
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
