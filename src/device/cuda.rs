//! The CUDA device, through cudarc's driver interface.
//!
//! The driver library is loaded at run time, so the program builds and starts on a machine without
//! it. [`probe`] says what is there without a panic; [`CudaRuntime`] is one card with one stream:
//! memory, copies through pinned staging, launches, events. Kernels come from the fatbins that the
//! build embedded, or are compiled by NVRTC where there are none or the driver is too old for them
//! (`images.rs`).
//!
//! Every error names the driver call that failed and what to do about it (`error.rs`).
//!
//! # What has not run on a card
//!
//! Nothing in this folder has, so far. In its place there is a driver without a card (`tests/stand_in/driver`), which
//! any program finds under `scripts/with-stand-in-driver`. All of this runs on it. It is stricter than NVIDIA's: streams
//! run as late as they may or in any other order that their events allow, launches are checked against the machine code
//! of their kernels, memory that was freed cannot be touched, and any call can be made to fail. Its kernels are the
//! emulator's.
//!
//! Left to a card are the driver's own doings: that compressed images load, how long anything takes, that what keeps
//! the card busy before it is timed lasts long enough, that two blocks fit a multiprocessor under the carve-out, what
//! `cuMemFree` waits for, and that a card goes on after it was full.

mod cache;
mod driver;
mod error;
mod graph;
mod images;
mod kernel;
mod library;
mod memory;
mod nvrtc;
mod pool;
mod table;

pub use cache::ImageCache;
pub use error::CudaError;
pub use graph::CudaGraph;
pub use images::{KernelHeader, KernelSource, architectures, kernel_headers, kernel_sources, kernel_table};
pub use library::{DriverLibrary, driver_library};
pub use memory::CudaMemory;
pub use nvrtc::{Nvrtc, Output};
pub use table::KernelTable;

use crate::launch::{Arguments, Geometry, RecordedLaunch};
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute};
use driver::{Context, Event, Stream};
use error::Checked;
use images::Images;
use kernel::Kernel;
use memory::{CardMemory, Staging};
use pool::StreamId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardInfo {
    /// Its number, as in `cuda:N`.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Memory in bytes.
    pub memory_bytes: usize,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Clock of the multiprocessors in kHz, 0 where the driver does not say.
    pub clock_khz: u32,
    /// Clock of the memory in kHz, 0 where the driver does not say.
    pub memory_clock_khz: u32,
    /// Width of the memory bus in bits.
    pub memory_bus_bits: u32,
    /// L2 cache in bytes.
    pub l2_bytes: usize,
    /// The most shared memory a block can have, in bytes.
    pub shared_bytes_per_block: usize,
}

/// The driver and its cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// The CUDA version that the driver supports, major and minor.
    pub cuda_version: (u32, u32),
    /// The cards, in the driver's order.
    pub cards: Vec<CardInfo>,
}

/// Asks for the driver and the cards. Never panics, and makes no context.
///
/// # Errors
///
/// [`CudaError::NoDriver`] where the driver library is missing, [`CudaError::NoCard`] where it
/// finds no card, [`CudaError::Driver`] where it fails.
pub fn probe() -> Result<DriverInfo, CudaError> {
    load_driver()?;
    let cuda_version = cuda_version()?;
    let count = result::device::get_count().call("cuDeviceGetCount")?;
    if count <= 0 {
        return Err(CudaError::NoCard);
    }
    let cards = (0..count).map(card_info).collect::<Result<_, _>>()?;
    Ok(DriverInfo { cuda_version, cards })
}

/// Loads and initialises the driver, without the panic that cudarc has for a missing library.
fn load_driver() -> Result<(), CudaError> {
    // SAFETY: loads the driver library and runs its constructors, as every CUDA program does.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    match result::init() {
        Err(failure) if failure.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoCard),
        other => other.call("cuInit"),
    }
}

fn cuda_version() -> Result<(u32, u32), CudaError> {
    let mut version = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().call("cuDriverGetVersion")?;
    let version = version.unsigned_abs();
    Ok((version / 1000, version % 1000 / 10))
}

fn card_info(ordinal: i32) -> Result<CardInfo, CudaError> {
    use CUdevice_attribute as A;
    let device = result::device::get(ordinal).call("cuDeviceGet")?;
    let attribute = |which: CUdevice_attribute| -> Result<u32, CudaError> {
        // SAFETY: the device comes from cuDeviceGet.
        let value = unsafe { result::device::get_attribute(device, which) }.call("cuDeviceGetAttribute")?;
        Ok(value.unsigned_abs())
    };
    Ok(CardInfo {
        ordinal: ordinal.unsigned_abs() as usize,
        name: result::device::get_name(device).call("cuDeviceGetName")?,
        compute_capability: (
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: the device comes from cuDeviceGet.
        memory_bytes: unsafe { result::device::total_mem(device) }.call("cuDeviceTotalMem")?,
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).unwrap_or(0),
        memory_clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0),
        memory_bus_bits: attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
        l2_bytes: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        shared_bytes_per_block: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
    })
}

