//! The run directory: everything a run leaves on disk, and the rules that keep it whole.
//!
//! ```text
//! DIR/version                      schema of the directory, "natv2 run 1"
//! DIR/lock                         held by the process at work; names it
//! DIR/config.toml                  the resolved configuration
//! DIR/run.json                     the last command in it, and the folder that it was called from
//! DIR/search.json                  what the search began with
//! DIR/journal.jsonl                what happened, append-only            (journal.rs)
//! DIR/cache.jsonl                  results by key, append-only           (cache.rs)
//! DIR/checkpoints/STAGE/STEP/      the files of one step and a manifest  (checkpoint.rs)
//! DIR/tensorboard/STAGE/events.out.tfevents.1.natv2    curves, append-only  (tensorboard.rs)
//! DIR/archive.json, front.json ..  results, replaced whole               (storage.rs)
//! any other file                   what a command writes elsewhere       (target.rs)
//! ```
//!
//! The rule: a file that is replaced is written under another name, forced to disk, and renamed;
//! the files of one step become visible together or not at all; and what is appended is sealed
//! line by line. So a run killed at any instant is found again at its newest checkpoint, and its
//! results are rewritten from there. This module knows files, not networks.

mod appender;
mod cache;
mod checkpoint;
mod error;
mod journal;
mod line;
mod lock;
mod progress;
mod read_only;
mod signal;
mod storage;
mod target;
mod tensorboard;
#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use checkpoint::{Checkpoint, Restored, Transaction};
pub use error::{Error, Result};
pub use journal::{Event, Journal};
pub use lock::Holder;
pub use progress::{Output, Progress, say};
pub use signal::StopFlag;
pub use target::{check_target, reason_of, write_atomic};
pub use tensorboard::Curves;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use error::Failed;
use read_only::ReadOnlyStorage;
use storage::{Disk, Storage};

/// Schema of the run directory, its journal, caches and manifests.
pub const VERSION: u32 = 1;

const VERSION_FILE: &str = "version";
const VERSION_PREFIX: &str = "natv2 run ";
const JOURNAL: &str = "journal.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const TENSORBOARD: &str = "tensorboard";

/// A run directory that this process holds, alone.
///
/// The lock is released when the value is dropped and, by the kernel, when the process dies. A directory
/// that cannot be written is held by nobody, and nothing in it can change through this value.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    is_new: bool,
    storage: Arc<dyn Storage>,
    /// Why nothing can be written, where that is so.
    read_only: Option<Arc<ReadOnlyStorage>>,
    _lock: Option<File>,
}

