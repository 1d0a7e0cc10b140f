//! Devices that watch another one while an engine runs on it.
//!
//! [`Meter`] passes everything on and says how long the host was inside of each kind of request; on a card these
//! are what launching, recording and copying cost the host, since the card works behind them. It gives as many
//! streams as are wanted of it. [`Idle`] takes work exactly as the other does and does nothing: what an evaluation
//! takes there is the host's own work, planning above all, and the launches of its calls can be counted.

use crate::device::{
    Buffer, Device, Error, Memory, Multiprocessors, Peaks, Recording, Residents, Stamp, launches,
};
use crate::ops::{Call, Threads};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Kinds of requests.
#[derive(Clone, Copy)]
enum Request {
    Launch,
    Record,
    Start,
    Copy,
    Wait,
}

/// Number and time of the requests of each kind.
#[derive(Debug, Default)]
struct Spent([(AtomicU64, AtomicU64); 5]);

/// What was asked of a device: numbers, and seconds of all threads of the host together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Asked {
    /// Lists of calls that were run as they are.
    pub runs: u64,
    /// Lists that were recorded.
    pub recorded: u64,
    /// Recordings that were started.
    pub started: u64,
    /// Seconds in which lists were run: on a card, launched.
    pub launching: f64,
    /// Seconds in which lists were recorded.
    pub recording: f64,
    /// Seconds in which recordings were started.
    pub starting: f64,
    /// Seconds in which numbers were sent.
    pub copying: f64,
    /// Seconds in which numbers were fetched or calls waited for.
    pub waiting: f64,
}

impl Asked {
    /// The mean of so many rounds that were all asked for.
    pub fn over(self, rounds: usize) -> Asked {
        let rounds = rounds.max(1);
        let (count, seconds) = (|all: u64| all / rounds as u64, |all: f64| all / rounds as f64);
        Asked {
            runs: count(self.runs),
            recorded: count(self.recorded),
            started: count(self.started),
            launching: seconds(self.launching),
            recording: seconds(self.recording),
            starting: seconds(self.starting),
            copying: seconds(self.copying),
            waiting: seconds(self.waiting),
        }
    }
}

/// A device that measures what is asked of another.
pub struct Meter {
    inner: Arc<dyn Device>,
    streams: usize,
    spent: Arc<Spent>,
}

impl Meter {
    /// On a device, of whose streams it gives `streams`: one, or two where there are two.
    pub fn new(inner: Arc<dyn Device>, streams: usize) -> Meter {
        Meter { inner, streams, spent: Arc::default() }
    }

