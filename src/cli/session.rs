//! What the commands that work in a run directory share: their flags, and how they open the configuration,
//! the weights, the data and the directory.

use super::{Error, Globals, Talk};
use crate::config::keys::KEYS;
use crate::config::{self, Config, Profile};
use crate::engine::Precision;
use crate::evaluator::Evaluator;
use crate::exit::Exit;
use crate::pipeline::found::Weights;
use crate::pipeline::stored::{Origin, StoredRun};
use crate::pipeline::whole::evaluator;
use crate::run::{self, RunDirectory, StopFlag};
use crate::search::{self, State};
use crate::words::{Word, listed, parsed};
use clap::Args;
use std::path::{Path, PathBuf};

/// Flags that make a configuration.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Configuration file, in TOML; `DIR/config.toml` of a run is an example with every key explained.
    #[arg(value_name = "CONFIG.toml")]
    config: Option<PathBuf>,
    /// A setting, over the file's; may be repeated: --set search.archive=60.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where settings that were not given come from: paper, quick or tiny [default: quick].
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// Seed of all random numbers: the same seed gives the same result [default: 0].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What maps are stored as wherever networks train or are searched, over every section's precision:
    /// f32, f16 or bf16. The sections have a key each, such as search.precision and adaptation.precision.
    #[arg(long, value_name = "PRECISION")]
    pub(super) precision: Option<Precision>,
}

/// Flags of a command that works in a run directory.
#[derive(Debug, Clone, Args)]
pub struct Session {
    #[command(flatten)]
    settings: Settings,
    /// Run directory [default: runs/COMMAND-HASH of the configuration]. The same command on a run that
    /// was interrupted goes on; on a finished one it prints the result.
    #[arg(long = "run", value_name = "DIR")]
    run: Option<PathBuf>,
    #[command(flatten)]
    pub(super) globals: Globals,
}

parsed!(Profile, String, |text| format!("profiles are {}", listed(Profile::WORDS)));

/// The settings that one precision for everything comes to. Those of all stages, whatever the command: so it
/// means the same to each of those that share a run directory.
fn in_precision(precision: Precision) -> impl Iterator<Item = String> {
    let keys = KEYS.iter().filter(|key| key.path.ends_with(".precision"));
    keys.map(move |key| format!("{}={precision}", key.path))
}

/// A run that is open.
pub(super) struct OpenRun {
    pub(super) config: Config,
    pub(super) evaluator: Evaluator,
    pub(super) directory: RunDirectory,
}

impl Settings {
    /// The configuration, with further settings over those that were given.
    pub(super) fn with(&self, command: &str, further: &[String]) -> Result<Config, Error> {
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        let flags = seed.into_iter().chain(self.precision.into_iter().flat_map(in_precision));
        let sets: Vec<String> = self.sets.iter().cloned().chain(flags).chain(further.to_vec()).collect();
        Ok(config::load(command, self.config.as_deref(), &sets, self.profile)?)
    }

    /// Whether any of them was given but the precision.
    pub(super) fn is_given(&self) -> bool {
        let Settings { config, sets, profile, seed, precision: _ } = self;
        config.is_some() || !sets.is_empty() || profile.is_some() || seed.is_some()
    }
}

impl Session {
    /// Resolves the configuration, loads weights and data, and opens the run directory.
    pub(super) fn open(&self, command: &str) -> Result<OpenRun, Error> {
        let (config, place) = self.resolve(command)?;
        let weights = Weights::trained(place.path(), &config);
        let evaluator = evaluator(&config, weights, &self.globals.open()?)?;
        self.globals.talk.notes_of(evaluator.supernets());
        enough_values(&evaluator, &self.globals.talk)?;
        let directory = place.enter(&config)?;
        Ok(OpenRun { config, evaluator, directory })
    }

    /// As [`Settings::with`].
    pub(super) fn with(&self, command: &str, further: &[String]) -> Result<Config, Error> {
        self.settings.with(command, further)
    }

    /// Where the run of a configuration is or will be.
    pub(super) fn place(&self, config: &Config) -> PathBuf {
        self.run.clone().unwrap_or_else(|| config.default_run_directory())
    }

