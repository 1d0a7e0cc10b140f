//! A program that runs again and again: every chunk of a test set, every batch of a recalibration.
//!
//! Where the device can make a list of calls ready once and start it at less cost
//! ([`Device::record`]), that is done, once for each arena that the program meets: a recording goes
//! with the buffers that it was made on. Loading images and reading results stay outside, and a last
//! chunk that is not full runs the same calls as the others. The numbers are those of plain runs.

use crate::device::{Buffer, Device, Error, Memory, Recording};
use crate::ops::{Call, Threads};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs from which recording pays: making a graph costs about what launching its kernels twice does.
const LEAST_RUNS: usize = 3;

/// When programs are recorded, where a device can. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Graphs {
    /// Where they run often enough for it to pay.
    #[default]
    Auto,
    /// Whenever they run.
    Always,
    /// Not at all.
    Never,
}

impl Graphs {
    /// Whether a program that runs so many times is recorded.
    fn record(self, runs: usize) -> bool {
        match self {
            Graphs::Auto => runs >= LEAST_RUNS,
            Graphs::Always => true,
            Graphs::Never => false,
        }
    }
}

impl FromStr for Graphs {
    type Err = String;

    fn from_str(text: &str) -> Result<Graphs, String> {
        match text {
            "auto" => Ok(Graphs::Auto),
            "always" => Ok(Graphs::Always),
            "never" => Ok(Graphs::Never),
            _ => Err("graphs are made auto, always or never".into()),
        }
    }
}

/// Calls that will run `runs` times, on weights and a network that stay.
pub(super) struct Repeated<'a> {
    device: &'a dyn Device,
    calls: &'a [Call],
    weights: &'a Buffer,
    network: &'a Buffer,
    records: bool,
    /// One for each arena.
    recordings: Mutex<Vec<Arc<Recording>>>,
}

impl<'a> Repeated<'a> {
    pub(super) fn new(
        device: &'a dyn Device,
        calls: &'a [Call],
        (weights, network): (&'a Buffer, &'a Buffer),
        (graphs, runs): (Graphs, usize),
    ) -> Repeated<'a> {
        let records = graphs.record(runs);
        Repeated { device, calls, weights, network, records, recordings: Mutex::default() }
    }

    /// Runs the calls on `arena`.
    pub(super) fn run(&self, arena: &mut Buffer, threads: Threads) -> Result<(), Error> {
        let mut memory = Memory { weights: self.weights, network: self.network, arena };
        if !self.records {
            return self.device.run(self.calls, memory, threads);
        }
        let recordings = || self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recordings().clone();
        for recording in &known {
            if self.device.replay(recording, memory.again(), threads)? {
                return Ok(());
            }
        }
        let Some(recording) = self.device.record(self.calls, memory.again())? else {
            return self.device.run(self.calls, memory, threads);
        };
        let replayed = self.device.replay(&recording, memory, threads)?;
        debug_assert!(replayed, "on the buffers that it was made on");
        recordings().push(Arc::new(recording));
        Ok(())
    }
}
