//! Standard output and standard error. Neither ever panics: a reader that has gone away ends the
//! program quietly ([`Error::ClosedPipe`]).

use super::Error;
pub use crate::run::say;
use serde::Serialize;
use std::io::{self, BufWriter, Write};

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
