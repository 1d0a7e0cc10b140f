//! Writing to disk so that nothing is ever half there.
//!
//! [`Storage`] is the seam between this module and the file system: all writing goes through it,
//! so tests can fill the disk or cut the power at every single operation. [`Disk`] is the real one.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{Failed, Result};

/// The operations that change a disk.
pub(crate) trait Storage: Debug + Send + Sync {
    /// Creates a folder and its parents; no error where it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates or empties a file, writes it, and forces it to disk.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Opens a file to append to it, and creates it where there is none.
    fn open_append(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(path)
    }
    /// Writes at the end of a file opened for appending.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Forces a file's data to disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    /// Renames a file or folder, replacing a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Forces the names in a folder to disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Disk;

impl Storage for Disk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}

/// Replaces a file of a locked directory: temporary file, fsync, rename, fsync of the folder.
pub(super) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path, ".new");
    let written = storage.write_synced(&temporary, bytes).failed("write", path);
    rename_into(storage, &temporary, path, written)
}

/// Gives a temporary file the name of `path`, so that it lasts, if it was `written`; else removes it.
pub(super) fn rename_into(
    storage: &dyn Storage,
    temporary: &Path,
    path: &Path,
    written: Result<()>,
) -> Result<()> {
    let renamed = written.and_then(|()| storage.rename(temporary, path).failed("replace", path));
    if renamed.is_err() {
        // Frees what a full disk needs most. If this fails too, the next writer clears it.
        let _ = storage.remove_file(temporary);
        return renamed;
    }
    let folder = folder_of(path);
    storage.sync_dir(folder).failed("sync", folder)
}

/// Whether a file of this name is a replacement that was never finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".new")
}

/// The hidden name beside `path` that ends in `suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{suffix}"))
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
