//! Devices that run the kernels of `kernels/`: a GPU, and the emulator.
//!
//! [`Gpu`] is a [`Device`] on top of a [`Runtime`], the little that differs between the two:
//! memory, copies, launches, events. Everything above that, the launch geometry of the operators
//! (`ops/*/gpu.rs`), parameter structs, plans and arenas, is shared, so what the emulator proves is
//! what a card runs.

#[cfg(feature = "cuda")]
mod card;
mod emulator;
#[cfg(test)]
mod layout;
mod timing;

#[cfg(feature = "cuda")]
pub use card::Card;
pub use emulator::Emulator;

use super::measure::{self, Peaks, Stamp};
use super::recording::Buffers;
use super::{Buffer, Device, Error, Memory, Multiprocessors, Recording, Residents};
use crate::launch::{self, Arguments, Geometry, Launcher, RecordedLaunch, launched};
use crate::ops::{Call, Threads};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;
use timing::LazyMemory;

/// Bytes that an arena on a card may well have; an eighth of a small card's memory.
pub const CARD_ARENA_BYTES: usize = 1 << 30;
/// The most images that are worth running at a time on a card: thousands fill any.
pub const CARD_IMAGES: usize = 4096;
/// Multiprocessors of an H100.
pub const H100_MULTIPROCESSORS: Multiprocessors = Multiprocessors { count: 132, multiply_adds: 128 };
/// Shared memory that a block of an H100 can have; kernels/emulator/shared.h allows as much.
const H100_SHARED_BYTES: u32 = 227 << 10;

/// What [`Gpu`] needs of a card or of its stand-in.
///
/// One stream: copies and launches happen in the order in which they are asked for.
pub trait Runtime: Send + Sync + Sized + 'static {
    /// Memory of the device; freed when dropped.
    type Memory: Send + Sync + 'static;
    /// A point in time among the launches.
    type Event: 'static;
    /// Launches that were put together.
    type Graph: Send + Sync + 'static;

    /// One line for tables and logs.
    fn describe(&self) -> String;

    /// What the bits of a result depend on; see [`Device::arithmetic`].
    fn arithmetic(&self) -> String;

    /// The same card or stand-in with a stream of its own.
    ///
    /// # Errors
    /// The device fails.
    fn with_own_stream(&self) -> Result<Self, Error>;

    /// Memory filled with NaN (as f32), aligned to at least 256 bytes.
    ///
    /// # Errors
    /// There is none.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, Error>;

    /// The address that kernels know memory by.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copies to the device, `offset` bytes into `memory`. `from` may change as soon as it returns.
    ///
    /// # Errors
    /// The device fails.
    fn upload(&self, memory: &mut Self::Memory, offset: usize, from: &[u8]) -> Result<(), Error>;

    /// Copies from the device, when all launches so far are done.
    ///
    /// # Errors
    /// The device fails, then or in an earlier launch.
    fn download(&self, memory: &Self::Memory, offset: usize, to: &mut [u8]) -> Result<(), Error>;

    /// Launches a kernel; may return before it has run. `threads` is for the emulator, whose blocks
    /// run on threads of the host.
    ///
    /// # Errors
    /// The launch is refused, or an earlier one has failed.
    ///
    /// # Safety
    /// The pointers among the arguments are valid for what the kernel does with them, until it ends.
    unsafe fn launch(
        &self,
        kernel: &'static str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
        threads: Threads,
    ) -> Result<(), Error>;

    /// Puts launches together, each behind the one before, to be started at once; starts none.
    /// `None` where that cannot be had.
    ///
    /// # Errors
    /// The device refuses one of them.
    fn graph(&self, launches: Vec<RecordedLaunch>) -> Result<Option<Self::Graph>, Error>;

    /// Starts launches that were put together; may return before they have run. Whether it has started them: if not,
    /// none was, and they can be launched one by one.
    ///
    /// # Errors
    /// They are refused, or an earlier one has failed.
    ///
    /// # Safety
    /// As [`Runtime::launch`], for each of them.
    unsafe fn launch_graph(&self, graph: &Self::Graph, threads: Threads) -> Result<bool, Error>;

    /// Waits until all launches have ended.
    ///
    /// # Errors
    /// One of them has failed.
    fn synchronise(&self) -> Result<(), Error>;

    /// Marks a point behind the launches so far.
    ///
    /// # Errors
    /// The device fails.
    fn record(&self) -> Result<Self::Event, Error>;

    /// A point that [`mark`](Runtime::mark) is to set, made beforehand.
    ///
    /// # Errors
    /// The device fails.
    fn event(&self) -> Result<Self::Event, Error> {
        self.record()
    }

    /// Sets a point to be behind the launches so far.
    ///
    /// # Errors
    /// The device fails.
    fn mark(&self, event: &mut Self::Event) -> Result<(), Error> {
        *event = self.record()?;
        Ok(())
    }

    /// Makes a kernel ready, so that its first launch takes no longer than others.
    ///
    /// # Errors
    /// There is no such kernel, or no code of it for the device.
    fn load(&self, kernel: &'static str) -> Result<(), Error> {
        let _ = kernel;
        Ok(())
    }

    /// Rounds of a block's chains of multiply-adds (`peak_f32`) that keep the device busy for as long as the
    /// host needs for the next launches, some 50 microseconds.
    fn cover_rounds(&self) -> u32 {
        1
    }

    /// Waits for `to` and gives the time that the device took from `from` on.
    ///
    /// # Errors
    /// The device fails.
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Result<Duration, Error>;

    /// How many lists of calls run best side by side.
    fn lanes(&self) -> usize;

    /// Multiprocessors of the card.
    fn multiprocessors(&self) -> u32;

    /// f32 multiply-adds that a multiprocessor makes in a cycle: an H100's, and so the emulator's.
    fn multiply_adds(&self) -> u32 {
        H100_MULTIPROCESSORS.multiply_adds
    }

    /// Shared memory that a block can have at most, in bytes.
    fn shared_bytes(&self) -> u32;

    /// Size of the card's last cache, in bytes.
    fn cache_bytes(&self) -> usize;

    /// Elements that an arena may well have, and the most images that are worth running at a time.
    fn arena_budget(&self) -> (usize, usize);

    /// Bytes that data sets may take.
    fn resident_budget(&self) -> usize;

    /// Elements of the arrays and rounds of the chains that peaks are measured with.
    fn peak_sizes(&self) -> (usize, u32);
}

