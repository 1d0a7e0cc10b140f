//! Standard output, standard error, and the files that a command writes where its user says.
//!
//! Printing never panics. A reader that has gone away ends the program quietly ([`Error::ClosedPipe`]).

use super::Error;
use crate::run;
pub use crate::run::say;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Prints `text` and a line break on standard output.
///
/// # Errors
/// Standard output is closed or full.
pub fn print(text: &str) -> Result<(), Error> {
    stream(|out| writeln!(out, "{}", text.trim_end_matches('\n')))
}

/// Prints `value` as one line of JSON on standard output.
///
/// # Errors
/// As [`print()`].
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    // Values of this program have string keys and finite numbers.
    let text = serde_json::to_string(value).map_err(|e| Error::Stdout(e.into()))?;
    print(&text)
}

/// Writes to standard output through a buffer, for output that is better not held in memory.
///
/// # Errors
/// As [`print()`].
pub fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::ClosedPipe,
        _ => Error::Stdout(error),
    })
}

/// Whether a file can be written there, to be asked before the work.
///
/// # Errors
/// As [`run::check_target`].
pub fn check_file(path: &Path) -> Result<(), Error> {
    run::check_target(path).map_err(|error| refused(path, error))
}

/// Writes a file: it appears whole or not at all, and replaces one that is there.
///
/// # Errors
/// As [`run::write_atomic`].
pub fn file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    run::write_atomic(path, bytes).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: run::Error) -> Error {
    match error {
        error @ run::Error::NoFile { .. } => error.into(),
        error => Error::Output { file: path.into(), reason: run::reason_of(&error) },
    }
}
