//! Memory of the card, pinned memory of the host, copies.

use super::put;
use crate::context::Context;
use crate::memory::{hash, poison, read};
use crate::state::{Outcome, Shared, gives_back, in_context};
use crate::streams::{Point, Source, Work};
use cudarc::driver::sys::{CUdeviceptr, CUresult, CUstream};
use std::ffi::{c_uchar, c_uint, c_void};

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    in_context("cuMemGetInfo_v2", |shared, context| {
        let all = shared.settings.memory;
        put(free, all.saturating_sub(context.bytes()))?;
        put(total, all)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> CUresult {
    in_context("cuMemAlloc_v2", |shared, context| {
        if bytes == 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        if bytes > shared.settings.memory.saturating_sub(context.bytes()) {
            return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        let start = context.memory.allocate(bytes).ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?;
        put(address, start as CUdeviceptr)
    })
}

/// Waits for the card, as the driver does.
#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> CUresult {
    gives_back("cuMemFree_v2", |shared, context| {
        context.run_all(shared);
        if context.memory.release(address as usize).is_none() {
            shared.report.fault(format!("{address:#x} is freed and is no allocation of the card"));
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        Ok(())
    })
}

fn allocate_pinned(start: *mut *mut c_void, context: &mut Context, bytes: usize) -> Outcome {
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let at = context.pinned.allocate(bytes).ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?;
    put(start, at as *mut c_void)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(start: *mut *mut c_void, bytes: usize, _: c_uint) -> CUresult {
    in_context("cuMemHostAlloc", |_, context| allocate_pinned(start, context, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocHost_v2(start: *mut *mut c_void, bytes: usize) -> CUresult {
    in_context("cuMemAllocHost_v2", |_, context| allocate_pinned(start, context, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(start: *mut c_void) -> CUresult {
    gives_back("cuMemFreeHost", |shared, context| {
        let at = start as usize;
        // Drivers may wait for the card here and need not.
        if context.is_copied(at, 1) {
            shared.report.fault("pinned memory is freed while a copy of it is still to be made".to_owned());
        }
        if context.pinned.release(at).is_none() {
            shared.report.fault(format!("{at:#x} is freed and is no pinned allocation"));
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        Ok(())
    })
}

/// Refuses a range that is not inside an allocation of the card.
fn on_card(shared: &mut Shared, context: &Context, call: &str, at: CUdeviceptr, bytes: usize) -> Outcome {
    if context.memory.holds(at as usize, bytes) {
        return Ok(());
    }
    shared
        .report
        .fault(format!("{call} of {bytes} bytes at {at:#x}, which is not inside an allocation of the card"));
    Err(CUresult::CUDA_ERROR_INVALID_VALUE)
}

fn upload(
    shared: &mut Shared,
    context: &mut Context,
    (to, from, bytes): (CUdeviceptr, *const c_void, usize),
    stream: CUstream,
) -> Result<Point, CUresult> {
    on_card(shared, context, "a copy to the card", to, bytes)?;
    if from.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let at = from as usize;
    let from = if context.pinned.holds(at, bytes) {
        Source::Pinned { from: at, hash: hash(at, bytes) }
    } else {
        Source::Copied(read(at, bytes).to_vec())
    };
    context.ask(stream as usize, Work::Upload { to: to as usize, from, bytes }, Vec::new())
}

fn download(
    shared: &mut Shared,
    context: &mut Context,
    (to, from, bytes): (*mut c_void, CUdeviceptr, usize),
    stream: CUstream,
) -> Result<Point, CUresult> {
    on_card(shared, context, "a copy from the card", from, bytes)?;
    if to.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let (at, from) = (to as usize, from as usize);
    if context.pinned.holds(at, bytes) {
        // What an earlier copy still reads or writes is not to be touched.
        let poisoned = !context.is_copied(at, bytes);
        if poisoned {
            poison(at, bytes);
        }
        return context.ask(stream as usize, Work::Download { to: at, from, bytes, poisoned }, Vec::new());
    }
    // The driver waits for a copy to memory that is not pinned.
    let point = context.ask(stream as usize, Work::Wait, Vec::new())?;
    context.run_to(shared, point);
    if context.error.is_none() {
        // SAFETY: the driver's contract: so many bytes are there. The source was checked.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.cast(), bytes) };
    }
    Ok(point)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    in_context("cuMemcpyHtoDAsync_v2", |shared, context| {
        upload(shared, context, (to, from, bytes), stream).map(drop)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: CUdeviceptr, from: *const c_void, bytes: usize) -> CUresult {
    in_context("cuMemcpyHtoD_v2", |shared, context| {
        let point = upload(shared, context, (to, from, bytes), std::ptr::null_mut())?;
        context.run_to(shared, point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    in_context("cuMemcpyDtoHAsync_v2", |shared, context| {
        download(shared, context, (to, from, bytes), stream).map(drop)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize) -> CUresult {
    in_context("cuMemcpyDtoH_v2", |shared, context| {
        let point = download(shared, context, (to, from, bytes), std::ptr::null_mut())?;
        context.run_to(shared, point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    in_context("cuMemcpyDtoDAsync_v2", |shared, context| {
        on_card(shared, context, "a copy on the card", from, bytes)?;
        on_card(shared, context, "a copy on the card", to, bytes)?;
        if to < from + bytes as u64 && from < to + bytes as u64 {
            shared.report.fault(format!("a copy of {bytes} bytes on the card to where they partly are"));
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let work = Work::Copy { to: to as usize, from: from as usize, bytes };
        context.ask(stream as usize, work, Vec::new()).map(drop)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(at: CUdeviceptr, value: c_uchar, bytes: usize, stream: CUstream) -> CUresult {
    in_context("cuMemsetD8Async", |shared, context| {
        on_card(shared, context, "a setting of memory", at, bytes)?;
        let work = Work::Set { at: at as usize, value, bytes };
        context.ask(stream as usize, work, Vec::new()).map(drop)
    })
}
