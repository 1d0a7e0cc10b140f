//! What can be wrong with a configuration. Every message names the key, the value and what would
//! be right; all of them are wrong use (exit code 2).

use crate::exit::exits;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Difference;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a configuration file.
    File(PathBuf),
    /// With `--set`.
    Set,
    /// Nowhere: it is a profile's value.
    Profile,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Set => write!(f, "--set"),
            Origin::Profile => write!(f, "profile"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not a configuration in TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the line.
        reason: String,
    },
    /// A `--set` without a key or a `=`.
    #[error("--set {text:?}: give a key and a value, as in --set search.archive=60")]
    Set {
        /// What was given.
        text: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key {key:?}{}", .nearest.map(|key| format!("; did you mean {key:?}?")).unwrap_or_default())]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The dotted key.
        key: String,
        /// The existing key that is most like it.
        nearest: Option<&'static str>,
    },
    /// A section where a value belongs, or the other way round.
    #[error("{origin}: {key} {reason}")]
    Shape {
        /// Where.
        origin: Origin,
        /// The dotted key.
        key: String,
        /// What it should be.
        reason: String,
    },
    /// A value of the wrong type, out of range or not among the choices.
    #[error(
        "{origin}: {key} = {value}: must be {allowed}{}",
        .nearest.map(|choice| format!("; did you mean {choice:?}?")).unwrap_or_default()
    )]
    Value {
        /// Where.
        origin: Origin,
        /// The dotted key; of a phase, with its number from 1: `train.phases[2].rate`.
        key: String,
        /// The value, as TOML.
        value: String,
        /// What is allowed.
        allowed: String,
        /// The choice that is most like it.
        nearest: Option<&'static str>,
    },
    /// Two settings that do not go together.
    #[error("{key} = {value}: {reason}")]
    Conflict {
        /// The dotted key.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A run directory that belongs to another configuration.
    #[error(
        "this run has another configuration than {}: {}. Give the same settings to go on with it, or another \
         directory with --run",
        path.display(), listed(differences)
    )]
    Differs {
        /// The stored configuration.
        path: PathBuf,
        /// The keys that differ: stored, asked for.
        differences: Vec<Difference>,
    },
}

exits! { Error: Usage [Read, Syntax, Set, UnknownKey, Shape, Value, Conflict, Differs] }

/// Differences that a message names.
const NAMED: usize = 6;

/// What is stored and what is asked for, key by key.
fn listed(differences: &[Difference]) -> String {
    let one = |difference: &Difference| {
        let Difference { key, first, second } = difference;
        format!("{key} is {} there and {} now", or_absent(first), or_absent(second))
    };
    let named: Vec<String> = differences.iter().take(NAMED).map(one).collect();
    let more = match differences.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    named.join(", ") + &more
}

fn or_absent(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("not set")
}