/// The CUDA version that a driver must support: NVRTC makes machine code from there on, and the driver knows all that
/// is asked of it.
const OLDEST: (u32, u32) = (11, 2);

/// One card, with one stream on which everything happens in order.
pub struct CudaRuntime {
    // Fields are dropped in this order: what belongs to the context goes before it.
    staging: Mutex<Staging>,
    /// What is loaded of the kernels, and the memory, for all streams of the card.
    loaded: Arc<LoadedKernels>,
    memory: Arc<CardMemory>,
    stream: Arc<Stream>,
    stream_id: StreamId,
    context: Arc<Context>,
    card: CardInfo,
    cuda_version: (u32, u32),
}

struct LoadedKernels {
    kernels: KernelTable<Kernel>,
    images: Mutex<Images>,
}

impl std::fmt::Debug for CudaRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaRuntime").field("card", &self.card).finish_non_exhaustive()
    }
}

/// A lock's contents, even if a thread died with it: what these locks guard stays consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CudaRuntime {
    /// Opens card number `ordinal`.
    ///
    /// # Errors
    ///
    /// As [`probe`]; [`CudaError::NoSuchCard`] for a number that is too large, [`CudaError::OldDriver`].
    pub fn new(ordinal: usize) -> Result<CudaRuntime, CudaError> {
        let DriverInfo { cuda_version, cards } = probe()?;
        let count = cards.len();
        let card = cards.into_iter().nth(ordinal).ok_or(CudaError::NoSuchCard { ordinal, count })?;
        if cuda_version < OLDEST {
            return Err(CudaError::OldDriver { cuda_version });
        }
        let context = Context::new(ordinal)?;
        let loaded = LoadedKernels {
            kernels: KernelTable::default(),
            images: Mutex::new(Images::new(card.compute_capability, cuda_version)),
        };
        let memory = Arc::new(CardMemory::new(&context, card.memory_bytes));
        CudaRuntime::on_new_stream(context, Arc::new(loaded), memory, card, cuda_version)
    }

    fn on_new_stream(
        context: Arc<Context>,
        loaded: Arc<LoadedKernels>,
        memory: Arc<CardMemory>,
        card: CardInfo,
        cuda_version: (u32, u32),
    ) -> Result<CudaRuntime, CudaError> {
        let stream = Stream::new(&context)?;
        let staging = Mutex::new(Staging::new(&context)?);
        let stream_id = memory.add_stream(&stream);
        Ok(CudaRuntime { staging, loaded, memory, stream, stream_id, context, card, cuda_version })
    }

    /// The same card with a stream of its own, on which nothing waits for this one's.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn with_own_stream(&self) -> Result<CudaRuntime, CudaError> {
        self.bind()?;
        let (context, loaded, memory) = (self.context.clone(), self.loaded.clone(), self.memory.clone());
        CudaRuntime::on_new_stream(context, loaded, memory, self.card.clone(), self.cuda_version)
    }

    /// The card.
    pub fn card(&self) -> &CardInfo {
        &self.card
    }

    /// The CUDA version that the driver supports.
    pub fn cuda_version(&self) -> (u32, u32) {
        self.cuda_version
    }

    /// Free and total memory of the card in bytes; what is kept for the next who asks is free.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn memory_bytes(&self) -> Result<(usize, usize), CudaError> {
        let (free, total) = self.context.memory_bytes()?;
        Ok((free + self.memory.kept(), total))
    }

    /// Memory of the card, to be used on this stream, and on others of the card when whoever hands it on has waited for
    /// this one. Not initialised.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfMemory`], [`CudaError::Driver`].
    pub fn alloc(&self, bytes: usize) -> Result<CudaMemory, CudaError> {
        self.memory.take(bytes, self.stream_id)
    }

    /// Copies from the host to `memory`, `offset` bytes from its start. When it returns `from` may
    /// change; launches that come after it find the data.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfRange`], [`CudaError::Driver`].
    pub fn upload(&self, memory: &mut CudaMemory, offset: usize, from: &[u8]) -> Result<(), CudaError> {
        let to = memory.range(offset, from.len())?;
        self.bind()?;
        lock(&self.staging).upload(&self.stream, to, from)
    }

    /// Copies from `memory`, `offset` bytes from its start, to the host, after all launches so far.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfRange`], [`CudaError::Driver`]: an error of an earlier launch may show here.
    pub fn download(&self, memory: &CudaMemory, offset: usize, to: &mut [u8]) -> Result<(), CudaError> {
        let from = memory.range(offset, to.len())?;
        self.bind()?;
        lock(&self.staging).download(&self.stream, from, to)
    }

    /// Sets `bytes` bytes to zero.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfRange`], [`CudaError::Driver`].
    pub fn zero(&self, memory: &mut CudaMemory, offset: usize, bytes: usize) -> Result<(), CudaError> {
        let at = memory.range(offset, bytes)?;
        self.bind()?;
        // SAFETY: the range is inside the allocation, and the stream belongs to the context.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream.handle()) }.call("cuMemsetD8Async")
    }

    /// Copies between two allocations.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfRange`], [`CudaError::Driver`].
    pub fn copy(
        &self,
        from: &CudaMemory,
        from_offset: usize,
        to: &mut CudaMemory,
        to_offset: usize,
        bytes: usize,
    ) -> Result<(), CudaError> {
        let (source, target) = (from.range(from_offset, bytes)?, to.range(to_offset, bytes)?);
        self.bind()?;
        // SAFETY: both ranges are inside their allocations, which differ, since one is borrowed mutably.
        unsafe { result::memcpy_dtod_async(target, source, bytes, self.stream.handle()) }
            .call("cuMemcpyDtoDAsync")
    }

    /// Starts a kernel, after everything before it. Its own errors show at a later call.
    ///
    /// # Errors
    ///
    /// [`CudaError::UnknownKernel`], [`CudaError::BadArguments`] (where the sizes are known),
    /// [`CudaError::NoImage`] and [`CudaError::Nvrtc`] where the kernel cannot be loaded,
    /// [`CudaError::Driver`].
    ///
    /// # Safety
    ///
    /// The arguments must be the kernel's. It reads and writes through the pointers among them as
    /// it likes: they must be valid until it has ended.
    pub unsafe fn launch(
        &self,
        kernel: &str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
    ) -> Result<(), CudaError> {
        self.bind()?;
        let function = self.kernel(kernel)?.function(kernel, arguments, geometry.shared_bytes)?;
        let (grid, block) = (geometry.grid, geometry.block);
        let mut arguments = *arguments;
        // SAFETY: function and stream belong to the bound context; the rest is the caller's promise.
        unsafe {
            result::launch_kernel(
                function.handle(),
                (grid[0], grid[1], grid[2]),
                (block[0], block[1], block[2]),
                geometry.shared_bytes,
                self.stream.handle(),
                arguments.pointers_mut(),
            )
        }
        .map_err(|failure| CudaError::launch(kernel, geometry, failure))
    }

    /// Puts launches together, each behind the one before, to be started at once; starts none. The
    /// driver must support CUDA 12.
    ///
    /// # Errors
    ///
    /// As for [`launch`](CudaRuntime::launch).
    pub fn graph(&self, launches: &[RecordedLaunch]) -> Result<CudaGraph, CudaError> {
        self.bind()?;
        let mut functions = Vec::with_capacity(launches.len());
        for launch in launches {
            let (arguments, shared_bytes) = (launch.arguments(), launch.geometry.shared_bytes);
            functions.push((
                self.kernel(launch.kernel)?.function(launch.kernel, &arguments, shared_bytes)?,
                launch,
            ));
        }
        self.with_room(|| CudaGraph::new(&self.context, &self.loaded, &functions))
    }

    /// Starts the launches of a graph, after everything before them. Their own errors show at a later
    /// call.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    ///
    /// # Safety
    ///
    /// As for [`launch`](CudaRuntime::launch), for each of them.
    pub unsafe fn launch_graph(&self, graph: &CudaGraph) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: passed on to the caller.
        unsafe { graph.launch(&self.stream) }
    }

    /// Loads a kernel now rather than at its first launch.
    ///
    /// # Errors
    ///
    /// As for [`launch`](CudaRuntime::launch).
    pub fn load(&self, kernel: &str) -> Result<(), CudaError> {
        self.bind()?;
        self.kernel(kernel).map(drop)
    }

    /// Waits until everything has ended.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`]: an error of an earlier launch may show here.
    pub fn synchronise(&self) -> Result<(), CudaError> {
        self.stream.synchronise()
    }

    /// A point in time between what has been started and what will be.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn record(&self) -> Result<CudaEvent, CudaError> {
        let mut event = self.event()?;
        self.mark(&mut event)?;
        Ok(event)
    }

    /// A point in time that [`mark`](CudaRuntime::mark) is to set.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn event(&self) -> Result<CudaEvent, CudaError> {
        Event::new(&self.context, true).map(CudaEvent)
    }

    /// Sets a point in time to be between what has been started and what will be.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn mark(&self, event: &mut CudaEvent) -> Result<(), CudaError> {
        event.0.record(&self.stream)
    }

    fn bind(&self) -> Result<(), CudaError> {
        self.context.bind()
    }

    /// What `attempt` gives, where the card is full once more without the memory that nobody holds.
    fn with_room<T>(&self, attempt: impl FnMut() -> Result<T, CudaError>) -> Result<T, CudaError> {
        pool::with_room(attempt, || self.memory.give_back())
    }

    fn kernel(&self, name: &str) -> Result<&Kernel, CudaError> {
        let load = |row| {
            // Drivers may load a kernel when it is first asked about.
            self.with_room(|| {
                let function = lock(&self.loaded.images).function(&self.context, row)?;
                Kernel::new(name, function, self.card.shared_bytes_per_block, self.cuda_version)
            })
        };
        let unknown = || Err(CudaError::UnknownKernel { kernel: name.to_owned() });
        self.loaded.kernels.get_or_load(name, load).unwrap_or_else(unknown)
    }
}

