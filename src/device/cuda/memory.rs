//! Memory of a card, and copies between it and the host.
//!
//! Memory that is dropped is not freed, which would stop all streams of the card, but kept for the next who asks
//! (`pool.rs`), up to half of the card's memory. Where the card is full, what is kept is freed first.
//!
//! The driver copies at full speed, and without making the host wait, only from and to pages that
//! are pinned. Pinning is slow, so there are two pinned buffers that all copies go through in
//! turn: while the driver works on one, the host fills or empties the other.

use super::driver::{Context, Event, Stream};
use super::error::{Checked, CudaError};
use super::lock;
use super::pool::{self, Block, FreeList, Mark, StreamId};
use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUresult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// The memory of a card, for all its streams.
pub(super) struct CardMemory {
    /// What was dropped, and is kept for the next who asks (`pool.rs`).
    free: Mutex<FreeList<Event>>,
    /// The streams that may be using what is dropped.
    streams: Mutex<Vec<(StreamId, Weak<Stream>)>>,
    next_stream: AtomicU64,
    context: Arc<Context>,
}

impl Mark for Event {
    fn passed(&self) -> bool {
        // Not so where the card has failed: such a block is never used again.
        Event::is_complete(self)
    }
}

impl CardMemory {
    /// The memory of a card of `bytes` bytes. Blocks that nobody holds are kept, up to half of them.
    pub fn new(context: &Arc<Context>, bytes: usize) -> CardMemory {
        CardMemory {
            free: Mutex::new(FreeList::new(bytes / 2)),
            streams: Mutex::default(),
            next_stream: AtomicU64::new(0),
            context: context.clone(),
        }
    }

    /// Adds a stream, on which memory may be used from now on until the stream is gone. Whoever lets it go waits for
    /// it first.
    pub fn add_stream(&self, stream: &Arc<Stream>) -> StreamId {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let mut streams = lock(&self.streams);
        streams.retain(|(_, stream)| stream.strong_count() > 0);
        streams.push((id, Arc::downgrade(stream)));
        id
    }

    /// Memory for what is asked of a stream from now on. Not initialised.
    pub fn take(self: &Arc<CardMemory>, bytes: usize, stream: StreamId) -> Result<CudaMemory, CudaError> {
        self.context.bind()?;
        let room = pool::room(bytes);
        let found = lock(&self.free).take(room, stream);
        let (start, room) = match found {
            Some(block) => block,
            None => (self.take_from_driver(room)?, room),
        };
        Ok(CudaMemory { start, bytes, room, card: self.clone() })
    }

    /// The context is bound.
    fn take_from_driver(&self, room: usize) -> Result<CUdeviceptr, CudaError> {
        let state = || self.context.memory_bytes().unwrap_or((0, 0));
        // SAFETY: the context is bound.
        let taken = || unsafe { result::malloc_sync(room) }.call_for_memory("cuMemAlloc", room, state);
        // What is kept may be what is missing.
        pool::with_room(taken, || self.give_back())
    }

    /// Gives everything back that nobody holds; whether there was any. The context is bound.
    pub fn give_back(&self) -> bool {
        let blocks = lock(&self.free).drain();
        let any = !blocks.is_empty();
        blocks.into_iter().for_each(free);
        any
    }

    /// Bytes that nobody holds and that are kept.
    pub fn kept(&self) -> usize {
        lock(&self.free).held()
    }

    /// A mark on every stream of the card, behind what may be using memory that is dropped now.
    fn marks(&self) -> Result<Vec<(StreamId, Event)>, CudaError> {
        let streams: Vec<(StreamId, Arc<Stream>)> =
            lock(&self.streams).iter().filter_map(|(id, stream)| Some((*id, stream.upgrade()?))).collect();
        let mark = |(id, stream): &(StreamId, Arc<Stream>)| {
            let spare = lock(&self.free).spare();
            let event = match spare {
                Some(event) => event,
                None => Event::new(&self.context, false)?,
            };
            event.record(stream)?;
            Ok((*id, event))
        };
        streams.iter().map(mark).collect()
    }
}

impl Drop for CardMemory {
    fn drop(&mut self) {
        self.context.bind_to_give_back();
        self.give_back();
    }
}

/// Gives a block to the driver, which waits for everything that may be using it.
fn free(block: Block<Event>) {
    // SAFETY: allocated by `take_from_driver`, and nobody holds it. An error could only repeat an earlier one.
    let _ = unsafe { result::free_sync(block.start) };
}

/// Memory of a card. Kept for others when dropped.
pub struct CudaMemory {
    start: CUdeviceptr,
    bytes: usize,
    /// Bytes that there are.
    room: usize,
    card: Arc<CardMemory>,
}

impl std::fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaMemory").field("start", &self.start).field("bytes", &self.bytes).finish()
    }
}

impl CudaMemory {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address that kernels know it by.
    pub fn address(&self) -> u64 {
        self.start
    }