/// A device that runs kernels.
pub struct Gpu<R: Runtime> {
    runtime: R,
    /// What the cache is flushed with.
    flush: LazyMemory<R::Memory>,
    /// What the kernel writes that keeps the card busy before something is timed.
    cover: LazyMemory<R::Memory>,
    residents: Arc<Residents>,
}

launched! {
    struct FillArgs = "FillParams" {
        y: u64,
        quads: u32,
        value: f32,
    }
}

launched! {
    struct CopyArgs = "CopyArgs" {
        x: u64,
        y: u64,
        quads: u32,
    }
}

launched! {
    struct PeakArgs = "PeakArgs" {
        y: u64,
        rounds: u32,
        factor: f32,
        term: f32,
    }
}

launched! {
    struct ProductPeakArgs = "ProductPeakArgs" {
        y: u64,
        rounds: u32,
    }
}

/// Threads of a block of the kernels that peaks are measured with: `kPeakThreads`.
const PEAK_THREADS: usize = 256;
/// Operations of a warp and round of `peak_bf16`: 8 products of 16 x 16 by 16 x 8.
const PRODUCT_FLOPS: f64 = 8.0 * 4096.0;
/// Elements of the arrays and rounds of the chains for peaks of processors: milliseconds of work.
const SMALL_PEAK: (usize, u32) = (1 << 18, 16);
/// A copy of peaks that takes longer is none of a card: this is 10 GB/s.
const SLOW_COPY: Duration = Duration::from_millis(100);

impl<R: Runtime> Gpu<R> {
    /// The device on that runtime.
    pub fn new(runtime: R) -> Gpu<R> {
        let residents = Arc::new(Residents::new(runtime.resident_budget()));
        Gpu { runtime, flush: LazyMemory::default(), cover: LazyMemory::default(), residents }
    }

    /// Lets data sets take at most `bytes`. Results do not depend on it.
    #[must_use]
    pub fn with_resident_budget(self, bytes: usize) -> Gpu<R> {
        Gpu { residents: Arc::new(Residents::new(bytes)), ..self }
    }

