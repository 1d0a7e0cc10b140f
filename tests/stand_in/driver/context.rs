//! A context and what belongs to it: memory, streams, events, modules with their functions, graphs.

use crate::emulator::{Known, Launch};
use crate::image::{Image, Kernel};
use crate::memory::Pieces;
use crate::state::Shared;
use crate::streams::{DEFAULT, Point, Stream};
use cudarc::driver::sys::CUresult;
use std::collections::BTreeMap;
use std::time::Instant;

/// A context; handles are numbers that are never used twice.
#[derive(Debug)]
pub struct Context {
    pub card: i32,
    /// What every call returns since the card has failed.
    pub error: Option<CUresult>,
    pub memory: Pieces,
    pub pinned: Pieces,
    pub streams: BTreeMap<usize, Stream>,
    pub events: BTreeMap<usize, Event>,
    pub modules: BTreeMap<usize, Module>,
    pub functions: BTreeMap<usize, Function>,
    pub graphs: BTreeMap<usize, Graph>,
    pub executables: BTreeMap<usize, Executable>,
}

/// A mark on a stream.
#[derive(Debug)]
pub struct Event {
    pub timing: bool,
    /// Where it was last recorded.
    pub recorded: Option<Point>,
    /// When the card came by.
    pub time: Option<Instant>,
}

/// What was loaded of an image.
#[derive(Debug)]
pub struct Module {
    pub image: Image,
    /// The handles of its functions, by their names.
    pub functions: BTreeMap<String, usize>,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Function {
    pub module: usize,
    pub kernel: Kernel,
    /// What the emulator runs for it, where that takes the same parameters.
    pub emulated: Option<&'static Known>,
    /// Dynamic shared memory that a launch may have, in bytes.
    pub most_dynamic: u32,
    /// The share of shared memory that was asked for, in per cent; -1 where it was not.
    pub carveout: i32,
}

/// A launch that was checked; `None` in place of a launch that does nothing.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub module: usize,
    pub launch: Option<Box<Launch>>,
}

/// A graph that is being built: its nodes by their handles.
#[derive(Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// A node of a graph.
#[derive(Debug, Clone)]
pub struct Node {
    pub handle: usize,
    pub prepared: Prepared,
    /// Places of the nodes that it comes behind.
    pub after: Vec<usize>,
}

/// A graph that can be launched, with memory of its own.
#[derive(Debug)]
pub struct Executable {
    pub nodes: Vec<Node>,
    pub bytes: usize,
}

impl Context {
    /// A context on a card, with the default stream.
    pub fn new(card: i32) -> Context {
        Context {
            card,
            error: None,
            memory: Pieces::default(),
            pinned: Pieces::default(),
            streams: BTreeMap::from([(DEFAULT, Stream::new(true))]),
            events: BTreeMap::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
        }
    }

    /// Bytes of the card that it holds.
    pub fn bytes(&self) -> usize {
        self.memory.bytes() + self.executables.values().map(|executable| executable.bytes).sum::<usize>()
    }

    /// Ends it: does what is left to do and names what nobody has given back.
    pub fn end(mut self, shared: &mut Shared, how: &str) {
        self.run_all(shared);
        let streams = self.streams.iter().filter(|(id, stream)| **id != DEFAULT && stream.open).count();
        let left = [
            (self.memory.count(), "allocations of the card"),
            (self.pinned.count(), "pinned allocations"),
            (streams, "streams"),
            (self.events.len(), "events"),
            (self.modules.len(), "modules"),
            (self.graphs.len(), "graphs"),
            (self.executables.len(), "graphs that can be launched"),
        ];
        for (count, what) in left.into_iter().filter(|(count, _)| *count > 0) {
            shared.report.fault(format!("{count} {what} were not given back when {how}"));
        }
        self.memory.clear();
        self.pinned.clear();
    }

    /// Whether a kernel of the module waits to be launched.
    pub fn is_launched(&self, module: usize) -> bool {
        use crate::streams::Work;
        let of_module = |work: &Work| matches!(work, Work::Launch { module: its, .. } if *its == module);
        self.streams.values().any(|stream| stream.waiting().any(of_module))
    }

    /// Whether work waits that reads or writes that range of pinned memory.
    pub fn is_copied(&self, start: usize, bytes: usize) -> bool {
        self.streams.values().any(|stream| stream.waiting().any(|work| work.touches(start, bytes)))
    }
}
