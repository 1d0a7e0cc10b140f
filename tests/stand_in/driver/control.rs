//! What tests ask of the driver in their own process, beside what the environment says of it.

use crate::state::lock;
use std::ffi::{CStr, c_char};

/// How often a symbol was called, or something else was counted.
///
/// # Safety
/// `what` ends with NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn natv2_stand_in_count(what: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    let what = unsafe { CStr::from_ptr(what) };
    lock().shared.report.counted(&what.to_string_lossy())
}

/// Bytes of every card from now on.
#[unsafe(no_mangle)]
extern "C" fn natv2_stand_in_memory(bytes: usize) {
    lock().shared.settings.memory = bytes;
}

/// Bytes of all cards that are taken.
#[unsafe(no_mangle)]
extern "C" fn natv2_stand_in_used() -> usize {
    lock().contexts.values().map(crate::context::Context::bytes).sum()
}

/// Another interleaving of the streams from now on.
#[unsafe(no_mangle)]
extern "C" fn natv2_stand_in_seed(seed: u64) {
    lock().shared.set_seed(seed);
}
