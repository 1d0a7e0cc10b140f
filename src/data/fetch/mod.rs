//! Downloading the published data sets: `natv2 data fetch`.
//!
//! The steps, each of which a later call finds done: the archive comes in as `NAME.part`, resumed
//! where an earlier call was cut off (`download`); when whole, its MD5 is checked against the
//! published one; it is unpacked into a hidden folder, what is in there is counted, and the folder
//! gets its name by a rename (`unpack`). So a folder with the official name is whole, or was not
//! made here. An archive that someone put into the folder is taken without a network.
//!
//! Addresses, sizes and checksums stand in the rows of [`facts`](super::facts). The size bounds everything: what a
//! server may send before it is cut off, and what an archive may unpack to.

mod download;
mod unpack;

use crate::exit::exits;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::facts::{ALL, Archive, Facts, Layout, Part};
use crate::run::{Output, StopFlag};

/// What can go wrong. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A data set that is not downloaded.
    #[error("data set `{name}` cannot be fetched: {instead}; {} can", archives().map(|archive| archive.name).collect::<Vec<_>>().join(", "))]
    NotFetched {
        /// The name asked for.
        name: String,
        /// What it is instead.
        instead: &'static str,
    },
    /// No way to the server.
    #[error(
        "cannot reach {url}: {reason}. Check the network and the proxy (HTTPS_PROXY); or download that file where there is a network, put it at {}, and give the same command again: it is then checked and unpacked from there", .file.display()
    )]
    Unreachable {
        /// The address.
        url: String,
        /// What is in the way.
        reason: String,
        /// Where the archive would be found.
        file: PathBuf,
    },
    /// The server does not give the file.
    #[error(
        "{url}: the server answers {status}{}. Check the address, or give that of another copy with --url", if *.status == 404 { " (no such file)" } else { "" }
    )]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server sends another file than the published one, which is larger.
    #[error(
        "{url}: the server {}, and the published archive has {expected} bytes: it is another file, and nothing of it is kept. Check the address, or give that of another copy with --url", .announced.map_or_else(|| "sends more and more".to_owned(), |bytes| format!("announces {bytes} bytes"))
    )]
    TooLarge {
        /// The address.
        url: String,
        /// The archive's bytes.
        expected: u64,
        /// Bytes that the server says it will send; nothing where it did not say.
        announced: Option<u64>,
    },
    /// The connection was lost too often.
    #[error("{url}: the connection was lost after {have} bytes{}: {reason}. The same command goes on from there", .total.map_or_else(String::new, |total| format!(" of {total}")))]
    Interrupted {
        /// The address.
        url: String,
        /// Bytes that are here.
        have: u64,
        /// Bytes of the whole file, where the server says so.
        total: Option<u64>,
        /// What happened.
        reason: String,
    },
    /// Not the published file.
    #[error("{}: its MD5 is {found}, and the published archive has {expected}: {remedy}", .file.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The published MD5.
        expected: &'static str,
        /// The file's.
        found: String,
        /// What was done and is to be done.
        remedy: &'static str,
    },
    /// The disk is full.
    #[error("{}: no space left ({source}). Free some (the data sets need about 0.5 GB each, and an archive of up to 0.25 GB beside it), then give the same command again: it goes on where it stopped", .path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An archive that does not unpack.
    #[error("{}: cannot be unpacked: {reason}. Remove the file and give the same command again", .file.display())]
    Damaged {
        /// The archive.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A folder of the official name that is not whole.
    #[error("{}: is there and not whole: {reason}. Remove or rename the folder, then give the same command again", .folder.display())]
    NotWhole {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another process fetches into the same folder.
    #[error("{}: another process is fetching into this folder; wait until it is done", .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Stopped on request.
    #[error("stopped; what is here of {} stays, and the same command goes on from there", .file.display())]
    Stopped {
        /// The archive.
        file: PathBuf,
    },
}

exits! { Error:
    Usage [NotFetched],
    Stopped [Stopped],
    Failure [Unreachable, Refused, TooLarge, Interrupted, Checksum, NoSpace, Io, Damaged, NotWhole, InUse]
}

/// The result of this module's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The archives that can be fetched.
pub fn archives() -> impl Iterator<Item = &'static Archive> {
    ALL.iter().filter_map(|facts| facts.archive.as_ref())
}

/// The archive of a data set.
///
/// # Errors
/// [`Error::NotFetched`] for one that is built in, the user's own, or unknown.
pub fn archive(name: &str) -> Result<&'static Archive> {
    archives().find(|archive| archive.name == name).ok_or_else(|| Error::NotFetched {
        name: name.to_owned(),
        instead: match Facts::of(name).map(|facts| facts.layout) {
            Ok(Layout::BuiltIn) => "it is built in",
            Ok(Layout::Folders) => "it is a folder of your own images",
            Ok(_) => "no address is known",
            Err(_) => "no such data set is known",
        },
    })
}

/// How often and how soon a lost connection is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in a row that bring not a byte before it is given up.
    pub attempts: u32,
    /// The time before the first of them; each next waits twice as long.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1) }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where the data set is.
    pub folder: PathBuf,
    /// Bytes that came through the network in this call.
    pub downloaded: u64,
    /// Whether everything was there before.
    pub already: bool,
}