    /// The runtime.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    fn all_multiprocessors(&self) -> Multiprocessors {
        let (count, multiply_adds) = (self.runtime.multiprocessors(), self.runtime.multiply_adds());
        Multiprocessors { count, multiply_adds }
    }

    fn buffers(&self, memory: &Memory<'_>) -> Buffers {
        [memory.weights, memory.network, memory.arena]
            .map(|buffer| (self.runtime.address(buffer.memory()), buffer.len()))
    }

    /// Gives `launch` every launch of the calls on these buffers.
    fn each_launch(
        &self,
        calls: &[Call],
        buffers: Buffers,
        launch: impl Fn(&'static str, Geometry, &Arguments<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let own = Cell::new(None);
        let launch = |kernel, geometry, arguments: &Arguments<'_>| {
            launch(kernel, geometry, arguments).map_err(|error| {
                own.set(Some(error));
                launch::Error::Refused
            })
        };
        let launcher =
            Launcher::new(buffers, self.all_multiprocessors(), self.runtime.shared_bytes(), &launch);
        let launched = calls.iter().try_for_each(|call| call.launch(&launcher));
        launched.map_err(|error| own.take().unwrap_or(Error::Launch(error)))
    }

    /// Launches `kernel`, a thread an item, with arguments that hold addresses of `memory` alone.
    fn launch_items<T: Copy>(&self, kernel: &'static str, items: usize, args: &T) -> Result<(), Error> {
        let geometry = Geometry::covering(items as u32, 256);
        // SAFETY: the callers below pass arrays with an element for every item.
        unsafe { self.runtime.launch(kernel, geometry, &Arguments::of(args), Threads::All) }
    }

    /// The fastest of a few runs, after one that does not count.
    fn best(&self, mut run: impl FnMut() -> Result<(), Error>) -> Result<Duration, Error> {
        run()?;
        Ok(self.timed(5, false, run)?.into_iter().min().unwrap_or_default())
    }

    /// The best time of a copy.
    fn copy_time(&self, x: u64, y: u64, quads: usize) -> Result<Duration, Error> {
        let copy = CopyArgs { x, y, quads: quads as u32 };
        self.best(|| self.launch_items("copy_f32", quads, &copy))
    }

    /// The runtime's sizes for peaks, or small ones where these would take minutes: a driver may run kernels on the CPU.
    fn peak_sizes_in_time(&self) -> Result<(usize, u32), Error> {
        let (len, rounds) = self.runtime.peak_sizes();
        let (part, few) = SMALL_PEAK;
        if len <= part {
            return Ok((len, rounds));
        }
        let (x, y) = (self.runtime.allocate(4 * part)?, self.runtime.allocate(4 * part)?);
        let copied = self.copy_time(self.runtime.address(&x), self.runtime.address(&y), part / 4)?;
        let slow = copied.saturating_mul((len / part) as u32) > SLOW_COPY;
        Ok(if slow { (part, few) } else { (len, rounds) })
    }

    /// Loads the kernels that the calls launch.
    fn load(&self, calls: &[Call], buffers: Buffers) -> Result<(), Error> {
        let load = |kernel, _: Geometry, _: &Arguments<'_>| self.runtime.load(kernel);
        self.each_launch(calls, buffers, load)
    }
}

/// Kernels that a call launches, as [`geometries`] has them.
pub fn launches(call: &Call) -> u32 {
    geometries(call).len() as u32
}

/// The geometries of the kernels that a call launches, as the launch code of its operator has it on an H100's
/// multiprocessors; none where the call is too large for kernels to count.
pub fn geometries(call: &Call) -> Vec<Geometry> {
    let found = RefCell::new(Vec::new());
    let launch = |_: &'static str, geometry: Geometry, _: &Arguments<'_>| {
        found.borrow_mut().push(geometry);
        Ok(())
    };
    // Nothing is read there: these are no buffers.
    let everywhere = [(0, usize::MAX); 3];
    match call.launch(&Launcher::new(everywhere, H100_MULTIPROCESSORS, H100_SHARED_BYTES, &launch)) {
        Ok(()) => found.take(),
        Err(_) => Vec::new(),
    }
}