    /// The run directory that was named.
    pub(super) fn named_run(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    /// The configuration and its run directory, which is opened already where it exists: a run is
    /// compared before anything is loaded, and made only when weights and data are good.
    pub(super) fn resolve(&self, command: &str) -> Result<(Config, RunPlace), Error> {
        // Whatever is loaded from here on, such as images, may be loaded by several threads.
        self.globals.machine.prepare()?;
        let config = self.with(command, &[])?;
        let path = self.place(&config);
        let existing = if path.exists() { Some(enter(&path, &config)?) } else { None };
        Ok((config, RunPlace { path, existing }))
    }
}

/// Says where the networks of a search will be recalibrated on few images, before its directory is made.
///
/// # Errors
/// They are so few that statistics have one value.
pub(super) fn enough_values(evaluator: &Evaluator, talk: &Talk) -> Result<(), Error> {
    if let Some(note) = evaluator.few_values_of_space()? {
        talk.note(&format!("note: {note}"));
    }
    Ok(())
}

/// Says that a run was stopped, and what goes on with it.
pub(super) fn stopped(stop: &StopFlag, talk: &Talk) -> Exit {
    stopped_with(stop, talk, "")
}

/// The same where the command goes on with a change.
pub(super) fn stopped_with(stop: &StopFlag, talk: &Talk, change: &str) -> Exit {
    let signal = stop.signal().unwrap_or("request");
    talk.note(&format!("stopped ({signal}); nothing is lost: the same command goes on{change}"));
    Exit::Stopped
}

/// Where a run is or will be.
pub(super) struct RunPlace {
    path: PathBuf,
    existing: Option<RunDirectory>,
}

impl RunPlace {
    /// Where no run has begun.
    pub(super) fn new(path: PathBuf) -> RunPlace {
        RunPlace { path, existing: None }
    }

    /// The directory, which need not exist.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The run directory, made if it is not there yet.
    pub(super) fn enter(self, config: &Config) -> Result<RunDirectory, Error> {
        match self.existing {
            Some(directory) => Ok(directory),
            None => enter(&self.path, config),
        }
    }
}

/// Opens the run directory; its configuration must be this one, and is written if there is none.
pub(super) fn enter(path: &Path, config: &Config) -> Result<RunDirectory, Error> {
    const FILE: &str = "config.toml";
    let directory = RunDirectory::open(path)?;
    match directory.read(FILE)? {
        Some(bytes) => config::check_stored(&path.join(FILE), &String::from_utf8_lossy(&bytes), config)?,
        None => directory.write_atomic(FILE, config.to_toml().as_bytes())?,
    }
    Origin::here(&config.command).publish(&directory)?;
    Ok(directory)
}

/// The configuration stored in a run directory.
pub(super) fn stored(path: &Path, talk: &Talk) -> Result<StoredRun, Error> {
    let stored = StoredRun::read(path)?;
    stored.notes.iter().for_each(|note| talk.note(&format!("note: {note}")));
    Ok(stored)
}

/// The newest state of the search in a run directory, if it has one.
pub(super) fn stored_state(path: &Path, talk: &Talk) -> Result<Option<State>, Error> {
    let restored = run::latest_checkpoint(path, search::STAGE)?;
    restored.warnings.iter().for_each(|warning| talk.note(warning));
    Ok(State::restored(restored)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        session: Session,
    }

    #[test]
    fn one_precision_is_that_of_every_stage_for_every_command() {
        let line = ["natv2", "--precision", "bf16", "--set", "search.precision=f16"];
        let session = Line::parse_from(line).session;
        for command in ["train", "search", "compare", "finetune", "run"] {
            let config = session.with(command, &[]).unwrap();
            let steps = [config.train.precision, config.warmup.precision, config.adaptation.precision];
            let others = [config.search.precision, config.finetune.precision];
            assert_eq!((steps, others), ([config::Precision::Bf16; 3], [config::Precision::Bf16; 2]));
        }
        // What a comparison varies is said later, and counts.
        let further = ["search.precision=f32".to_string()];
        let config = session.with("search", &further).unwrap();
        assert_eq!(config.search.precision, config::Precision::F32);
        assert_eq!(config.adaptation.precision, config::Precision::Bf16);
    }
}