    /// The address of a range inside it.
    pub(super) fn range(&self, offset: usize, bytes: usize) -> Result<CUdeviceptr, CudaError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(self.start + offset as u64),
            _ => Err(CudaError::OutOfRange { offset, bytes, size: self.bytes }),
        }
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        self.card.context.bind_to_give_back();
        match self.card.marks() {
            Ok(marks) => {
                let over = lock(&self.card.free).put(self.start, self.room, marks);
                over.into_iter().for_each(free);
            }
            Err(_) => {
                // SAFETY: allocated by `take_from_driver`, not used again. cuMemFree waits for the kernels that may
                // be using it.
                let _ = unsafe { result::free_sync(self.start) };
            }
        }
    }
}

/// Bytes of a pinned buffer. Large enough that a copy's start-up time does not count.
const CHUNK: usize = 4 << 20;

struct Pinned {
    start: *mut u8,
    /// Recorded after the last copy that uses the buffer.
    busy: Event,
    context: Arc<Context>,
}

// SAFETY: it is plain memory of the process, owned by this value alone.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(context: &Arc<Context>) -> Result<Pinned, CudaError> {
        let busy = Event::new(context, false)?;
        // SAFETY: the context is bound.
        let start = match unsafe { result::malloc_host(CHUNK, 0) } {
            Err(failure) if failure.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(CudaError::OutOfHostMemory { bytes: CHUNK });
            }
            other => other.call("cuMemHostAlloc")?,
        };
        // SAFETY: CHUNK bytes that are ours.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, CHUNK) };
        Ok(Pinned { start: start.cast(), busy, context: context.clone() })
    }

    fn wait(&self) -> Result<(), CudaError> {
        self.busy.synchronise()
    }

    /// Says that the driver is busy with it until the stream has come by.
    fn mark(&self, stream: &Stream) -> Result<(), CudaError> {
        // Without a mark nobody could wait for the copy, and the buffer would be used again too early.
        self.busy.record(stream).inspect_err(|_| stream.synchronise_to_give_back())
    }

    fn slice(&mut self, bytes: usize) -> &mut [u8] {
        // SAFETY: CHUNK initialised bytes; callers wait until the driver is done with them.
        unsafe { std::slice::from_raw_parts_mut(self.start, bytes.min(CHUNK)) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.wait();
        self.context.bind_to_give_back();
        // SAFETY: allocated by `new`, and the driver is done with it.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// The two pinned buffers.
pub(super) struct Staging {
    buffers: [Pinned; 2],
    next: usize,
}

impl Staging {
    pub fn new(context: &Arc<Context>) -> Result<Staging, CudaError> {
        Ok(Staging { buffers: [Pinned::new(context)?, Pinned::new(context)?], next: 0 })
    }

    /// Copies to the card; `from` has been read when this returns.
    pub fn upload(&mut self, stream: &Arc<Stream>, to: CUdeviceptr, from: &[u8]) -> Result<(), CudaError> {
        for (i, chunk) in from.chunks(CHUNK).enumerate() {
            let buffer = &mut self.buffers[self.next];
            self.next ^= 1;
            buffer.wait()?;
            buffer.slice(chunk.len()).copy_from_slice(chunk);
            // SAFETY: the caller has checked the range on the card; the buffer is not touched
            // before `busy` says that the copy is done.
            unsafe {
                result::memcpy_htod_async(to + (i * CHUNK) as u64, buffer.slice(chunk.len()), stream.handle())
            }
            .call("cuMemcpyHtoDAsync")?;
            buffer.mark(stream)?;
        }
        Ok(())
    }

    /// Copies from the card; waits for it.
    pub fn download(
        &mut self,
        stream: &Arc<Stream>,
        from: CUdeviceptr,
        to: &mut [u8],
    ) -> Result<(), CudaError> {
        // The chunk under way, and the buffer it goes to.
        let mut under_way: Option<(&mut [u8], usize)> = None;
        for (i, chunk) in to.chunks_mut(CHUNK).enumerate() {
            let index = self.next;
            self.next ^= 1;
            let buffer = &mut self.buffers[index];
            buffer.wait()?;
            // SAFETY: as for `upload`.
            unsafe {
                result::memcpy_dtoh_async(
                    buffer.slice(chunk.len()),
                    from + (i * CHUNK) as u64,
                    stream.handle(),
                )
            }
            .call("cuMemcpyDtoHAsync")?;
            buffer.mark(stream)?;
            if let Some((earlier, index)) = under_way.replace((chunk, index)) {
                self.empty(index, earlier)?;
            }
        }
        under_way.map_or(Ok(()), |(chunk, index)| self.empty(index, chunk))
    }

    fn empty(&mut self, index: usize, to: &mut [u8]) -> Result<(), CudaError> {
        let buffer = &mut self.buffers[index];
        buffer.wait()?;
        to.copy_from_slice(buffer.slice(to.len()));
        Ok(())
    }
}
