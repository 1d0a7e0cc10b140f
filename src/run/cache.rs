//! A cache on disk: JSON values by key, for results that are dear to compute again.
//!
//! A file of sealed lines that only grows; the last line of a key holds. Nothing depends on a
//! line being there, so damage costs a computation and never the run: damaged lines are skipped
//! with a warning, and a torn last line is cut off. Lines survive `kill -9` at once, a power cut
//! from the next [`Cache::sync`] on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::appender::Appender;
use super::error::{Error, Result};
use super::storage::Storage;
use super::{VERSION, line, read_if_there};

/// A cache, open for reading and writing.
#[derive(Debug)]
pub struct Cache {
    appender: Appender,
    values: BTreeMap<String, Value>,
    warning: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    key: String,
    value: Value,
}

impl Cache {
    pub(super) fn open(path: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        let bytes = read_if_there(path)?.unwrap_or_default();
        let lines = line::lines(&bytes);
        let mut values = BTreeMap::new();
        let mut skipped = Vec::new();
        for (at, text) in lines.whole.iter().enumerate() {
            match read_entry(text) {
                Ok(entry) => drop(values.insert(entry.key, entry.value)),
                Err(reason) => skipped.push((at + 1, reason)),
            }
        }
        let warning = skipped.first().map(|(number, reason)| {
            format!(
                "{}: {} of {} lines are damaged and skipped, the first is line {number} ({reason}); \
                 what they held is computed again",
                path.display(),
                skipped.len(),
                lines.whole.len()
            )
        });
        let appender = Appender::open(path, lines.length as u64, storage)?;
        Ok(Self { appender, values, warning })
    }

    /// What was skipped on opening, for the log.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a key, or nothing where it has none or one of another form.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.values.get(key).and_then(|value| T::deserialize(value).ok())
    }

    /// Keeps a value. Finite floats come back to the bit; others become `null`.
    ///
    /// # Errors
    /// [`Error::Json`]; [`Error::NoSpace`] and the like, and then the cache is as before.
    pub fn insert(&mut self, key: &str, value: &impl Serialize) -> Result<()> {
        let json = |source| Error::Json { path: self.appender.path.clone(), source };
        let value = serde_json::to_value(value).map_err(json)?;
        let entry = Entry { version: VERSION, key: key.into(), value };
        let text = line::seal(&entry).map_err(json)?;
        self.appender.append(&text)?;
        self.values.insert(entry.key, entry.value);
        Ok(())
    }

    /// Forces what was inserted to disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<()> {
        self.appender.sync()
    }
}

fn read_entry(text: &[u8]) -> Result<Entry, String> {
    let object = line::unseal(text)?;
    let entry: Entry = serde_json::from_str(&object).map_err(|error| error.to_string())?;
    if entry.version != VERSION {
        return Err(format!("version {} where {VERSION} is known", entry.version));
    }
    Ok(entry)
}
