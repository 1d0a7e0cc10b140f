//! `natv2 report`: the page of a run, written again.

use super::session::{stored_config, stored_state};
use super::{Error, Talk, output};
use crate::config::Config;
use crate::pipeline::found;
use crate::pipeline::whole::{REPORT_FILE, report};
use crate::report::{charts, render_comparison};
use crate::run::{Exit, write_atomic};
use crate::search::compare;
use crate::search::compare::results::{self, Comparison};
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `natv2 report`.
///
/// Writes report.html into the run directory: one file that needs nothing else, with the Pareto fronts,
/// the progress of the search, the networks found, what fine-tuning made of them, and the configuration; of
/// a comparison, with its fronts side by side.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  natv2 report runs/search-1a2b3c4d\n  natv2 report runs/mine --charts figures     every chart as an SVG file too"
)]
pub struct Report {
    /// The run directory.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    /// Write every chart of the page as an SVG file of its own into this folder too.
    #[arg(long, value_name = "FOLDER")]
    charts: Option<PathBuf>,
    #[command(flatten)]
    talk: Talk,
}

impl Report {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let config = stored_config(&self.run)?;
        if let Some(html) = compared(&self.run, &config)? {
            return self.write(&html);
        }
        let Some(state) = stored_state(&self.run, &self.talk)? else {
            return Err(Error::Check(format!(
                "{}: nothing to report yet: the initial archive is not evaluated",
                self.run.display()
            )));
        };
        let (supernets, space) = found::supernets(&self.run, &config)?;
        let classes = supernets.first().map_or(0, |supernet| supernet.classes());
        self.write(&report(&space, classes, &config, &state, &self.run)?)
    }

    fn write(&self, html: &str) -> Result<Exit, Error> {
        let file = self.run.join(REPORT_FILE);
        write_atomic(&file, html.as_bytes())?;
        let mut written = vec![file.display().to_string()];
        if let Some(folder) = &self.charts {
            let failed =
                |error: std::io::Error| Error::Output { file: folder.clone(), reason: error.to_string() };
            std::fs::create_dir_all(folder).map_err(failed)?;
            for (name, svg) in charts(html) {
                let file = folder.join(format!("{name}.svg"));
                write_atomic(&file, svg.as_bytes())?;
                written.push(file.display().to_string());
            }
        }
        match self.talk.json {
            true => output::json(
                &serde_json::json!({"version": 1, "report": written[0], "charts": written[1..]}),
            )?,
            false => output::print(&(written.join("\n") + "\n"))?,
        }
        Ok(Exit::Done)
    }
}

/// The page of a comparison, where the run is one that is over.
fn compared(run: &Path, config: &Config) -> Result<Option<String>, Error> {
    let file = run.join(results::FILE);
    let Ok(bytes) = std::fs::read(&file) else { return Ok(None) };
    let comparison = Comparison::parse(&bytes, &file.display().to_string())?;
    Ok(Some(render_comparison(&compare::page::page(&comparison, config, &run.display().to_string()))))
}
