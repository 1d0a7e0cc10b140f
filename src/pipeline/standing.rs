//! Where a run stands: which command works in its directory, which stages have begun and which are over.
//!
//! The directory's own files say so, whether or not a process is at work there.

use super::stored::StoredRun;
use super::{training, whole};
use crate::config::Config;
use crate::finetune;
use crate::run::{self, Event};
use crate::search;
use crate::search::compare;
use crate::shown;
use crate::train::results;
use crate::words::{Word, words};
use std::path::{Path, PathBuf};

words!(
    /// The command that a run directory belongs to.
    Kind {
        /// A training of super-networks.
        Train = "train",
        /// A search.
        Search = "search",
        /// The whole method.
        Run = "run",
        /// A fine-tuning of networks of a search, in a directory of its own.
        Finetune = "finetune",
        /// A comparison of searches.
        Compare = "compare",
    }
);

impl Kind {
    /// Which it is: the command that worked in the directory last. One of an earlier version does not say,
    /// and is known by what is in it.
    pub fn of(path: &Path, stored: &StoredRun, events: &[Event]) -> Kind {
        let said = stored.command().and_then(Kind::of_word);
        let begun = |stage: &str| events.iter().any(|event| event.stage == stage);
        let trained = ["train", "train-wide", "warmup"].iter().any(|stage| begun(stage));
        said.unwrap_or_else(|| match (begun(search::STAGE), begun(finetune::STAGE)) {
            _ if !searches(path).is_empty() => Kind::Compare,
            (true, true) => Kind::Run,
            (false, true) => Kind::Finetune,
            (false, false) if trained => Kind::Train,
            _ => Kind::Search,
        })
    }

    /// Whether all that the command does in the directory `path` is done, where `searched` says it of its
    /// search.
    pub fn is_over(self, path: &Path, config: &Config, searched: bool) -> bool {
        let tuned = || finetune::Summary::read(path).ok().flatten();
        match self {
            Kind::Train => training::is_over(config, path),
            Kind::Search => searched,
            Kind::Finetune => tuned().is_some(),
            Kind::Run => {
                let exported = |summary: finetune::Summary| {
                    summary.networks.iter().all(|n| path.join(whole::onnx_file(&n.weights)).exists())
                };
                searched && tuned().is_some_and(exported) && path.join(whole::REPORT_FILE).exists()
            }
            Kind::Compare => path.join(compare::results::FILE).exists(),
        }
    }
}

/// Where a stage of a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its step.
    pub step: u64,
    /// What it did last.
    pub last: String,
    /// Whether it has left its result.
    pub finished: bool,
}

/// The stages of the run in `path` as its journal has them, in the order in which they began; `searched` is
/// whether the search is over.
pub fn stages(path: &Path, events: &[Event], searched: bool) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for event in events {
        let (step, last) = (event.step, last(event));
        match stages.iter_mut().find(|known| known.name == event.stage) {
            Some(known) => (known.step, known.last) = (step, last),
            None => {
                let finished = match &*event.stage {
                    search::STAGE => searched,
                    finetune::STAGE => path.join(finetune::results::SUMMARY_FILE).exists(),
                    "train-wide" => path.join(results::WIDE_SUMMARY_FILE).exists(),
                    _ => path.join(results::SUMMARY_FILE).exists(),
                };
                stages.push(Stage { name: event.stage.clone(), step, last, finished });
            }
        }
    }
    stages
}

/// What an event of the journal says, in words.
fn last(event: &Event) -> String {
    let Event { stage, kind, data, .. } = event;
    let number = |key: &str| data[key].as_f64().map(|value| format!("{value:.2}"));
    let word = |key: &str| data[key].as_str().unwrap_or_default().to_string();
    match &**kind {
        "epoch" if stage == finetune::STAGE => {
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
    }
}

/// The searches of the comparison in `path` that have begun, by name; none where there is another run.
pub fn searches(path: &Path) -> Vec<PathBuf> {
    if path.join("checkpoints").exists() {
        return Vec::new();
    }
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut searches: Vec<PathBuf> =
        inside.filter(|path| path.join("config.toml").exists() && run::check(path).is_ok()).collect();
    searches.sort();
    searches
}

/// Why the run in `path` has no networks to show yet, and what to do.
///
/// # Errors
/// A journal that is damaged.
pub fn nothing_found(path: &Path, stored: &StoredRun) -> Result<String, run::Error> {
    let events = run::events(path)?;
    let kind = Kind::of(path, stored, &events);
    let is = format!("{} is a directory of natv2 {}", path.display(), kind.as_str());
    let status = shown::status(path);
    Ok(match kind {
        Kind::Train => format!(
            "{is}: it has a super-network and no networks found; search it first, or see where it stands: {status}"
        ),
        Kind::Finetune => match &stored.config.finetune.search {
            Some(search) => format!(
                "{is}: the networks that it began with are those of {}, and those that it made in {}; the page of \
                 that search: {}",
                search.display(),
                path.join("network-N.safetensors").display(),
                shown::report(search)
            ),
            None => format!("{is}: see where it stands: {status}"),
        },
        Kind::Compare => format!(
            "{is}, which is not over: where its searches stand: {status}; each is a run of its own: {}",
            path.join("VARIANT-SEED").display()
        ),
        Kind::Search | Kind::Run => format!(
            "{is}, and it has no front yet: let the search finish its initial archive; where it stands: {status}"
        ),
    })
}
