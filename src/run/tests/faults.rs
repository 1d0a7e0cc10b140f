//! A storage that fails on demand.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::run::list;
use crate::run::storage::{Disk, Storage};

/// What happens at the operation that fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// The process dies: what was being written is there in part, nothing happens afterwards.
    Crash,
    /// The disk is full from there on: writing fails, the rest works.
    Full,
}

/// A storage that fails at one operation. It does not wait for the disk: the tests cut processes
/// short, not power, and do so thousands of times.
#[derive(Debug)]
pub(super) struct Faulty {
    at: usize,
    fault: Fault,
    /// Share of the bytes of the failing write that still get through, in quarters.
    quarters: usize,
    pub(super) log: Mutex<Vec<String>>,
}

impl Faulty {
    pub(super) fn new(at: usize, fault: Fault, quarters: usize) -> Arc<Self> {
        Arc::new(Self { at, fault, quarters, log: Mutex::default() })
    }

    pub(super) fn recorder() -> Arc<Self> {
        Self::new(usize::MAX, Fault::Crash, 0)
    }

    pub(super) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// Counts an operation; whether it goes through, or how many of `bytes` do.
    fn step(&self, name: &str, path: &Path, bytes: Option<&[u8]>) -> Result<(), (usize, io::Error)> {
        let mut log = self.log.lock().unwrap();
        let now = log.len();
        let short = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        log.push(format!("{name} {short}"));
        let part = bytes.map_or(0, |bytes| bytes.len() * self.quarters / 4);
        match self.fault {
            Fault::Crash if now == self.at => Err((part, ErrorKind::Other.into())),
            Fault::Crash if now > self.at => Err((0, ErrorKind::Other.into())),
            Fault::Full if now == self.at && bytes.is_some() => Err((part, ErrorKind::StorageFull.into())),
            Fault::Full if now > self.at && bytes.is_some() => Err((0, ErrorKind::StorageFull.into())),
            _ => Ok(()),
        }
    }

    fn plain(&self, name: &str, path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.step(name, path, None).map_err(|(_, error)| error)?;
        act()
    }
}

impl Storage for Faulty {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.plain("mkdir", path, || Disk.create_dir_all(path))
    }
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.step("write", path, Some(bytes)) {
            Ok(()) => fs::write(path, bytes),
            Err((0, error)) => Err(error),
            Err((part, error)) => fs::write(path, &bytes[..part]).and(Err(error)),
        }
    }
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.step("append", Path::new("file"), Some(bytes)) {
            Ok(()) => Disk.append(file, bytes),
            Err((part, error)) => Disk.append(file, &bytes[..part]).and(Err(error)),
        }
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        let _ = file;
        self.plain("sync", Path::new("file"), || Ok(()))
    }
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.plain("truncate", Path::new("file"), || file.set_len(length))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain("rename", to, || Disk.rename(from, to))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plain("syncdir", path, || Ok(()))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plain("remove", path, || Disk.remove_file(path))
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // A crash in the middle of this leaves some of the files.
        if self.step("rmdir", path, None).is_err() {
            if self.fault == Fault::Crash
                && self.count() == self.at + 1
                && let Some(name) = list(path).unwrap_or_default().first()
            {
                fs::remove_file(path.join(name))?;
            }
            return Err(ErrorKind::Other.into());
        }
        Disk.remove_dir_all(path)
    }
}