impl RunDirectory {
    /// Creates the directory (and its parents) or opens the run that is in it, locks it, and
    /// clears what an interrupted write has left. A run that this process may read and not write is
    /// opened too: what is finished can be read, and the first change fails with [`Error::ReadOnly`].
    ///
    /// # Errors
    /// [`Error::InUse`] where another process holds it; [`Error::NotARun`] for a folder that holds
    /// something else; [`Error::OtherVersion`]; [`Error::ReadOnly`], [`Error::NoSpace`] and
    /// [`Error::Io`] of the file system.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, Arc::new(Disk))
    }

    pub(crate) fn open_on(path: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        let state = state_of(path)?;
        if state == State::Other {
            return Err(Error::NotARun { path: path.into(), reason: "it holds other files" });
        }
        storage.create_dir_all(path).failed("create", path)?;
        let lock = match lock::acquire(path) {
            Err(Error::ReadOnly { source, .. }) if state_of(path)? == State::Run => {
                return Self::open_read_only(path, ReadOnlyStorage::new(&source));
            }
            lock => Some(lock?),
        };
        // Only now: another process may have written it between the first look and the lock.
        let is_new = state_of(path)? != State::Run;
        if is_new {
            let text = format!("{VERSION_PREFIX}{VERSION}\n");
            storage::replace(&*storage, &path.join(VERSION_FILE), text.as_bytes())?;
            // The name of the directory itself must last, too.
            storage.sync_dir(storage::folder_of(path)).failed("sync", storage::folder_of(path))?;
        }
        let run = Self { path: path.into(), is_new, storage, read_only: None, _lock: lock };
        run.clear_leftovers()?;
        Ok(run)
    }

    fn open_read_only(path: &Path, read_only: ReadOnlyStorage) -> Result<Self> {
        // Someone else may be able to write, and be at it.
        if let Some(holder) = lock::holder(path)? {
            return Err(Error::InUse { path: path.into(), holder });
        }
        let read_only = Arc::new(read_only);
        let storage = read_only.clone();
        Ok(Self { path: path.into(), is_new: false, storage, read_only: Some(read_only), _lock: None })
    }

    /// Fails where nothing can be written: to be called before work whose result would have to be.
    ///
    /// # Errors
    /// [`Error::ReadOnly`].
    pub fn check_writable(&self) -> Result<()> {
        match &self.read_only {
            Some(storage) => Err(Error::io("write", &self.path, storage.refusal())),
            None => Ok(()),
        }
    }

    /// Whether [`open`](Self::open) found no run here and began one.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file `name` of the directory: readers see the old bytes or the new, never a
    /// mixture, and once this returns the new ones survive a power cut. A file that holds these bytes
    /// already is left as it is.
    ///
    /// # Errors
    /// [`Error::BadName`], or what the file system says; the old file is intact then.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        let path = self.path.join(name);
        if holds(&path, bytes) {
            // Bytes are on disk before they get their name; the name may not be yet.
            return self.storage.sync_dir(&self.path).failed("sync", &self.path);
        }
        storage::replace(&*self.storage, &path, bytes)
    }

    /// As [`write_atomic`](Self::write_atomic), for what can be made again at any time, such as a page: in a
    /// directory that cannot be written the file stays as it is.
    ///
    /// # Errors
    /// As [`write_atomic`](Self::write_atomic).
    pub fn write_where_possible(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.read_only {
            Some(_) => check_name(name),
            None => self.write_atomic(name, bytes),
        }
    }

    /// The bytes of the file `name`, or nothing where there is none.
    ///
    /// # Errors
    /// [`Error::BadName`], or what the file system says.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        check_name(name)?;
        read_if_there(&self.path.join(name))
    }

    /// Opens the journal and repairs a line that was being written when its process died.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the line, where anything but the last line is broken.
    pub fn journal(&self) -> Result<Journal> {
        Journal::open(&self.path.join(JOURNAL), self.storage.clone())
    }

    /// Opens the cache in the file `name` (`cache.jsonl` is the evaluations').
    ///
    /// # Errors
    /// [`Error::BadName`], or what the file system says. Damaged lines are skipped, with a warning.
    pub fn cache(&self, name: &str) -> Result<Cache> {
        check_name(name)?;
        Cache::open(&self.path.join(name), self.storage.clone())
    }

    /// Opens the curves of a stage, as TensorBoard reads them.
    ///
    /// # Errors
    /// [`Error::BadName`] for the stage, or what the file system says. A record that is not whole
    /// and what follows it are cut off, with a warning.
    pub fn curves(&self, stage: &str) -> Result<Curves> {
        check_name(stage)?;
        Curves::open(&self.path.join(TENSORBOARD).join(stage), self.storage.clone())
    }

    /// Begins the checkpoint of a step of a stage (`train`, `search`, ..): files are added to it,
    /// and become visible together when it is committed.
    ///
    /// # Errors
    /// [`Error::BadName`] for the stage, or what the file system says.
    pub fn checkpoint(&self, stage: &str, step: u64) -> Result<Transaction> {
        check_name(stage)?;
        Transaction::begin(self.storage.clone(), &self.path.join(CHECKPOINTS), stage, step)
    }

    /// The newest checkpoint of a stage whose every file is as its manifest says.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there are checkpoints but none is whole: starting over silently
    /// would throw work away.
    pub fn latest_checkpoint(&self, stage: &str) -> Result<Restored> {
        latest_checkpoint(&self.path, stage)
    }

    /// The newest whole checkpoint of a stage among those that are [proven](Transaction::proven), for a run
    /// that must go back; the newest whole one of any kind where there is none of these.
    ///
    /// # Errors
    /// As [`RunDirectory::latest_checkpoint`].
    pub fn latest_proven(&self, stage: &str) -> Result<Restored> {
        check_name(stage)?;
        checkpoint::latest_proven(&self.path.join(CHECKPOINTS).join(stage))
    }

    /// Removes half-written files and finishes replacements that were cut short.
    fn clear_leftovers(&self) -> Result<()> {
        for entry in list(&self.path)? {
            if storage::is_unfinished(&entry) {
                let path = self.path.join(&entry);
                self.storage.remove_file(&path).failed("remove", &path)?;
            }
        }
        let checkpoints = self.path.join(CHECKPOINTS);
        for stage in list(&checkpoints)? {
            checkpoint::recover(&*self.storage, &checkpoints.join(stage))?;
        }
        Ok(())
    }
}

