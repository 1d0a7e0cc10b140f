//! What can go wrong with a run directory. Every message names the file and says what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Holder;
use crate::exit::exits;

/// The result of this module's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the run directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk, or this user's quota on it, is full.
    #[error(
        "{path}: no space left ({source}). Nothing is lost, the last checkpoint is whole: \
         free some space, then give the same command again"
    )]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file or folder that this user may not write.
    #[error(
        "{path}: cannot be written ({source}). Make the run directory writable for this user, \
         or give another one with --run"
    )]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done: "write", "read", "rename" ..
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process works on the run.
    #[error(
        "{path} is in use by {holder}. Wait until it is done, stop it with SIGTERM (it writes a \
         checkpoint first), or give another directory with --run"
    )]
    InUse {
        /// The run directory.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// Written by another version of natv2.
    #[error(
        "{path}: version {found} of the run directory's format; this natv2 reads version {known}. \
         Use the natv2 that began the run, or begin a new one with --run"
    )]
    OtherVersion {
        /// The file that says so.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The version this program writes.
        known: u32,
    },
    /// A path that is no run directory and cannot become one.
    #[error("{path} is not a run directory: {reason}. Give a run, or for a new one an empty or new folder")]
    NotARun {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A name to write to that is no file's.
    #[error("{path} is {what}, which is not replaced by a file: give the name of a file")]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A file that is not as natv2 wrote it.
    #[error("{path}{}: damaged: {reason}. {remedy}", line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1, in a file of lines.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A name that cannot be used for a file of the run.
    #[error(
        "{name:?} cannot name a file of a run: use 1 to 100 letters, digits, '.', '-' or '_', \
         not beginning with '.' or '-', and once each"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A value that JSON cannot hold.
    #[error("{path}: a value cannot be written as JSON: {source}")]
    Json {
        /// Where it was to be written.
        path: PathBuf,
        /// What the serialiser says.
        source: serde_json::Error,
    },
    /// A checkpoint's state that is whole and cannot be understood.
    #[error("{path}: {reason}: it was written by another version, or is damaged; begin a new run with --run")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A run whose checkpoints went away while it ran.
    #[error("the run's checkpoints are gone: begin again with another --run")]
    NoCheckpoint,
    /// Signal handlers cannot be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

exits! { Error:
    Usage [NotARun, NoFile],
    Failure [
        NoSpace, ReadOnly, Io, InUse, OtherVersion, Damaged, BadName, Json, State, NoCheckpoint, Signals,
    ]
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace { path, source },
            ErrorKind::PermissionDenied if action == "read" => Error::Io { action, path, source },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { path, source },
            _ => Error::Io { action, path, source },
        }
    }
}

/// Says what was being done with which file when an input or output operation failed.
pub(super) trait Failed<T> {
    fn failed(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> Failed<T> for io::Result<T> {
    fn failed(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(action, path, source))
    }
}
