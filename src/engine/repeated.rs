//! A program that runs again and again: every chunk of a test set, every batch of a recalibration.
//!
//! Where the device can make a list of calls ready once and start it at less cost
//! ([`Device::record`]), that is done, once for each arena that the program meets: a recording goes
//! with the buffers that it was made on. Loading images and reading results stay outside, and a last
//! chunk that is not full runs the same calls as the others. The numbers are those of plain runs.

use crate::device::{Buffer, Device, Error, Memory, Recording};
use crate::ops::{Call, Threads};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs from which recording pays: making a graph costs about what launching its kernels twice does.
const LEAST_RUNS: usize = 3;

/// Calls that will run `runs` times, on weights and a network that stay.
pub(super) struct Repeated<'a> {
    device: &'a dyn Device,
    calls: &'a [Call],
    weights: &'a Buffer,
    network: &'a Buffer,
    runs: usize,
    /// One for each arena.
    recordings: Mutex<Vec<Arc<Recording>>>,
}

impl<'a> Repeated<'a> {
    pub(super) fn new(
        device: &'a dyn Device,
        calls: &'a [Call],
        (weights, network): (&'a Buffer, &'a Buffer),
        runs: usize,
    ) -> Repeated<'a> {
        Repeated { device, calls, weights, network, runs, recordings: Mutex::default() }
    }

    /// Runs the calls on `arena`.
    pub(super) fn run(&self, arena: &mut Buffer, threads: Threads) -> Result<(), Error> {
        let mut memory = Memory { weights: self.weights, network: self.network, arena };
        if self.runs < LEAST_RUNS {
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
