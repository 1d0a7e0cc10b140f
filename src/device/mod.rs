//! Where networks run.
//!
//! A [`Device`] owns memory ([`Buffer`]), moves f32 in and out of it, and runs lists of
//! [`Call`]s on it. Everything above (plans, arenas, evaluation, training) is the same on all of
//! them.
//!
//! - [`Cpu`]: the operators' fast host paths, on the rayon pool;
//! - [`Gpu`]: the kernels of `kernels/`, on a card or, with the [`Emulator`], on the CPU;
//! - [`Reference`]: the operators' definitions in f32 or f64, slow and plain, which the others are
//!   checked against.
//!
//! What of it has not run on a card is said in `cuda.rs`.

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod emulated;
mod gpu;
mod host;
mod measure;
mod recording;
mod reference;
mod residents;

pub use crate::launch::Multiprocessors;
pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use gpu::Card;
pub use gpu::{
    CARD_ARENA_BYTES, CARD_IMAGES, Emulator, Gpu, H100_MULTIPROCESSORS, Runtime, geometries, launches,
};
pub use measure::{Peak, Peaks, Stamp};
pub use recording::Recording;
pub use reference::Reference;
pub use residents::{Pages, Residents};

use crate::exit::exits;
use crate::launch;
use crate::ops::{Call, Threads};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No memory for a buffer.
    #[error("{device} cannot allocate {bytes} bytes: use a smaller batch, or free memory")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Size asked for.
        bytes: usize,
    },
    /// A device that was asked for and is not there.
    #[error("device `{name}` cannot be used: {reason}")]
    Unavailable {
        /// The name asked for.
        name: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A device that gave up on something.
    #[error("{device}: {reason}")]
    Failed {
        /// The device.
        device: String,
        /// What it says.
        reason: String,
    },
    /// A call that its kernel cannot be launched for.
    #[error(transparent)]
    Launch(#[from] launch::Error),
}

exits! { Error: Failure [OutOfMemory, Unavailable, Failed]; held [Launch] }

/// Memory of a device: a number of elements, f32 as seen from the host.
pub struct Buffer {
    memory: Box<dyn Any + Send + Sync>,
    len: usize,
}

impl Buffer {
    /// Wraps a device's own memory.
    pub(crate) fn new<M: Any + Send + Sync>(memory: M, len: usize) -> Buffer {
        Buffer { memory: Box::new(memory), len }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device's own memory; a buffer of another device is a programming error.
    pub(crate) fn memory<M: Any>(&self) -> &M {
        self.memory.downcast_ref().expect("a buffer of this device")
    }

    /// As [`Buffer::memory`], to write.
    pub(crate) fn memory_mut<M: Any>(&mut self) -> &mut M {
        self.memory.downcast_mut().expect("a buffer of this device")
    }
}

/// The buffers that a list of calls works on.
pub struct Memory<'a> {
    /// The packed super-network.
    pub weights: &'a Buffer,
    /// The arena of the pass that prepared the network, or the weights where none is needed.
    pub network: &'a Buffer,
    /// What the calls write.
    pub arena: &'a mut Buffer,
}

/// A place where networks run.
pub trait Device: Send + Sync {
    /// One line for tables and logs: what it is, and the instruction set or card.
    fn describe(&self) -> String;

    /// What the bits of a result depend on: the kind of device and its instruction set, but not the
    /// number of threads.
    fn arithmetic(&self) -> String;

    /// A buffer of `len` elements, all NaN, so that nothing unwritten goes unnoticed.
    ///
    /// # Errors
    /// There is no memory for it.
    fn allocate(&self, len: usize) -> Result<Buffer, Error>;

    /// Copies `data` to `buffer` at element `offset`.
    ///
    /// # Errors
    /// The device fails.
    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error>;

    /// Copies elements of `buffer` from `offset` on into `out`, when all calls so far are done.
    ///
    /// # Errors
    /// The device fails.
    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error>;

    /// Runs the calls in order.
    ///
    /// # Errors
    /// The device fails.
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error>;

    /// Makes the calls ready to be run again and again on these buffers, at less cost than by
    /// [`Device::run`]; runs nothing. `None` where there is nothing to be saved: on a CPU.
    ///
    /// # Errors
    /// The device fails.
    fn record(&self, calls: &[Call], memory: Memory<'_>) -> Result<Option<Recording>, Error> {
        let _ = (calls, memory);
        Ok(None)
    }

    /// Runs what was recorded, as [`Device::run`] would, if that was on these very buffers and the device has room to
    /// start it; whether it does. If not, nothing runs.
    ///
    /// # Errors
    /// The device fails.
    fn replay(&self, recording: &Recording, memory: Memory<'_>, threads: Threads) -> Result<bool, Error> {
        let _ = (recording, memory, threads);
        Ok(false)
    }

    /// The same device with a stream of its own: what runs there and what runs here do not wait for each
    /// other, so that the one's small launches fill what the other's leave idle. Memory belongs to
    /// both; who hands a buffer from one to the other calls [`Device::synchronise`] first. `None` where
    /// [`Device::lanes`] does as much.
    ///
    /// # Errors
    /// The device fails.
    fn with_own_stream(&self) -> Result<Option<Arc<dyn Device>>, Error> {
        Ok(None)
    }

    /// How many lists of calls run best at a time, each on its own arena: the threads of a CPU.
    fn lanes(&self) -> usize;

    /// How many recalibration batches run best side by side, each on one thread and an arena of its
    /// own; their averages are then added up on the host, in f32. 1 where a batch fills the device.
    fn batch_lanes(&self) -> usize {
        1
    }

    /// How many of recalibration's batches run best in one pass, where one needs an arena of
    /// `arena_of_one` elements. Results do not depend on it.
    fn batches(&self, arena_of_one: usize) -> usize {
        let _ = arena_of_one;
        1
    }

    /// How many images a lane runs best at a time, where one image needs an arena of
    /// `arena_of_one` elements: as many as stay in a cache, or as many as fill a card.
    fn chunk(&self, arena_of_one: usize) -> usize;

    /// The data sets that live here, where a device makes its inputs itself; `None` where the host is
    /// to make them, which then has the pixels at hand.
    fn residents(&self) -> Option<&Residents> {
        None
    }

    /// Waits until all calls so far are done.
    ///
    /// # Errors
    /// One of them failed.
    fn synchronise(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How long the calls take to run, as the device measures it: once everything before them is done, and
    /// without what the host does to get them started.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn time(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<Duration, Error> {
        self.synchronise()?;
        let start = Instant::now();
        self.run(calls, memory, threads)?;
        self.synchronise()?;
        Ok(start.elapsed())
    }

    /// How long each of several runs of the calls takes, one right behind the other, with the caches flushed
    /// before each where asked for. A GPU waits for nothing in between.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn time_each(
        &self,
        calls: &[Call],
        mut memory: Memory<'_>,
        threads: Threads,
        repetitions: usize,
        flush: bool,
    ) -> Result<Vec<Duration>, Error> {
        let mut once = || {
            if flush {
                self.flush_cache()?;
            }
            self.time(calls, memory.again(), threads)
        };
        (0..repetitions).map(|_| once()).collect()
    }

    /// How long `times` runs of the calls take together: for what is far shorter than a launch.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn time_many(
        &self,
        calls: &[Call],
        mut memory: Memory<'_>,
        threads: Threads,
        times: usize,
    ) -> Result<Duration, Error> {
        self.synchronise()?;
        let start = Instant::now();
        (0..times).try_for_each(|_| self.run(calls, memory.again(), threads))?;
        self.synchronise()?;
        Ok(start.elapsed())
    }

    /// Marks a point behind all calls so far: an event on a GPU, which waits for nothing; elsewhere the
    /// time when they are done.
    ///
    /// # Errors
    /// The device fails.
    fn stamp(&self) -> Result<Stamp, Error> {
        self.synchronise()?;
        Ok(Stamp::new(Instant::now()))
    }

    /// The time that the device took from one stamp to a later one; waits for the later.
    ///
    /// # Errors
    /// The device fails.
    fn elapsed(&self, from: &Stamp, to: &Stamp) -> Result<Duration, Error> {
        Ok(to.point::<Instant>().saturating_duration_since(*from.point()))
    }

    /// Bytes of shared memory that a block of threads can have; 0 where there are no blocks.
    fn block_bytes(&self) -> u32 {
        0
    }

    /// The multiprocessors that blocks of threads run on; `None` where there are no blocks.
    fn multiprocessors(&self) -> Option<Multiprocessors> {
        None
    }

    /// Size of the last cache that belongs to one lane alone, in bytes: a core's second level, or all
    /// of a card's.
    fn cache_bytes(&self) -> usize {
        measure::host_cache_bytes()
    }

    /// Measures the device's peaks, with all its threads; takes about a second.
    ///
    /// # Errors
    /// The device fails.
    fn peaks(&self) -> Result<Peaks, Error> {
        measure::host_peaks()
    }

    /// Overwrites the caches, so that what is timed next finds its operands in memory.
    ///
    /// # Errors
    /// The device fails.
    fn flush_cache(&self) -> Result<(), Error> {
        measure::flush_host();
        Ok(())
    }
}