impl Drop for CudaRuntime {
    fn drop(&mut self) {
        // What runs there may be using memory that is dropped later, when this stream can no longer be asked.
        self.stream.synchronise_to_give_back();
    }
}

/// A point in time on a [`CudaRuntime`]'s stream.
pub struct CudaEvent(Event);

impl std::fmt::Debug for CudaEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaEvent").finish_non_exhaustive()
    }
}

impl CudaEvent {
    /// Time from `earlier` to this event; waits for both.
    ///
    /// # Errors
    ///
    /// [`CudaError::Driver`].
    pub fn since(&self, earlier: &CudaEvent) -> Result<Duration, CudaError> {
        let milliseconds = self.0.milliseconds_since(&earlier.0)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_and_opening_never_panic_and_agree() {
        match probe() {
            Ok(info) => {
                assert!(!info.cards.is_empty());
                let count = info.cards.len();
                let error = CudaRuntime::new(count).expect_err("no such card");
                assert_eq!(error, CudaError::NoSuchCard { ordinal: count, count });
            }
            Err(error) => {
                let message = error.to_string();
                assert_eq!(CudaRuntime::new(0).expect_err("probe failed"), error);
                assert!(message.contains("install") || message.contains("driver"), "{message}");
            }
        }
    }

    /// On a machine with a card: memory, copies, the fill kernel, events.
    #[test]
    fn a_card_that_is_there_works() {
        let Ok(runtime) = CudaRuntime::new(0) else {
            assert!(probe().is_err(), "the probe finds a card that cannot be opened");
            return;
        };
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct FillParams {
            y: u64,
            quads: u32,
            value: f32,
        }
        let quads = 1_000_003u32;
        let bytes = 16 * quads as usize;
        let mut y = runtime.alloc(bytes).expect("alloc");
        runtime.zero(&mut y, 0, bytes).expect("zero");
        let params = FillParams { y: y.address(), quads: quads - 1, value: 1.5 };
        let before = runtime.record().expect("record");
        // SAFETY: y has room for all quads.
        unsafe { runtime.launch("fill_f32", Geometry::covering(quads, 256), &Arguments::of(&params)) }
            .expect("launch");
        let after = runtime.record().expect("record");
        let mut values = vec![7.0f32; 4 * quads as usize];
        runtime.download(&y, 0, bytemuck::cast_slice_mut(&mut values)).expect("download");
        let (filled, rest) = values.split_at(4 * (quads as usize - 1));
        assert!(filled.iter().all(|&v| v == 1.5) && rest == [0.0; 4]);
        assert!(after.since(&before).expect("since") > Duration::ZERO);
        runtime.upload(&mut y, 16, bytemuck::cast_slice(&values[4..])).expect("upload");
        let wrong = u32::MAX;
        // SAFETY: refused before it starts, where sizes are known; else not launched.
        let launched =
            unsafe { runtime.launch("no_such_kernel", Geometry::linear(1, 1), &Arguments::of(&wrong)) };
        assert!(matches!(launched, Err(CudaError::UnknownKernel { .. })));
    }
}
