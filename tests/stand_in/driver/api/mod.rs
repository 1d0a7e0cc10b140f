//! The driver's functions, under the names and with the arguments that NVIDIA's reference of the driver interface
//! gives them.
//!
//! Each does what that says. They are those that natv2, cudarc and cust ask for, and a few of the same kinds that other
//! programs do.

mod contexts;
mod devices;
mod errors;
mod graphs;
mod memory;
mod modules;
mod streams;

use cudarc::driver::sys::CUresult;

/// Writes what a function returns through a pointer.
fn put<T>(to: *mut T, value: T) -> Result<(), CUresult> {
    if to.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the driver's contract: what is not null is a place for such a value.
    unsafe { to.write(value) };
    Ok(())
}

/// The handle of a pointer, and the pointer of a handle.
fn pointer<T>(handle: usize) -> *mut T {
    std::ptr::without_provenance_mut(handle)
}