/// Opens a device by name: `auto`, `cpu`, `cuda`, `cuda:N`, `emulated`, or the checks
/// `reference-f32` and `reference-f64`. `auto` takes a GPU that works, else the CPU.
///
/// # Errors
/// An unknown name, or a device that is not there.
pub fn open(name: &str) -> Result<Arc<dyn Device>, Error> {
    Ok(match name {
        "auto" => open_card("cuda:0", 0).unwrap_or_else(|_| Arc::new(Cpu)),
        "cpu" => Arc::new(Cpu),
        "cuda" => open_card(name, 0)?,
        "emulated" => Arc::new(Gpu::new(Emulator::new(emulated::ThreadOrder::Forward)?)),
        "reference-f32" => Arc::new(Reference::<f32>::new()),
        "reference-f64" => Arc::new(Reference::<f64>::new()),
        _ => match name.strip_prefix("cuda:").and_then(|number| number.parse().ok()) {
            Some(ordinal) => open_card(name, ordinal)?,
            None => {
                let reason =
                    "there is no device of that name: use auto, cpu, cuda, cuda:N or emulated".into();
                return Err(Error::Unavailable { name: name.into(), reason });
            }
        },
    })
}

#[cfg(feature = "cuda")]
fn open_card(_: &str, ordinal: usize) -> Result<Arc<dyn Device>, Error> {
    Ok(Arc::new(Gpu::new(Card::new(ordinal)?)))
}

#[cfg(not(feature = "cuda"))]
fn open_card(name: &str, _: usize) -> Result<Arc<dyn Device>, Error> {
    let reason = "this program was built without it: build with the feature `cuda`".into();
    Err(Error::Unavailable { name: name.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_open_by_name_or_say_what_to_do() {
        for name in ["auto", "cpu", "reference-f32", "reference-f64"] {
            assert!(open(name).is_ok(), "{name}");
        }
        let reason = |name: &str| open(name).map(|device| device.describe()).unwrap_err().to_string();
        assert!(reason("tpu").contains("use auto, cpu, cuda"), "{}", reason("tpu"));
        assert!(reason("cuda:x").contains("no device of that name"));
        let beyond = reason("cuda:4000");
        assert!(beyond.starts_with("device `cuda:4000` cannot be used: "), "{beyond}");
        match open("emulated") {
            Ok(device) => assert!(cfg!(natv2_emulator) && device.describe().starts_with("emulated")),
            Err(error) => assert!(!cfg!(natv2_emulator) && error.to_string().contains("C++17")),
        }
    }
}
