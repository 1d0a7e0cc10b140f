//! The names of errors.

use super::put;
use crate::codes::name_of;
use crate::state::always;
use cudarc::driver::sys::CUresult;
use std::ffi::c_char;

/// The code comes from a program, which may have one that no enumeration has.
fn name(symbol: &str, code: u32, text: *mut *const c_char) -> CUresult {
    always(symbol, |_| {
        let known = name_of(code).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        put(text, known.as_ptr())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: u32, text: *mut *const c_char) -> CUresult {
    name("cuGetErrorName", code, text)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(code: u32, text: *mut *const c_char) -> CUresult {
    name("cuGetErrorString", code, text)
}
