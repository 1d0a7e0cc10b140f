//! `natv2 status`: where a run stands, whether or not it is at work.

use super::session::{stored_config, stored_state};
use super::{Error, Talk, output};
use crate::run::{self, Exit};
use crate::search::Iteration;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
JSON: {\"version\":1,\"run\",\"method\",\"iteration\",\"iterations\",\"finished\",\"at_work\",\"history\":[..]}.";

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
    history: Vec<Iteration>,
}

impl Status {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let config = stored_config(&self.run)?;
        let state = stored_state(&self.run, &self.talk)?;
        let holder = run::holder(&self.run)?;
        let iterations = config.search.iterations;
        let report = Report {
            version: 1,
            run: self.run.display().to_string(),
            method: config.search.method.as_str(),
            iteration: state.as_ref().map(|state| state.iteration),
            iterations,
            finished: state.as_ref().is_some_and(|state| state.iteration >= iterations as u64),
            at_work: holder.is_some(),
            history: state.map(|state| state.history).unwrap_or_default(),
        };
        match self.talk.json {
            true => output::json(&report)?,
            false => output::print(&text(&report))?,
        }
        Ok(Exit::Done)
    }
}

fn text(report: &Report) -> String {
    let at_work = if report.at_work { "at work now" } else { "nobody at work" };
    let stands = match (report.iteration, report.finished) {
        (None, _) => "evaluating the initial archive".to_string(),
        (Some(done), false) => format!("{done} of {} iterations done", report.iterations),
        (Some(_), true) => "finished".to_string(),
    };
    let mut out = format!("{}: {} search, {stands}, {at_work}\n", report.run, report.method);
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
