//! Contexts, and which of them is current on a thread.

use super::devices::known;
use super::{pointer, put};
use crate::context::Context;
use crate::state::{self, State, gives_back_context, in_context, initialised};
use cudarc::driver::sys::{CUcontext, CUdevice, CUresult};
use std::ffi::{c_int, c_uint};

fn new_context(state: &mut State, card: CUdevice) -> usize {
    let handle = state.shared.handle();
    state.contexts.insert(handle, Context::new(card));
    handle
}

/// Ends a context, and names what was left in it.
fn end(state: &mut State, handle: usize, how: &str) -> Result<(), CUresult> {
    let context = state.contexts.remove(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
    context.end(&mut state.shared, how);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) -> CUresult {
    initialised("cuDevicePrimaryCtxRetain", |state| {
        known(state, device)?;
        let (handle, retained) = match state.shared.primary.get(&device) {
            Some(&(handle, retained)) => (handle, retained),
            None => (new_context(state, device), 0),
        };
        state.shared.primary.insert(device, (handle, retained + 1));
        put(context, pointer(handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> CUresult {
    gives_back_context("cuDevicePrimaryCtxRelease_v2", |state| {
        let &(handle, retained) =
            state.shared.primary.get(&device).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        if retained > 1 {
            state.shared.primary.insert(device, (handle, retained - 1));
            return Ok(());
        }
        state.shared.primary.remove(&device);
        end(state, handle, "the primary context was")
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v2(context: *mut CUcontext, _: c_uint, device: CUdevice) -> CUresult {
    initialised("cuCtxCreate_v2", |state| {
        known(state, device)?;
        let handle = new_context(state, device);
        state::push_current(handle);
        put(context, pointer(handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxDestroy_v2(context: CUcontext) -> CUresult {
    gives_back_context("cuCtxDestroy_v2", |state| {
        let handle = context as usize;
        if state.shared.primary.values().any(|&(primary, _)| primary == handle) {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        end(state, handle, "their context was destroyed")?;
        if state::current() == Some(handle) {
            state::pop_current();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: *mut CUcontext) -> CUresult {
    initialised("cuCtxGetCurrent", |_| put(context, pointer(state::current().unwrap_or(0))))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    initialised("cuCtxSetCurrent", |state| {
        let handle = context as usize;
        if handle != 0 && !state.contexts.contains_key(&handle) {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        state::set_current(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: CUcontext) -> CUresult {
    initialised("cuCtxPushCurrent_v2", |state| {
        let handle = context as usize;
        if !state.contexts.contains_key(&handle) {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        state::push_current(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent_v2(context: *mut CUcontext) -> CUresult {
    initialised("cuCtxPopCurrent_v2", |_| {
        let popped = state::pop_current().ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        // Who does not want it passes null.
        if context.is_null() { Ok(()) } else { put(context, pointer(popped)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice(device: *mut CUdevice) -> CUresult {
    in_context("cuCtxGetDevice", |_, context| put(device, context.card))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetApiVersion(_: CUcontext, version: *mut c_uint) -> CUresult {
    initialised("cuCtxGetApiVersion", |_| put(version, 3020))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> CUresult {
    in_context("cuCtxSynchronize", |shared, context| {
        context.run_all(shared);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> CUresult {
    in_context("cuCtxGetStreamPriorityRange", |_, _| {
        // Either may be null.
        for place in [least, greatest].into_iter().filter(|place| !place.is_null()) {
            put(place, 0)?;
        }
        Ok(())
    })
}