    fn timed<R>(&self, request: Request, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        let (count, nanos) = &self.spent.0[request as usize];
        count.fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    /// What was asked since the last time, on all streams.
    pub fn take(&self) -> Asked {
        let take = |request: Request| {
            let (count, nanos) = &self.spent.0[request as usize];
            (count.swap(0, Ordering::Relaxed), 1e-9 * nanos.swap(0, Ordering::Relaxed) as f64)
        };
        let (runs, launching) = take(Request::Launch);
        let (recorded, recording) = take(Request::Record);
        let (started, starting) = take(Request::Start);
        let (copying, waiting) = (take(Request::Copy).1, take(Request::Wait).1);
        Asked { runs, recorded, started, launching, recording, starting, copying, waiting }
    }
}

/// What a device that takes work as `$self.$inner` does has in common with it.
macro_rules! takes_work_as {
    ($self:ident . $inner:ident) => {
        fn describe(&$self) -> String {
            $self.$inner.describe()
        }
        fn arithmetic(&$self) -> String {
            $self.$inner.arithmetic()
        }
        fn lanes(&$self) -> usize {
            $self.$inner.lanes()
        }
        fn batch_lanes(&$self) -> usize {
            $self.$inner.batch_lanes()
        }
        fn batches(&$self, arena_of_one: usize) -> usize {
            $self.$inner.batches(arena_of_one)
        }
        fn chunk(&$self, arena_of_one: usize) -> usize {
            $self.$inner.chunk(arena_of_one)
        }
        fn block_bytes(&$self) -> u32 {
            $self.$inner.block_bytes()
        }
        fn multiprocessors(&$self) -> Option<Multiprocessors> {
            $self.$inner.multiprocessors()
        }
        fn cache_bytes(&$self) -> usize {
            $self.$inner.cache_bytes()
        }
        fn peaks(&$self) -> Result<Peaks, Error> {
            $self.$inner.peaks()
        }
    };
}

impl Device for Meter {
    takes_work_as!(self.inner);

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        self.inner.allocate(len)
    }

    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        self.timed(Request::Copy, || self.inner.upload(buffer, offset, data))
    }

    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        self.timed(Request::Wait, || self.inner.download(buffer, offset, out))
    }

    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        self.timed(Request::Launch, || self.inner.run(calls, memory, threads))
    }

    fn record(&self, calls: &[Call], memory: Memory<'_>) -> Result<Option<Recording>, Error> {
        self.timed(Request::Record, || self.inner.record(calls, memory))
    }

    fn replay(&self, recording: &Recording, memory: Memory<'_>, threads: Threads) -> Result<bool, Error> {
        let start = Instant::now();
        let started = self.inner.replay(recording, memory, threads)?;
        // A recording on other buffers is not started, and soon found out.
        if started {
            let (count, nanos) = &self.spent.0[Request::Start as usize];
            count.fetch_add(1, Ordering::Relaxed);
            nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        Ok(started)
    }

    fn with_own_stream(&self) -> Result<Option<Arc<dyn Device>>, Error> {
        if self.streams < 2 {
            return Ok(None);
        }
        let other = self.inner.with_own_stream()?;
        Ok(other.map(|inner| -> Arc<dyn Device> {
            Arc::new(Meter { inner, streams: self.streams, spent: self.spent.clone() })
        }))
    }

    fn residents(&self) -> Option<&Residents> {
        self.inner.residents()
    }

    fn synchronise(&self) -> Result<(), Error> {
        self.timed(Request::Wait, || self.inner.synchronise())
    }

    fn time(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<Duration, Error> {
        self.inner.time(calls, memory, threads)
    }

    fn stamp(&self) -> Result<Stamp, Error> {
        self.inner.stamp()
    }

    fn elapsed(&self, from: &Stamp, to: &Stamp) -> Result<Duration, Error> {
        self.inner.elapsed(from, to)
    }

    fn flush_cache(&self) -> Result<(), Error> {
        self.inner.flush_cache()
    }
}

/// A device that does nothing.
pub struct Idle {
    like: Arc<dyn Device>,
    streams: usize,
    /// Where the other has data sets, this has too.
    residents: Option<Arc<Residents>>,
    counts: Arc<AtomicBool>,
    launches: Arc<AtomicU64>,
}

impl Idle {
    /// A device that takes work as another does, on `streams` streams.
    pub fn new(like: Arc<dyn Device>, streams: usize) -> Idle {
        let residents = like.residents().map(|_| Arc::new(Residents::new(usize::MAX)));
        Idle { like, streams, residents, counts: Arc::default(), launches: Arc::default() }
    }

    /// Kernels that `work` would launch on a card, one at a time or as parts of graphs.
    ///
    /// # Errors
    /// Those of the work.
    pub fn launches_of<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<u64, E> {
        self.counts.store(true, Ordering::Relaxed);
        let result = work();
        self.counts.store(false, Ordering::Relaxed);
        let count = self.launches.swap(0, Ordering::Relaxed);
        result.map(|()| count)
    }
}

impl Device for Idle {
    takes_work_as!(self.like);

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        Ok(Buffer::new((), len))
    }

    fn upload(&self, _: &mut Buffer, _: usize, _: &[f32]) -> Result<(), Error> {
        Ok(())
    }

    fn download(&self, _: &Buffer, _: usize, out: &mut [f32]) -> Result<(), Error> {
        out.fill(0.0);
        Ok(())
    }

    fn run(&self, calls: &[Call], _: Memory<'_>, _: Threads) -> Result<(), Error> {
        if self.counts.load(Ordering::Relaxed) {
            let count: u64 = calls.iter().map(|call| u64::from(launches(call))).sum();
            self.launches.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }

    fn with_own_stream(&self) -> Result<Option<Arc<dyn Device>>, Error> {
        let Idle { like, streams, residents, counts, launches } = self;
        let (like, residents) = (like.clone(), residents.clone());
        let (counts, launches) = (counts.clone(), launches.clone());
        let other =
            || -> Arc<dyn Device> { Arc::new(Idle { like, streams: *streams, residents, counts, launches }) };
        Ok((*streams > 1).then(other))
    }

    fn residents(&self) -> Option<&Residents> {
        self.residents.as_deref()
    }
}
