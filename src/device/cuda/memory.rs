//! Memory of a card, and copies between it and the host.
//!
//! The driver copies at full speed, and without making the host wait, only from and to pages that
//! are pinned. Pinning is slow, so there are two pinned buffers that all copies go through in
//! turn: while the driver works on one, the host fills or empties the other.

use super::error::{Checked, CudaError};
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result};
use std::sync::Arc;

/// Memory of a card. Freed when dropped.
#[derive(Debug)]
pub struct CudaMemory {
    start: CUdeviceptr,
    bytes: usize,
    context: Arc<CudaContext>,
}

impl CudaMemory {
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<CudaMemory, CudaError> {
        context.bind_to_thread().call("cuCtxSetCurrent")?;
        // SAFETY: the context is bound.
        let start = match unsafe { result::malloc_sync(bytes.max(1)) } {
            Err(failure) if failure.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = context.mem_get_info().unwrap_or((0, 0));
                return Err(CudaError::OutOfMemory { bytes, free, total });
            }
            other => other.call("cuMemAlloc")?,
        };
        Ok(CudaMemory { start, bytes, context: context.clone() })
    }

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
        // An error here could only repeat one that a call has reported already.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new`, not used again. cuMemFree waits for the kernels that
            // may be using it.
            let _ = unsafe { result::free_sync(self.start) };
        }
    }
}

/// Bytes of a pinned buffer. Large enough that a copy's start-up time does not count.
const CHUNK: usize = 4 << 20;

struct Pinned {
    start: *mut u8,
    /// Recorded after the last copy that uses the buffer.
    busy: CudaEvent,
    context: Arc<CudaContext>,
}

// SAFETY: it is plain memory of the process, owned by this value alone.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(context: &Arc<CudaContext>) -> Result<Pinned, CudaError> {
        let busy = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING)).call("cuEventCreate")?;
        context.bind_to_thread().call("cuCtxSetCurrent")?;
        // SAFETY: the context is bound.
        let start = unsafe { result::malloc_host(CHUNK, 0) }.call("cuMemHostAlloc")?;
        // SAFETY: CHUNK bytes that are ours.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, CHUNK) };
        Ok(Pinned { start: start.cast(), busy, context: context.clone() })
    }

    fn wait(&self) -> Result<(), CudaError> {
        self.busy.synchronize().call("cuEventSynchronize")
    }

    fn slice(&mut self, bytes: usize) -> &mut [u8] {
        // SAFETY: CHUNK initialised bytes; callers wait until the driver is done with them.
        unsafe { std::slice::from_raw_parts_mut(self.start, bytes.min(CHUNK)) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.wait();
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new`, and the driver is done with it.
            let _ = unsafe { result::free_host(self.start.cast()) };
        }
    }
}

/// The two pinned buffers.
pub(super) struct Staging {
    buffers: [Pinned; 2],
    next: usize,
}

impl Staging {
    pub fn new(context: &Arc<CudaContext>) -> Result<Staging, CudaError> {
        Ok(Staging { buffers: [Pinned::new(context)?, Pinned::new(context)?], next: 0 })
    }

    /// Copies to the card; `from` has been read when this returns.
    pub fn upload(
        &mut self,
        stream: &Arc<CudaStream>,
        to: CUdeviceptr,
        from: &[u8],
    ) -> Result<(), CudaError> {
        for (i, chunk) in from.chunks(CHUNK).enumerate() {
            let buffer = &mut self.buffers[self.next];
            self.next ^= 1;
            buffer.wait()?;
            buffer.slice(chunk.len()).copy_from_slice(chunk);
            // SAFETY: the caller has checked the range on the card; the buffer is not touched
            // before `busy` says that the copy is done.
            unsafe {
                result::memcpy_htod_async(
                    to + (i * CHUNK) as u64,
                    buffer.slice(chunk.len()),
                    stream.cu_stream(),
                )
            }
            .call("cuMemcpyHtoDAsync")?;
            buffer.busy.record(stream).call("cuEventRecord")?;
        }
        Ok(())
    }

    /// Copies from the card; waits for it.
    pub fn download(
        &mut self,
        stream: &Arc<CudaStream>,
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
                    stream.cu_stream(),
                )
            }
            .call("cuMemcpyDtoHAsync")?;
            buffer.busy.record(stream).call("cuEventRecord")?;
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
