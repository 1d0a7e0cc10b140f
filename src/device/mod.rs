//! Where networks run.
//!
//! A [`Device`] owns memory ([`Buffer`]), moves f32 in and out of it, and runs lists of
//! [`Call`]s on it. Everything above (plans, arenas, evaluation, training) is the same on all of
//! them.
//!
//! - [`Cpu`]: the operators' fast host paths, on the rayon pool;
//! - [`Reference`]: the operators' definitions in f32 or f64, slow and plain, which the others are
//!   checked against.

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod emulated;
mod host;
pub mod launch;
mod reference;

pub use cpu::Cpu;
pub use reference::Reference;

use crate::ops::{Call, Threads};
use std::any::Any;
use std::sync::Arc;

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
}

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

    /// How many lists of calls run best at a time, each on its own arena: the threads of a CPU.
    fn lanes(&self) -> usize;

    /// Elements that one lane's arena should stay below, to remain in the nearest large cache.
    fn arena_target(&self) -> usize;
}

/// Opens a device by name: `cpu`, or the checks `reference-f32` and `reference-f64`.
///
/// # Errors
/// An unknown name, or a device that is not there.
pub fn open(name: &str) -> Result<Arc<dyn Device>, Error> {
    Ok(match name {
        "auto" | "cpu" => Arc::new(Cpu),
        "reference-f32" => Arc::new(Reference::<f32>::new()),
        "reference-f64" => Arc::new(Reference::<f64>::new()),
        _ => {
            let reason = "there is no device of that name: use auto, cpu, cuda, cuda:N or emulated".into();
            return Err(Error::Unavailable { name: name.into(), reason });
        }
    })
}
