//! The emulator as a [`Runtime`].

use super::Runtime;
use crate::device::Error;
use crate::device::emulated::{EmulatedEvent, EmulatedMemory, EmulatedRuntime, EmulatorError, ThreadOrder};
use crate::launch::{Arguments, Geometry, RecordedLaunch};
use crate::ops::Threads;
use std::time::Duration;

/// The kernels on the CPU.
#[derive(Debug, Clone)]
pub struct Emulator {
    /// Runs blocks on the calling thread, for [`Threads::One`].
    one: EmulatedRuntime,
    /// Shares blocks out over the processor's threads, for [`Threads::All`].
    all: EmulatedRuntime,
}

impl Emulator {
    /// The emulator with as many threads as rayon's pool, its CUDA threads taking turns in `order`.
    ///
    /// # Errors
    /// The program was built without it.
    pub fn new(order: ThreadOrder) -> Result<Emulator, Error> {
        let runtime = |threads| {
            EmulatedRuntime::new(threads)
                .map(|runtime| runtime.with_order(order))
                .map_err(|error| Error::Unavailable { name: "emulated".into(), reason: error.to_string() })
        };
        Ok(Emulator { one: runtime(1)?, all: runtime(rayon::current_num_threads())? })
    }
}

fn failed(error: EmulatorError) -> Error {
    match error {
        EmulatorError::OutOfMemory { bytes } => Error::OutOfMemory { device: "emulated".into(), bytes },
        other => Error::Failed { device: "emulated".into(), reason: other.to_string() },
    }
}

impl Runtime for Emulator {
    type Memory = EmulatedMemory;
    type Event = EmulatedEvent;
    type Graph = Vec<RecordedLaunch>;

    fn describe(&self) -> String {
        format!("emulated (the CUDA kernels on the CPU, {} threads)", self.all.threads())
    }

    fn arithmetic(&self) -> String {
        "emulated".into()
    }

    fn with_own_stream(&self) -> Result<Emulator, Error> {
        // Launches have run when they return, so there is nothing to be ordered.
        Ok(self.clone())
    }

    fn allocate(&self, bytes: usize) -> Result<EmulatedMemory, Error> {
        self.all.alloc(bytes).map_err(failed)
    }

    fn address(&self, memory: &EmulatedMemory) -> u64 {
        memory.address()
    }

    fn upload(&self, memory: &mut EmulatedMemory, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.all.upload(memory, offset, from).map_err(failed)
    }

    fn download(&self, memory: &EmulatedMemory, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.all.download(memory, offset, to).map_err(failed)
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
        threads: Threads,
    ) -> Result<(), Error> {
        let runtime = match threads {
            Threads::One => &self.one,
            Threads::All => &self.all,
        };
        // SAFETY: passed on to the caller.
        unsafe { runtime.launch(kernel, geometry, arguments) }.map_err(failed)
    }

    fn graph(&self, launches: Vec<RecordedLaunch>) -> Result<Option<Vec<RecordedLaunch>>, Error> {
        Ok(Some(launches))
    }

    unsafe fn launch_graph(&self, graph: &Vec<RecordedLaunch>, threads: Threads) -> Result<bool, Error> {
        // SAFETY: passed on to the caller.
        let launch =
            |l: &RecordedLaunch| unsafe { self.launch(l.kernel, l.geometry, &l.arguments(), threads) };
        graph.iter().try_for_each(launch)?;
        Ok(true)
    }

    fn synchronise(&self) -> Result<(), Error> {
        self.all.synchronise();
        Ok(())
    }

    fn record(&self) -> Result<EmulatedEvent, Error> {
        Ok(self.all.record())
    }

    fn elapsed(&self, from: &EmulatedEvent, to: &EmulatedEvent) -> Result<Duration, Error> {
        Ok(to.since(from))
    }

    fn lanes(&self) -> usize {
        self.all.threads()
    }

    fn multiprocessors(&self) -> u32 {
        // So that the kernels are picked that would run there.
        super::H100_MULTIPROCESSORS.count
    }

    fn shared_bytes(&self) -> u32 {
        super::H100_SHARED_BYTES
    }

    fn cache_bytes(&self) -> usize {
        32 << 20
    }

    fn arena_budget(&self) -> (usize, usize) {
        (1 << 21, 64)
    }

    fn resident_budget(&self) -> usize {
        1 << 30
    }

    fn peak_sizes(&self) -> (usize, u32) {
        super::SMALL_PEAK
    }
}
