//! How many threads this process computes with.
//!
//! The flag counts, then `RAYON_NUM_THREADS`, then what Slurm gives the task (`SLURM_CPUS_PER_TASK`), then the
//! cores that the process may run on. Slurm does not always bind a task to its share of a node, so its number is
//! taken where it is the smaller.

use super::Error;
use std::env;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The variable that `rayon`'s programs know.
const RAYON: &str = "RAYON_NUM_THREADS";
/// What Slurm sets for a task that asked for processors.
const SLURM: &str = "SLURM_CPUS_PER_TASK";

/// A number of threads, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThreadCount {
    pub(super) count: usize,
    by: Option<&'static str>,
    /// Variables whose values are no numbers, and are passed over.
    pub(super) unread: Vec<(&'static str, String)>,
}

impl fmt::Display for ThreadCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some(by) => write!(f, "{}, as {by} says", self.count),
            None => write!(f, "{}, one a core", self.count),
        }
    }
}

impl ThreadCount {
    /// What the flag or the environment say.
    pub(super) fn wanted(flag: Option<usize>) -> ThreadCount {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ThreadCount::of(
            flag,
            |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            cores,
        )
    }

    fn of(flag: Option<usize>, variable: impl Fn(&str) -> Option<String>, cores: usize) -> ThreadCount {
        let mut unread = Vec::new();
        let mut read = |name: &'static str| {
            let text = variable(name).filter(|text| !text.trim().is_empty())?;
            match text.trim().parse::<usize>() {
                // To both, 0 is what they would do without it.
                Ok(count) => (count > 0).then_some(count),
                Err(_) => {
                    unread.push((name, text));
                    None
                }
            }
        };
        let (rayon, slurm) = (read(RAYON), read(SLURM));
        let slurm = slurm.map(|count| count.min(cores));
        let ways = [(flag, "--threads"), (rayon, RAYON), (slurm, SLURM)];
        let found = ways.into_iter().find_map(|(count, by)| Some((count?, by)));
        let (count, by) = found.map_or((cores, None), |(count, by)| (count, Some(by)));
        ThreadCount { count, by, unread }
    }
}

/// Starts the threads of this process; the first call counts.
///
/// # Errors
/// The system does not give them.
pub(super) fn start(flag: Option<usize>) -> Result<(), Error> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let count = ThreadCount::wanted(flag).count;
    let built = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    built.map_err(|e| Error::Threads { count, reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flag: Option<usize>, rayon: &str, slurm: &str) -> (String, usize) {
        let variable = |name: &str| {
            let text = if name == RAYON { rayon } else { slurm };
            (!text.is_empty()).then(|| text.to_string())
        };
        let threads = ThreadCount::of(flag, variable, 8);
        (threads.to_string(), threads.unread.len())
    }

    #[test]
    fn the_flag_counts_then_rayon_then_slurm_then_the_cores() {
        for ((flag, rayon, slurm), expected) in [
            ((Some(3), "5", "2"), ("3, as --threads says", 0)),
            ((None, "5", "2"), ("5, as RAYON_NUM_THREADS says", 0)),
            ((None, "12", ""), ("12, as RAYON_NUM_THREADS says", 0)),
            ((None, "", "2"), ("2, as SLURM_CPUS_PER_TASK says", 0)),
            ((None, "0", "2"), ("2, as SLURM_CPUS_PER_TASK says", 0)),
            // A task of a whole node that is bound to a part of it.
            ((None, "", "64"), ("8, as SLURM_CPUS_PER_TASK says", 0)),
            ((None, "", ""), ("8, one a core", 0)),
            ((None, "many", "-1"), ("8, one a core", 2)),
        ] {
            let (text, unread) = of(flag, rayon, slurm);
            assert_eq!((&text[..], unread), expected, "{flag:?} {rayon} {slurm}");
        }
    }
}
