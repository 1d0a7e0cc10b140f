//! Programs that run again and again: every chunk of a test set, every batch of a recalibration, every pass
//! of a latency.
//!
//! Where the device can make a list of calls ready once and start it at less cost
//! ([`Device::record`]), that is done where it pays ([`Graphs`]), once for each arena that the program meets:
//! a recording goes with the buffers that it was made on. An engine keeps those of the last programs, so that
//! one that comes again, on buffers that are still there, is not made again. Loading images and reading
//! results stay outside, and a last chunk that is not full runs the same calls as the others. The numbers are
//! those of plain runs.

use crate::device::{Buffer, Device, Error, Memory, Recording};
use crate::ops::{Call, Threads};
use crate::words::{parsed, words};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs from which recording pays, so far and to come. Making a graph costs about what launching its kernels
/// twice does, and starting it next to nothing: the third run is the first that gains. So a program that runs
/// less in one call gains only if it comes again.
const LEAST_RUNS: usize = 3;

/// Programs that are remembered: a graph takes some kilobytes a launch, of which trees have thousands.
const PROGRAMS: usize = 16;

words!(
    /// When lists of calls are recorded, on devices that can: see [`Device::record`]. Results do not depend on
    /// it.
    #[derive(Default)]
    Graphs {
        /// Where it pays: programs that have run or will run three times.
        #[default]
        Auto = "auto",
        /// At the first run.
        Always = "always",
        /// Never: every kernel is launched on its own.
        Never = "never",
    }
);

parsed!(Graphs, String, |text| "graphs are made auto, always or never".into());

/// The programs that an engine ran last, with what was recorded of them.
#[derive(Default)]
pub(super) struct Recordings {
    /// The programs; the one that ran last stands last.
    programs: Mutex<Vec<Arc<RecordedProgram>>>,
    /// Whether the device has said that there is nothing to be saved.
    useless: AtomicBool,
}

/// A program: the same calls are the same program, whatever they were made for.
struct RecordedProgram {
    calls: Arc<Vec<Call>>,
    /// Runs so far, and those that were announced.
    runs: AtomicUsize,
    /// One for each arena and network, the last at the end.
    recordings: Mutex<Vec<Arc<Recording>>>,
}

impl Recordings {
    /// The program of these calls, which will run `runs` times.
    fn program(&self, calls: &Arc<Vec<Call>>, runs: usize) -> Arc<RecordedProgram> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that was made once is known by where it lies; one that was made again, by its calls.
        let same = programs.iter().rposition(|program| Arc::ptr_eq(&program.calls, calls));
        let found = same.or_else(|| programs.iter().rposition(|program| program.calls == *calls));
        let program = found.map(|index| programs.remove(index)).unwrap_or_else(|| {
            let (runs, recordings) = (AtomicUsize::new(0), Mutex::default());
            Arc::new(RecordedProgram { calls: calls.clone(), runs, recordings })
        });
        program.runs.fetch_add(runs, Ordering::Relaxed);
        programs.push(program.clone());
        if programs.len() > PROGRAMS {
            programs.remove(0);
        }
        program
    }
}

impl RecordedProgram {
    fn recordings(&self) -> MutexGuard<'_, Vec<Arc<Recording>>> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that will run a number of times, on weights and a network that stay.
pub(super) struct Repeated<'a> {
    device: &'a dyn Device,
    calls: &'a Arc<Vec<Call>>,
    weights: &'a Buffer,
    network: &'a Buffer,
    recordings: &'a Recordings,
    /// What is remembered of them, if they are to be recorded.
    program: Option<Arc<RecordedProgram>>,
}

impl<'a> Repeated<'a> {
    pub(super) fn new(
        device: &'a dyn Device,
        (recordings, graphs): (&'a Recordings, Graphs),
        calls: &'a Arc<Vec<Call>>,
        (weights, network): (&'a Buffer, &'a Buffer),
        runs: usize,
    ) -> Repeated<'a> {
        let pays = |program: &Arc<RecordedProgram>| match graphs {
            Graphs::Auto => program.runs.load(Ordering::Relaxed) >= LEAST_RUNS,
            Graphs::Always => true,
            Graphs::Never => false,
        };
        let records = graphs != Graphs::Never && !recordings.useless.load(Ordering::Relaxed);
        let program = records.then(|| recordings.program(calls, runs)).filter(pays);
        Repeated { device, calls, weights, network, recordings, program }
    }

    /// Runs the calls on `arena`; what starts them there again, if they are recorded.
    pub(super) fn run(&self, arena: &mut Buffer, threads: Threads) -> Result<Option<Arc<Recording>>, Error> {
        let mut memory = self.memory(arena);
        if let Some(program) = &self.program {
            let known = program.recordings().clone();
            for recording in known.into_iter().rev() {
                if self.device.replay(&recording, memory.again(), threads)? {
                    return Ok(Some(recording));
                }
            }
            if let Some(recording) = self.record(program, memory.again())?
                && self.device.replay(&recording, memory.again(), threads)?
            {
                return Ok(Some(recording));
            }
        }
        self.device.run(self.calls, memory, threads)?;
        Ok(None)
    }

    /// Starts what was recorded on `arena`, or the calls themselves where the device has no room to start that.
    pub(super) fn replay(
        &self,
        recording: &Recording,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        let mut memory = self.memory(arena);
        if self.device.replay(recording, memory.again(), threads)? {
            return Ok(());
        }
        self.device.run(self.calls, memory, threads)
    }

    fn memory<'b>(&'b self, arena: &'b mut Buffer) -> Memory<'b> {
        Memory { weights: self.weights, network: self.network, arena }
    }

    fn record(&self, program: &RecordedProgram, memory: Memory<'_>) -> Result<Option<Arc<Recording>>, Error> {
        if self.recordings.useless.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(recording) = self.device.record(self.calls, memory)? else {
            self.recordings.useless.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        let recording = Arc::new(recording);
        let mut recordings = program.recordings();
        recordings.push(recording.clone());
        // A recording on a buffer that is gone is of no use: the oldest goes.
        if recordings.len() > 2 * self.device.lanes() {
            recordings.remove(0);
        }
        Ok(Some(recording))
    }
}
