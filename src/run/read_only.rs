//! A run directory that this process cannot write: on a file system that is read-only, or another user's.
//!
//! A run that is over has nothing left to write, and its result can be printed from what is there. So such
//! a directory is opened without its lock. Its storage refuses every change and says why.

use std::fs::File;
use std::io;
use std::path::Path;

use super::storage::Storage;

/// The storage of such a directory.
#[derive(Debug)]
pub(super) struct ReadOnlyStorage {
    kind: io::ErrorKind,
    reason: String,
}

impl ReadOnlyStorage {
    /// `why` is what the system said to the first attempt to write.
    pub(super) fn new(why: &io::Error) -> Self {
        Self { kind: why.kind(), reason: why.to_string() }
    }

    /// The refusal of any change.
    pub(super) fn refusal(&self) -> io::Error {
        io::Error::new(self.kind, self.reason.clone())
    }
}

impl Storage for ReadOnlyStorage {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() { Ok(()) } else { Err(self.refusal()) }
    }

    fn write_synced(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(self.refusal())
    }

    fn open_append(&self, path: &Path) -> io::Result<File> {
        File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.refusal(),
            _ => error,
        })
    }

    fn append(&self, _: &File, _: &[u8]) -> io::Result<()> {
        Err(self.refusal())
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: &File, _: u64) -> io::Result<()> {
        Err(self.refusal())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(self.refusal())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(self.refusal())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(self.refusal())
    }
}
