//! Settings: what a run does, in one typed structure.
//!
//! Layers, the later over the earlier: the profile's values (`paper`, `quick`, `tiny`), the
//! configuration file, `--set key=value`. The profile itself, and the choices that others follow
//! (`search.method`), are read from all layers first. A setting is
//! one row in the file of its section, with what it means, what it allows and its usual value; [`keys`] is
//! the table of all of them, from which reading, checking and the comments of a written file follow.
//!
//! [`load`] gives a [`Config`] in which everything is decided but what only the weights' card or
//! the data set can say; those keys are absent, and `None`. Relative paths, wherever they are
//! given, are against the current directory, as they are on the command line.

mod error;
mod finetune;
pub mod keys;
mod layers;
mod precision;
mod profiles;
mod search;
mod sources;
#[cfg(test)]
mod tests;
mod training;

pub use error::Error;
pub use finetune::{Exits, Finetune, FinetuneOptimiser, Keep, Pick};
pub use precision::Precision;
pub use profiles::Profile;
pub use search::{Adaptation, Algorithm, Distribution, Method, Objective, Predictor, Search};
pub use sources::{Data, Run, RunWarmup, Supernet};
pub use training::{Decays, Init, MOST_EPOCHS, Optimiser, Phase, Schedule, Teacher, Training, Widths};

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Value;

use crate::data::Facts;
use crate::data::augment::Preset;
use crate::words::{Word, words};
use keys::KEYS;
use profiles::Given;

/// A configuration file is a page of text. More than this is a mistake (weights given for it).
const LARGEST: u64 = 1 << 20;

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subcommand that this was loaded for. No setting: neither stored nor compared, so that
    /// the stages of one run share a directory.
    #[serde(skip)]
    pub command: String,
    /// Seed of every random stream; at most `i64::MAX`.
    pub seed: u64,
    /// Where the values come from that were not given.
    pub profile: Profile,
    /// The stages of a whole run.
    pub run: Run,
    /// The data set.
    pub data: Data,
    /// The super-network.
    pub supernet: Supernet,
    /// Training of a super-network.
    pub train: Training,
    /// Warm-up of a super-network on a target data set.
    pub warmup: Training,
    /// The search.
    pub search: Search,
    /// The accuracy predictor.
    pub predictor: Predictor,
    /// Training between the rounds of the search.
    pub adaptation: Adaptation,
    /// Fine-tuning of what a search has found.
    pub finetune: Finetune,
}

/// The configuration of a command: the profile's values, under the file's, under `sets`
/// (`key=value`, values in TOML, quotes optional for text).
///
/// `command` is the subcommand's name, which names the default run directory. `profile` is that of
/// `--profile`, which overrides a `profile` in the file or in `sets`; without any it is `quick`.
///
/// # Errors
/// An unreadable file, an unknown key, a value of the wrong type or out of its range, settings
/// that contradict each other. Each message names the key and what is allowed.
pub fn load(
    command: &str,
    path: Option<&Path>,
    sets: &[String],
    profile: Option<Profile>,
) -> Result<Config, Error> {
    let text = path.map(|path| Ok((path, read(path)?))).transpose()?;
    layers::resolve(command, text.as_ref().map(|(path, text)| (*path, text.as_str())), sets, profile)
}

/// Checks that the configuration stored in a run directory is the one that is asked for now.
/// `text` is the stored file's, `path` its name for the message.
///
/// # Errors
/// [`Error::Differs`], naming the keys that do; what [`load`] says of a damaged file.
pub fn check_stored(path: &Path, text: &str, asked: &Config) -> Result<(), Error> {
    let stored = layers::resolve(&asked.command, Some((path, text)), &[], None)?;
    match stored.differences(asked) {
        differences if differences.is_empty() => Ok(()),
        differences => Err(Error::Differs { path: path.into(), differences }),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Syntax { path: path.into(), reason: "larger than 1 MiB".into() });
    }
    String::from_utf8(bytes).map_err(|_| Error::Syntax { path: path.into(), reason: "not UTF-8 text".into() })
}

