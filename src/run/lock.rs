//! One process at a time on a run: an advisory lock on `DIR/lock`, which also names its holder.
//!
//! The kernel drops the lock with its process, however that dies, so a stale file locks nothing
//! and is never removed (removing it would let two processes hold two different files).

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::error::{Error, Failed, Result};

pub(super) const FILE: &str = "lock";

/// `holder` takes the lock for an instant, so one refusal proves nothing.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The process that holds a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if the file says.
    pub process: Option<u32>,
    /// Its machine, if the file says: run directories are often on shared file systems.
    pub machine: Option<String>,
}

impl Holder {
    fn this_process() -> Self {
        Holder { process: Some(std::process::id()), machine: Some(host()).filter(|name| !name.is_empty()) }
    }

    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let process = words.next().and_then(|word| word.parse().ok());
        Holder { process, machine: words.next().map(str::to_string) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process}")?,
            None => write!(f, "another process")?,
        }
        self.machine.as_ref().map_or(Ok(()), |machine| write!(f, " on {machine}"))
    }
}

/// The name of this machine; empty where the system does not say.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().replace('/', "_")
}

/// Takes the lock of a run directory, and writes into it who has it.
pub(super) fn acquire(directory: &Path) -> Result<File> {
    let path = directory.join(FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .failed("open", &path)?;
    if !try_lock(&path, || file.try_lock())? {
        return Err(Error::InUse { path: directory.into(), holder: read_holder(&mut file) });
    }
    let me = Holder::this_process();
    let text = format!("{} {}\n", std::process::id(), me.machine.as_deref().unwrap_or(""));
    file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).failed("write", &path)?;
    Ok(file)
}

/// Who holds the lock of a run directory now.
pub(super) fn holder(directory: &Path) -> Result<Option<Holder>> {
    let path = directory.join(FILE);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.failed("read", &path)?,
    };
    Ok(if try_lock(&path, || file.try_lock_shared())? { None } else { Some(read_holder(&mut file)) })
}

fn try_lock(path: &Path, lock: impl Fn() -> Result<(), TryLockError>) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        match lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(source)) => return Err(source).failed("lock", path),
        }
    }
    Ok(false)
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    // A holder that cannot be read is still a holder: the message then says "another process".
    let _ = file.take(1024).read_to_string(&mut text);
    Holder::parse(&text)
}
