//! `natv2 report`: the page of a run, written again.

use super::session::{stored_config, stored_state};
use super::{Error, Talk, output};
use crate::pipeline::found;
use crate::pipeline::whole::REPORT_FILE;
use crate::report::render;
use crate::run::{Exit, write_atomic};
use crate::search::page;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `natv2 report`.
///
/// Writes report.html into the run directory: one file that needs nothing else, with the Pareto fronts,
/// the progress of the search, the networks found and the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  natv2 report runs/search-1a2b3c4d")]
pub struct Report {
    /// The run directory.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    #[command(flatten)]
    talk: Talk,
}

impl Report {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let config = stored_config(&self.run)?;
        let Some(state) = stored_state(&self.run, &self.talk)? else {
            return Err(Error::Check(format!(
                "{}: nothing to report yet: the initial archive is not evaluated",
                self.run.display()
            )));
        };
        let (supernets, space) = found::supernets(&self.run, &config)?;
        let classes = supernets.first().map_or(0, |supernet| supernet.classes());
        let run = self.run.display().to_string();
        let page = page::page(&space, classes, &config, &state, &run)?;
        let html = render(&page);
        let file = self.run.join(REPORT_FILE);
        write_atomic(&file, html.as_bytes())?;
        let file = file.display().to_string();
        match self.talk.json {
            true => output::json(&serde_json::json!({"version": 1, "report": file}))?,
            false => output::print(&format!("{file}\n"))?,
        }
        Ok(Exit::Done)
    }
}
