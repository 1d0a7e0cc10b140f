//! What a run directory says of its own beginning, for commands that look at it later and from anywhere.
//!
//! `DIR/run.json` names the command that worked in the directory last and the folder that it was called
//! from. Relative paths of `DIR/config.toml` are relative to that folder, as they are on a command line. A
//! command that is called from another folder, or on a copy of the run, finds the files with its help, or says
//! to which folder the paths are relative. The file is no part of the configuration: the same run may be
//! continued from elsewhere.

use super::Error;
use crate::config::{self, Config};
use crate::run::{self, RunDirectory};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file in a run directory.
pub const FILE: &str = "run.json";
const CONFIG_FILE: &str = "config.toml";
const VERSION: u32 = 1;

/// What worked in a run directory last, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of this form.
    pub version: u32,
    /// The subcommand: `train`, `search`, `run`, `finetune` or `compare`.
    pub command: String,
    /// The folder that it was called from; none where its name is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
}

impl Origin {
    /// Of this process, which runs `command`.
    pub fn here(command: &str) -> Origin {
        let working_directory = std::env::current_dir().ok().filter(|path| path.to_str().is_some());
        Origin { version: VERSION, command: command.into(), working_directory }
    }

    /// That of the run in `run`; `None` for one of an earlier version of this program, or a damaged file.
    pub fn read(run: &Path) -> Option<Origin> {
        let bytes = std::fs::read(run.join(FILE)).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|origin: &Origin| origin.version == VERSION)
    }

    /// Writes it, unless the directory says so already or cannot be written.
    ///
    /// # Errors
    /// Writing fails.
    pub fn publish(&self, run: &RunDirectory) -> Result<(), run::Error> {
        if Origin::read(run.path()).as_ref() == Some(self) {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(self).expect("paths that are text are JSON");
        text.push('\n');
        match run.write_atomic(FILE, text.as_bytes()) {
            // A run that is over can be looked at where nothing can be written.
            Err(run::Error::ReadOnly { .. }) => Ok(()),
            written => written,
        }
    }
}

/// The configuration of a run directory.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// As the file has it.
    pub own: Config,
    /// The same with paths that hold in this process.
    pub config: Config,
    /// What was unclear about them.
    pub notes: Vec<String>,
    file: PathBuf,
    origin: Option<Origin>,
}

impl StoredRun {
    /// That of the run in `run`.
    ///
    /// # Errors
    /// No run, or one whose configuration cannot be read.
    pub fn read(run: &Path) -> Result<StoredRun, Error> {
        run::check(run)?;
        let file = run.join(CONFIG_FILE);
        let origin = Origin::read(run);
        // Which command it was only decides what a directory is called that nobody names.
        let own = config::load("search", Some(&file), &[], None)?;
        let mut stored = StoredRun { config: own.clone(), own, notes: Vec::new(), file, origin };
        stored.place();
        Ok(stored)
    }

    /// Whether a run has begun there.
    pub fn is_at(run: &Path) -> bool {
        run.join(CONFIG_FILE).exists()
    }