impl<R: Runtime> Device for Gpu<R> {
    fn describe(&self) -> String {
        self.runtime.describe()
    }

    fn arithmetic(&self) -> String {
        self.runtime.arithmetic()
    }

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        let bytes = len.saturating_mul(size_of::<f32>());
        Ok(Buffer::new(self.runtime.allocate(bytes)?, len))
    }

    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        self.runtime.upload(buffer.memory_mut(), 4 * offset, bytemuck::cast_slice(data))
    }

    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        self.runtime.download(buffer.memory(), 4 * offset, bytemuck::cast_slice_mut(out))
    }

    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        let launch = |kernel, geometry, arguments: &Arguments<'_>| {
            // SAFETY: `Launcher::at` gives addresses of slots inside the buffers, which this call
            // borrows and which outlive the launch, since freeing and copying wait for the stream.
            // What a kernel does inside its slots is what `tests/device/ops/operators.rs` checks.
            unsafe { self.runtime.launch(kernel, geometry, arguments, threads) }
        };
        self.each_launch(calls, self.buffers(&memory), launch)
    }

    fn record(&self, calls: &[Call], memory: Memory<'_>) -> Result<Option<Recording>, Error> {
        let (buffers, launches) = (self.buffers(&memory), RefCell::new(Vec::new()));
        let launch = |kernel, geometry, arguments: &Arguments<'_>| {
            launches.borrow_mut().push(RecordedLaunch::new(kernel, geometry, arguments));
            Ok(())
        };
        self.each_launch(calls, buffers, launch)?;
        let graph = self.runtime.graph(launches.into_inner())?;
        Ok(graph.map(|graph| Recording::new(graph, buffers)))
    }

    fn replay(&self, recording: &Recording, memory: Memory<'_>, threads: Threads) -> Result<bool, Error> {
        let Some(graph) = recording.on::<R::Graph>(self.buffers(&memory)) else { return Ok(false) };
        // SAFETY: as in `run`: the addresses are of slots inside these buffers, which are where and as
        // large as they were when it was recorded.
        unsafe { self.runtime.launch_graph(graph, threads) }
    }

    fn with_own_stream(&self) -> Result<Option<Arc<dyn Device>>, Error> {
        let residents = self.residents.clone();
        let runtime = self.runtime.with_own_stream()?;
        Ok(Some(Arc::new(Gpu {
            runtime,
            flush: LazyMemory::default(),
            cover: LazyMemory::default(),
            residents,
        })))
    }

    fn lanes(&self) -> usize {
        self.runtime.lanes()
    }

    fn chunk(&self, arena_of_one: usize) -> usize {
        let (elements, images) = self.runtime.arena_budget();
        (elements / arena_of_one.max(1)).clamp(1, images)
    }

    fn batches(&self, arena_of_one: usize) -> usize {
        (self.runtime.arena_budget().0 / arena_of_one.max(1)).max(1)
    }

    fn residents(&self) -> Option<&Residents> {
        Some(&self.residents)
    }

    fn synchronise(&self) -> Result<(), Error> {
        self.runtime.synchronise()
    }

    fn time(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<Duration, Error> {
        Ok(self.time_each(calls, memory, threads, 1, false)?.into_iter().sum())
    }

    fn time_each(
        &self,
        calls: &[Call],
        mut memory: Memory<'_>,
        threads: Threads,
        repetitions: usize,
        flush: bool,
    ) -> Result<Vec<Duration>, Error> {
        self.load(calls, self.buffers(&memory))?;
        self.timed(repetitions, flush, || self.run(calls, memory.again(), threads))
    }

    fn time_many(
        &self,
        calls: &[Call],
        mut memory: Memory<'_>,
        threads: Threads,
        times: usize,
    ) -> Result<Duration, Error> {
        self.load(calls, self.buffers(&memory))?;
        let all = || (0..times).try_for_each(|_| self.run(calls, memory.again(), threads));
        Ok(self.timed(1, false, all)?.into_iter().sum())
    }

    fn stamp(&self) -> Result<Stamp, Error> {
        Ok(Stamp::new(self.runtime.record()?))
    }

    fn elapsed(&self, from: &Stamp, to: &Stamp) -> Result<Duration, Error> {
        self.runtime.elapsed(from.point::<R::Event>(), to.point::<R::Event>())
    }

    fn block_bytes(&self) -> u32 {
        self.runtime.shared_bytes()
    }

    fn multiprocessors(&self) -> Option<Multiprocessors> {
        Some(self.all_multiprocessors())
    }

    fn cache_bytes(&self) -> usize {
        self.runtime.cache_bytes()
    }

    fn peaks(&self) -> Result<Peaks, Error> {
        let (len, rounds) = self.peak_sizes_in_time()?;
        let (x, y) = (self.runtime.allocate(4 * len)?, self.runtime.allocate(4 * len)?);
        let (y, quads) = (self.runtime.address(&y), len / 4);
        let copied = self.copy_time(self.runtime.address(&x), y, quads)?;
        // A thread a float of `y`; a factor below 1 keeps the chains finite.
        let threads = quads / PEAK_THREADS * PEAK_THREADS;
        let chains = PeakArgs { y, rounds, factor: 0.999, term: 1.0 };
        let computed = self.best(|| self.launch_items("peak_f32", threads, &chains))?;
        let flops = 16.0 * f64::from(rounds) * threads as f64;
        // All multiprocessors as full as they get, a few times over; fewer where that would take too long.
        let full = 4 * 2048 * self.runtime.multiprocessors() as usize;
        let warps = full.min(len / 64).next_multiple_of(PEAK_THREADS) / 32;
        let chains = ProductPeakArgs { y, rounds };
        let multiplied = self.best(|| self.launch_items("peak_bf16", 32 * warps, &chains))?;
        let products = PRODUCT_FLOPS * f64::from(rounds) * warps as f64;
        Ok(Peaks {
            copy: measure::rate(8.0 * len as f64, copied),
            arithmetic: measure::rate(flops, computed),
            products: Some(measure::rate(products, multiplied)),
        })
    }

    fn flush_cache(&self) -> Result<(), Error> {
        self.run_front(&self.front(true)?)
    }
}