/// Fetch a data set into `dir` (made if it is missing) as `dir/FOLDER`. `base` replaces the
/// archive's own addresses up to the file's name.
///
/// # Errors
/// Every [`Error`] but the first. Whatever happens, what has been downloaded is not lost, unless it
/// is not the published file.
pub fn fetch(
    archive: &Archive,
    dir: &Path,
    base: Option<&str>,
    patience: Patience,
    output: Output,
    stop: &StopFlag,
) -> Result<Fetched> {
    // Other subcommands take the folder itself as well as its parent.
    let dir = match dir.parent() {
        Some(parent) if dir.ends_with(archive.folder) => parent,
        _ => dir,
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::create_dir_all(dir).map_err(failed("make", dir))?;
    let _lock = lock(dir)?;
    let folder = dir.join(archive.folder);
    if folder.exists() {
        return match missing(archive, &folder) {
            None => Ok(Fetched { folder, downloaded: 0, already: true }),
            Some(reason) => Err(Error::NotWhole { folder, reason }),
        };
    }
    let file = dir.join(archive.file);
    let found_here = file.is_file();
    let mut downloaded = 0;
    if !found_here {
        downloaded = from_first(archive, &file, base, patience, output, stop)?;
    } else {
        output.note(&format!("{}: found, checking", file.display()));
        let remedy = "it is not the published file. Remove it, then give the same command again";
        check_md5(archive, &file, remedy, stop)?;
    }
    unpack::unpack(archive, &file, &folder, output, stop)?;
    if !found_here {
        // All is done; an archive left over is no failure.
        let _ = fs::remove_file(&file);
    }
    Ok(Fetched { folder, downloaded, already: false })
}

/// Download from the first address that is reached, and say how many bytes came.
fn from_first(
    archive: &Archive,
    file: &Path,
    base: Option<&str>,
    patience: Patience,
    output: Output,
    stop: &StopFlag,
) -> Result<u64> {
    let bases = base.as_slice();
    let mut bases = if bases.is_empty() { archive.bases } else { bases }.iter().peekable();
    while let Some(base) = bases.next() {
        let url = format!("{}/{}", base.trim_end_matches('/'), archive.file);
        if is_plain(&url) {
            output
                .note(&format!("{url}: plain http: that it is the published file is known by its MD5 alone"));
        }
        match download::download(&download::Source { url, patience }, archive, file, output, stop) {
            Err(Error::Unreachable { url, reason, .. }) if bases.peek().is_some() => {
                output.note(&format!("{url}: not reached: {reason}; trying the next address"));
            }
            outcome => return outcome,
        }
    }
    Err(Error::NotFetched { name: archive.name.to_owned(), instead: "no address is known" })
}

/// Whether anyone on the way can read and change what comes from an address.
fn is_plain(url: &str) -> bool {
    url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// Hold the folder as long as the file is open. Where the file system has no locks there is none.
fn lock(dir: &Path) -> Result<Option<File>> {
    let Ok(handle) = File::open(dir) else { return Ok(None) };
    match handle.try_lock() {
        Ok(()) => Ok(Some(handle)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: dir.to_owned() }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What an unpacked folder lacks.
fn missing(archive: &Archive, folder: &Path) -> Option<String> {
    archive.parts.iter().find_map(|&(name, part)| {
        let path = folder.join(name);
        let size = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|data| data.len());
        match (part, size) {
            (Part::Files(expected), _) => {
                let found = files_below(&path, 0);
                (found != expected).then(|| format!("{name} holds {found} files instead of {expected}"))
            }
            (_, None) => Some(format!("{name} is missing")),
            (Part::Bytes(expected), Some(found)) => {
                (found != expected).then(|| format!("{name} has {found} bytes instead of {expected}"))
            }
            (Part::File, Some(found)) => (found == 0).then(|| format!("{name} is empty")),
        }
    })
}

/// Files that are not empty, in a folder and below.
fn files_below(folder: &Path, depth: usize) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() && depth < 8 => files_below(&entry.path(), depth + 1),
        Ok(data) => usize::from(data.is_file() && data.len() > 0),
        Err(_) => 0,
    };
    entries.flatten().map(count).sum()
}

/// Compare a file's MD5 with the published one.
fn check_md5(archive: &Archive, file: &Path, remedy: &'static str, stop: &StopFlag) -> Result<()> {
    use io::Read;
    use md5::{Digest, Md5};
    let mut reader = File::open(file).map_err(failed("read", file))?;
    let (mut digest, mut buffer) = (Md5::new(), vec![0; 1 << 18]);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed("read", file)(source)),
        };
        digest.update(&buffer[..count]);
        if stop.requested() {
            return Err(Error::Stopped { file: file.to_owned() });
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == archive.md5 {
        return Ok(());
    }
    Err(Error::Checksum { file: file.to_owned(), expected: archive.md5, found, remedy })
}

/// The error of a failed operation on a file.
fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path, source },
            _ => Error::Io { action, path, source },
        }
    }
}

#[cfg(test)]
mod tests;