    /// The command that worked in the directory last, where it says.
    pub fn command(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| origin.command.as_str())
    }

    /// Puts the run's working directory before relative paths, unless it is this process's too.
    fn place(&mut self) {
        let Some(from) = self.origin.as_ref().and_then(|origin| origin.working_directory.clone()) else {
            return;
        };
        if std::env::current_dir().is_ok_and(|here| here == from) {
            return;
        }
        let mut notes = Vec::new();
        let mut place = |key: &str, path: &mut PathBuf| {
            if path.is_absolute() {
                return;
            }
            let there = from.join(&*path);
            if there.exists() || !path.exists() {
                *path = there
            } else {
                // Everything was moved together, and the command is called from where it now is.
                notes.push(format!(
                    "{key} = {} of the run is taken from this folder: there is none in {}, which the run was \
                     called from",
                    path.display(),
                    from.display()
                ))
            }
        };
        let config = &mut self.config;
        let paths = [
            ("supernet.weights", &mut config.supernet.weights),
            ("supernet.wide_weights", &mut config.supernet.wide_weights),
            ("data.dir", &mut config.data.dir),
            ("finetune.search", &mut config.finetune.search),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                place(key, path);
            }
        }
        if let Some(arch) = config.finetune.arch.as_mut().filter(|text| !text.trim_start().starts_with('{')) {
            let mut path = PathBuf::from(&*arch);
            place("finetune.arch", &mut path);
            *arch = path.display().to_string();
        }
        self.notes = notes;
    }

    /// Checks that paths of the configuration are there, before they are read; one that is none of its paths
    /// passes.
    ///
    /// # Errors
    /// One is not, with the name of the setting and where the path is relative to.
    pub fn check<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
        paths.into_iter().filter(|path| !path.exists()).try_for_each(|path| self.missing(path))
    }

    /// The error of a path that is not there, if it is the configuration's.
    fn missing(&self, path: &Path) -> Result<(), Error> {
        let (own, here) = (&self.own, &self.config);
        let keys = [
            ("supernet.weights", &own.supernet.weights, &here.supernet.weights),
            ("supernet.wide_weights", &own.supernet.wide_weights, &here.supernet.wide_weights),
            ("data.dir", &own.data.dir, &here.data.dir),
            ("finetune.search", &own.finetune.search, &here.finetune.search),
        ];
        let Some((key, written, _)) = keys.into_iter().find(|(_, _, here)| here.as_deref() == Some(path))
        else {
            return Ok(());
        };
        let written = written.as_deref().unwrap_or(path);
        let from = self.origin.as_ref().and_then(|origin| origin.working_directory.as_ref());
        let whose = match (written.is_relative(), from) {
            (false, _) => String::new(),
            (true, Some(from)) => {
                format!(", a path relative to {}, the folder that the run was called from", from.display())
            }
            (true, None) => ", a path relative to the folder that the run was called from".into(),
        };
        Err(Error::Unusable {
            place: format!("{}: {key} = {:?}", self.file.display(), written.display().to_string()),
            reason: format!("there is no {}{whose}: put it back there", path.display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(folder: &Path, settings: &str, origin: Option<&Path>) -> PathBuf {
        let path = folder.join("run");
        let run = RunDirectory::open(&path).unwrap();
        run.write_atomic(CONFIG_FILE, settings.as_bytes()).unwrap();
        if let Some(origin) = origin {
            let working_directory = Some(origin.to_path_buf());
            let origin = Origin { version: VERSION, command: "search".into(), working_directory };
            origin.publish(&run).unwrap();
            assert_eq!(Origin::read(&path), Some(origin));
        }
        path
    }

    #[test]
    fn relative_paths_are_those_of_the_folder_that_the_run_was_called_from() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            "[supernet]\nweights = \"net.safetensors\"\n[data]\nname = \"cifar10\"\ndir = \"/x\"\n";
        let path = run_with(folder.path(), settings, Some(folder.path()));
        let stored = StoredRun::read(&path).unwrap();
        let weights = folder.path().join("net.safetensors");
        assert_eq!(stored.command(), Some("search"));
        assert_eq!(stored.own.supernet.weights.as_deref(), Some(Path::new("net.safetensors")));
        assert_eq!(stored.config.supernet.weights.as_ref(), Some(&weights));
        assert_eq!(stored.config.data.dir.as_deref(), Some(Path::new("/x")));
        // What is not there is named with its setting.
        let message = stored.check([weights.as_path()]).unwrap_err().to_string();
        for part in ["config.toml", "supernet.weights", "net.safetensors", "called from"] {
            assert!(message.contains(part), "{message}");
        }
        std::fs::write(&weights, "").unwrap();
        let elsewhere = Path::new("/none/of/its/paths");
        stored.check([weights.as_path(), elsewhere]).unwrap();
        let message = stored.check([elsewhere, Path::new("/x")]).unwrap_err().to_string();
        assert!(message.contains("data.dir"), "{message}");
        assert_eq!(stored.notes, Vec::<String>::new());
    }

    #[test]
    fn what_was_moved_together_is_found_and_older_runs_stay_as_they_were() {
        // The tests run in the package's folder, which has this file.
        let settings = "[supernet]\nweights = \"Cargo.toml\"\n";
        for (origin, notes) in [(Some(Path::new("/gone")), 1), (None, 0)] {
            let folder = tempfile::tempdir().unwrap();
            let stored = StoredRun::read(&run_with(folder.path(), settings, origin)).unwrap();
            assert_eq!(stored.config.supernet.weights.as_deref(), Some(Path::new("Cargo.toml")));
            assert_eq!(stored.notes.len(), notes);
            assert_eq!(stored.command().is_some(), origin.is_some());
        }
    }
}