/// A phase as a line of the list, its keys in their own order.
fn phase_line(phase: &toml::Table) -> String {
    let fields = keys::PHASE_KEYS.iter().filter_map(|key| Some((key.path, phase.get(key.path)?)));
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name} = {value}")).collect();
    format!("  {{ {} }},\n", fields.join(", "))
}

/// A key in which two configurations differ. A value that is absent is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The dotted key.
    pub key: &'static str,
    /// Its value in the first, as TOML.
    pub first: Option<String>,
    /// Its value in the second, as TOML.
    pub second: Option<String>,
}

impl Config {
    /// With the values that hold where nobody gives others.
    fn usual(given: &Given) -> Config {
        Config {
            command: given.command.into(),
            seed: 0,
            profile: given.profile,
            run: Run::usual(),
            data: Data::usual(),
            supernet: Supernet::usual(given),
            train: Training::usual(given, given.train),
            warmup: Training::usual(given, given.warmup),
            search: Search::usual(given),
            predictor: Predictor::usual(given),
            adaptation: Adaptation::usual(given),
            finetune: Finetune::usual(given),
        }
    }

    /// What happens to the training images of a data set.
    pub fn augmentation(&self, data: &Facts) -> Preset {
        let usual =
            if self.profile == Profile::Paper { data.published_augmentation } else { data.augmentation };
        self.data.augmentation.unwrap_or(usual)
    }

    /// The value of every key, in the order of [`KEYS`]; `None` where it is absent.
    fn values(&self) -> Vec<(&'static keys::Key, Option<Value>)> {
        // A Config has no map with other than string keys and no number beyond i64: the fields are
        // public, so a seed may be, and is then shown as text.
        let table = toml::Table::try_from(self).unwrap_or_else(|_| {
            let seed = Value::String(self.seed.to_string());
            let small = Config { seed: 0, ..self.clone() };
            let mut table = toml::Table::try_from(small).unwrap_or_default();
            table.insert("seed".into(), seed);
            table
        });
        let value = |path: &str| match path.split_once('.') {
            None => table.get(path).cloned(),
            Some((section, name)) => table.get(section).and_then(|section| section.get(name)).cloned(),
        };
        KEYS.iter().map(|key| (key, value(key.path))).collect()
    }

    /// The configuration as a file that [`load`] reads back to the same: every key in order, with
    /// what it means; keys that are absent stand as comments.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# Resolved configuration of a natv2 run.\n");
        let mut section = "";
        for (key, value) in self.values() {
            let name = match key.path.split_once('.') {
                None => key.path,
                Some((of, name)) => {
                    if of != section {
                        section = of;
                        let _ = write!(text, "\n[{section}]\n");
                    }
                    name
                }
            };
            let _ = writeln!(text, "# {}", key.doc);
            let _ = match (value, key.absent) {
                (Some(Value::Array(list)), _) if list.iter().any(Value::is_table) => {
                    // One phase a line.
                    let phases: String = list.iter().filter_map(Value::as_table).map(phase_line).collect();
                    writeln!(text, "{name} = [\n{phases}]")
                }
                (Some(value), _) => writeln!(text, "{name} = {value}"),
                (None, absent) => writeln!(text, "# {name} is not set: {}", absent.unwrap_or("nothing")),
            };
        }
        text
    }

    /// Eight hexadecimal digits that name this configuration; equal for equal ones, whatever file,
    /// order or spelling they came from.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (key, value) in self.values() {
            if let Some(value) = value {
                hash.update(format!("{} = {value}\n", key.path));
            }
        }
        hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The run directory of this configuration where none is given: `runs/<command>-<hash>`.
    pub fn default_run_directory(&self) -> std::path::PathBuf {
        Path::new("runs").join(format!("{}-{}", self.command, self.hash()))
    }

    /// The keys, in the order of [`KEYS`], in which this configuration and another differ.
    pub fn differences(&self, other: &Config) -> Vec<Difference> {
        let pairs = self.values().into_iter().zip(other.values());
        let differs =
            |((key, first), (_, second)): ((&'static keys::Key, Option<Value>), (_, Option<Value>))| {
                let text = |value: Option<Value>| value.map(|value| value.to_string());
                (first != second).then(|| Difference {
                    key: key.path,
                    first: text(first),
                    second: text(second),
                })
            };
        pairs.filter_map(differs).collect()
    }
}
