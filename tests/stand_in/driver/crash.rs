//! What is said when a kernel, or the host, touches memory that is no longer or not yet any.
//!
//! A page that cannot be touched stops the process with a signal. Where its address is one of `memory`, a line names
//! the kernel that runs, and the process ends as for any fault; else the signal goes to whoever handled it before.

use crate::memory;
use crate::report::EXIT_CODE;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The name of the kernel that runs; null where none does.
static RUNNING: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
/// The reserved addresses, for a handler that may take no lock.
static FIRST: AtomicUsize = AtomicUsize::new(0);
static BEHIND: AtomicUsize = AtomicUsize::new(0);
/// The handler that there was.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Says which kernel runs now.
pub fn running(kernel: Option<&'static CStr>) {
    let name = kernel.map_or(std::ptr::null_mut(), |name| name.as_ptr().cast_mut());
    RUNNING.store(name, Ordering::Relaxed);
}

/// Handles the signal from now on.
pub fn watch() {
    let Some((first, behind)) = memory::reserved() else { return };
    FIRST.store(first, Ordering::Relaxed);
    BEHIND.store(behind, Ordering::Relaxed);
    // SAFETY: both are plain structs that the calls read and write; all zeros is a valid one.
    unsafe {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGSEGV, std::ptr::null(), &raw mut before);
        if BEFORE.set(before).is_err() {
            return;
        }
        let mut mine = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        mine.sa_sigaction = handle as *const () as usize;
        mine.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSEGV, &raw const mine, std::ptr::null_mut());
    }
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a valid struct.
    let address = unsafe { (*info).si_addr() } as usize;
    if !(FIRST.load(Ordering::Relaxed)..BEHIND.load(Ordering::Relaxed)).contains(&address) {
        if let Some(before) = BEFORE.get() {
            // The access is made again, and met by the handler that there was.
            // SAFETY: it was the handler before.
            unsafe { libc::sigaction(libc::SIGSEGV, before, std::ptr::null_mut()) };
        }
        return;
    }
    say(b"stand-in driver: fault: ");
    let kernel = RUNNING.load(Ordering::Relaxed);
    if kernel.is_null() {
        say(b"the host");
    } else {
        say(b"kernel ");
        // SAFETY: the names of kernels are constants of the program.
        say(unsafe { CStr::from_ptr(kernel) }.to_bytes());
    }
    let mut digits = *b" touches 0x0000000000000000, ";
    for (place, digit) in digits[11..27].iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[address >> (4 * place) & 15];
    }
    say(&digits);
    say(b"which is no memory: it was freed, or lies behind the end of an allocation\n");
    say(b"stand-in driver: the process is stopped\n");
    // SAFETY: ends the process at once; nothing of it can go on.
    unsafe { libc::_exit(EXIT_CODE) }
}

/// Writes to standard error, as a handler of signals may.
fn say(text: &[u8]) {
    // SAFETY: reads the bytes alone.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}
