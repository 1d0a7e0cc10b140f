//! A file that only grows, by one whole record at a time. Most records are lines.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Failed, Result};
use super::storage::Storage;

/// The writing end of a file of records.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) path: PathBuf,
    file: File,
    /// Bytes of whole records. More than that in the file is the start of one that failed.
    length: u64,
    torn: bool,
    storage: Arc<dyn Storage>,
}

impl Appender {
    /// Opens or creates the file and cuts it to `length`, where its last whole record ends.
    pub(super) fn open(path: &Path, length: u64, storage: Arc<dyn Storage>) -> Result<Self> {
        let file = storage.open_append(path).failed("open", path)?;
        let torn = file.metadata().failed("read", path)?.len() != length;
        let mut appender = Self { path: path.into(), file, length, torn, storage };
        appender.mend()?;
        Ok(appender)
    }

    /// Appends a record, all of it or nothing.
    pub(super) fn append(&mut self, record: impl AsRef<[u8]>) -> Result<()> {
        let record = record.as_ref();
        self.mend()?;
        if let Err(source) = self.storage.append(&self.file, record) {
            // Part of the record may be there. Cut it off now, or, if the disk is too sick for that,
            // before the next line: else the next would follow a torn one and both be lost.
            self.torn = true;
            let _ = self.mend();
            return Err(Error::io("write", &self.path, source));
        }
        self.length += record.len() as u64;
        Ok(())
    }

    /// Cuts the file at the end of an earlier record.
    pub(super) fn cut(&mut self, length: u64) -> Result<()> {
        self.torn |= length < self.length;
        self.length = self.length.min(length);
        self.mend()
    }

    /// Forces everything appended to disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.storage.sync(&self.file).failed("sync", &self.path)
    }

    fn mend(&mut self) -> Result<()> {
        if self.torn {
            self.storage.truncate(&self.file, self.length).failed("repair", &self.path)?;
            self.torn = false;
        }
        Ok(())
    }
}