/// Checks that there is a run of this version in `path`, without taking its lock: for `status`
/// and `report`, which may look at a run at work.
///
/// # Errors
/// [`Error::NotARun`] or [`Error::OtherVersion`].
pub fn check(path: &Path) -> Result<()> {
    match state_of(path)? {
        State::Run => Ok(()),
        State::Missing => Err(Error::NotARun { path: path.into(), reason: "there is no such folder" }),
        State::Empty | State::Other => {
            Err(Error::NotARun { path: path.into(), reason: "it has no file `version`" })
        }
    }
}

/// The process that holds the run in `path` now, if one does.
///
/// # Errors
/// What the file system says.
pub fn holder(path: &Path) -> Result<Option<Holder>> {
    lock::holder(path)
}

/// The events of the run in `path`, as [`Journal::events`] has them, without taking its lock or
/// repairing anything; a line that is being written is left out.
///
/// # Errors
/// As [`RunDirectory::journal`].
pub fn events(path: &Path) -> Result<Vec<Event>> {
    journal::read(&path.join(JOURNAL))
}

/// As [`RunDirectory::latest_checkpoint`], without taking the lock.
///
/// # Errors
/// As [`RunDirectory::latest_checkpoint`].
pub fn latest_checkpoint(path: &Path, stage: &str) -> Result<Restored> {
    check_name(stage)?;
    checkpoint::latest(&path.join(CHECKPOINTS).join(stage))
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// Nothing, or what is there between the first call and the version file.
    Empty,
    Run,
    Other,
}

fn state_of(path: &Path) -> Result<State> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => return Err(error).failed("read", path),
        Ok(data) if !data.is_dir() => {
            return Err(Error::NotARun { path: path.into(), reason: "it is a file, not a folder" });
        }
        Ok(_) => {}
    }
    let file = path.join(VERSION_FILE);
    let Some(bytes) = read_if_there(&file)? else {
        let started = |name: &String| name == lock::FILE || storage::is_unfinished(name);
        return Ok(if list(path)?.iter().all(started) { State::Empty } else { State::Other });
    };
    let text = String::from_utf8_lossy(&bytes);
    let found = text.strip_prefix(VERSION_PREFIX).map(str::trim).and_then(|v| v.parse::<u32>().ok());
    match found {
        Some(VERSION) => Ok(State::Run),
        Some(found) => Err(Error::OtherVersion { path: file, found, known: VERSION }),
        None => Err(Error::NotARun { path: path.into(), reason: "its file `version` is not a run's" }),
    }
}

/// The names in a folder, sorted; none where there is no folder.
fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.failed("read", path)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.failed("read", path)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether a file is there and holds these bytes.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let size =
        fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() == bytes.len() as u64);
    size && fs::read(path).is_ok_and(|found| found == bytes)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).failed("read", path),
    }
}

/// Names that callers give become names of files: one component, nothing hidden, nothing odd.
fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > 100 || name.starts_with(['.', '-']) || !name.bytes().all(plain) {
        return Err(Error::BadName { name: name.into() });
    }
    Ok(())
}
