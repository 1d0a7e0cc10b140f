//! `natv2 report`: the page of a run, written again.

use super::session::{stored, stored_state};
use super::{Error, Talk, output};
use crate::config::Config;
use crate::exit::Exit;
use crate::pipeline::found::{self, Weights};
use crate::pipeline::standing::{Kind, nothing_found};
use crate::pipeline::whole::{REPORT_FILE, report};
use crate::report::{charts, render_comparison};
use crate::run;
use crate::search::about::About;
use crate::search::compare;
use crate::search::compare::results::{self, Comparison};
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `natv2 report`.
///
/// Writes report.html into the run directory: one file that needs nothing else, with the Pareto fronts,
/// the progress of the search, the networks found, what fine-tuning made of them, and the configuration; of
/// a comparison, with its fronts side by side. It needs the run directory alone, so a copy of it will do,
/// without weights and data.
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
        let stored = stored(&self.run, &self.talk)?;
        if let Some(html) = compared(&self.run, &stored.own)? {
            return self.write(&html);
        }
        let Some(state) = stored_state(&self.run, &self.talk)? else {
            return Err(Error::Check(nothing_found(&self.run, &stored)?));
        };
        let weights = Weights::found(&self.run, &stored.config);
        let space = match About::read(&self.run)? {
            Some(about) => (about.space()?, about.classes),
            // A run of an earlier version.
            None => {
                stored.check(weights.files())?;
                let (supernets, space) = found::supernets(&self.run, &stored.config)?;
                (space, supernets.first().map_or(0, |supernet| supernet.classes()))
            }
        };
        let next = weights.commands(&self.run, &stored.config, state.test_top1.is_some());
        let kind = Kind::of(&self.run, &stored, &run::events(&self.run)?);
        self.write(&report((&space.0, space.1), (kind.as_str(), &stored.own), &state, &next)?)
    }

    fn write(&self, html: &str) -> Result<Exit, Error> {
        let file = self.run.join(REPORT_FILE);
        output::file(&file, html.as_bytes())?;
        let mut written = vec![file.display().to_string()];
        if let Some(folder) = &self.charts {
            let failed =
                |error: std::io::Error| Error::Output { file: folder.clone(), reason: error.to_string() };
            std::fs::create_dir_all(folder).map_err(failed)?;
            for (name, svg) in charts(html) {
                let file = folder.join(format!("{name}.svg"));
                output::file(&file, svg.as_bytes())?;
                written.push(file.display().to_string());
            }
        }
        if self.talk.json {
            output::json(&serde_json::json!({"version": 1, "report": written[0], "charts": written[1..]}))?
        } else {
            output::print(&(written.join("\n") + "\n"))?
        }
        Ok(Exit::Done)
    }
}

/// The page of a comparison, where the run is one that is over.
fn compared(run: &Path, config: &Config) -> Result<Option<String>, Error> {
    let file = run.join(results::FILE);
    let Ok(bytes) = std::fs::read(&file) else { return Ok(None) };
    let comparison = Comparison::parse(&bytes, &file.display().to_string())?;
    Ok(Some(render_comparison(&compare::page::page(&comparison, config, run))))
}