#[cfg(test)]
pub(crate) fn layouts() -> Vec<crate::launch::Layout> {
    use crate::launch::Twin;
    [FillArgs::layouts(), CopyArgs::layouts(), PeakArgs::layouts(), ProductPeakArgs::layouts()].concat()
}

#[cfg(all(test, natv2_emulator))]
mod tests {
    use super::*;
    use crate::device::emulated::ThreadOrder;

    #[test]
    fn chains_of_products_compute_what_they_say() {
        let gpu = Gpu::new(Emulator::new(ThreadOrder::Forward).unwrap());
        let (threads, rounds) = (2 * PEAK_THREADS, 5);
        let y = gpu.runtime.allocate(4 * threads).unwrap();
        let chains = ProductPeakArgs { y: gpu.runtime.address(&y), rounds };
        gpu.launch_items("peak_bf16", threads, &chains).unwrap();
        let mut found = vec![0.0f32; threads];
        gpu.runtime.download(&y, 0, bytemuck::cast_slice_mut(&mut found)).unwrap();
        // By the definition of a product, in f64: A, B and the 8 chains of sums of a warp.
        let t = |k: usize| k / 2 % 4;
        let a = |m: usize, k: usize| [1.0, -1.0][t(k) % 2] * (1 + m % 8) as f64 / 16.0;
        let b = |k: usize, n: usize| ((1 + t(k)) * (1 + n)) as f64 / 16.0;
        let added = |m: usize, n: usize| (0..16).map(|k| a(m, k) * b(k, n)).sum::<f64>();
        let sum = |m: usize, n: usize| {
            (0..8).map(|chain| f64::from(chain) + f64::from(rounds) * added(m, n)).sum::<f64>()
        };
        for (thread, &found) in found.iter().enumerate() {
            let (group, t) = (thread % 32 / 4, thread % 4);
            let mine: f64 = [group, group + 8].map(|m| sum(m, 2 * t) + sum(m, 2 * t + 1)).iter().sum();
            assert_eq!(f64::from(found), mine, "thread {thread}");
        }
        let peaks = gpu.peaks().unwrap();
        assert!(peaks.products.is_some_and(|products| products.is_finite() && products > 0.0));
    }
}
