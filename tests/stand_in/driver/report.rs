//! What was called how often, what was found, and how the process ends for it.

use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The exit code of a process in which a fault was found.
pub const EXIT_CODE: i32 = 86;
/// Faults that are printed; the others are counted.
const PRINTED: usize = 20;

/// Counts and faults.
#[derive(Debug, Default)]
pub struct Report {
    counts: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl Report {
    /// Counts one more, and says how many that makes.
    pub fn count(&mut self, what: &str) -> u64 {
        let count = match self.counts.get_mut(what) {
            Some(count) => count,
            None => self.counts.entry(what.to_owned()).or_default(),
        };
        *count += 1;
        *count
    }

    /// How often that was counted.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Something that no driver would have told.
    pub fn fault(&mut self, text: String) {
        if self.faults.len() < PRINTED {
            eprintln!("stand-in driver: fault: {text}");
        }
        self.faults.push(text);
    }

    /// The faults so far.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Writes all of it as JSON.
    pub fn write(&self, to: &Path, seed: u64) {
        let text = json!({ "seed": seed, "counts": self.counts, "faults": self.faults });
        if let Err(error) = std::fs::write(to, format!("{text}\n")) {
            eprintln!("stand-in driver: cannot write {}: {error}", to.display());
        }
    }
}
