//! The kernels: those of the emulator, through its C interface (`kernels/emulator/launch.h`).

use std::ffi::CStr;

/// How a launch went wrong on the emulator, in its words.
pub type Message = String;

/// A launch, with copies of its arguments.
#[derive(Debug, Clone)]
pub struct Launch {
    pub kernel: &'static CStr,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    /// The values of the parameters, each in whole words.
    pub values: Vec<Vec<u64>>,
    /// Their sizes.
    pub bytes: Vec<usize>,
}

#[cfg(natv2_emulator)]
pub use there::{parameters, run};

#[cfg(natv2_emulator)]
mod there {
    use super::{Launch, Message};
    // Its library has the emulator.
    use natv2 as _;
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::mem::MaybeUninit;

    #[repr(C)]
    struct Request {
        kernel: *const c_char,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        argument_count: u32,
        arguments: *const *mut c_void,
        argument_bytes: *const usize,
        threads: u32,
        order: u32,
        bank_counts: *mut c_void,
    }

    #[repr(C)]
    struct Info {
        name: *const c_char,
        file: *const c_char,
        max_threads: u32,
        argument_count: u32,
        argument_bytes: *const usize,
    }

    unsafe extern "C" {
        fn natv2_emulator_launch(
            request: *const Request,
            message: *mut c_char,
            message_bytes: usize,
        ) -> c_int;
        fn natv2_emulator_find(name: *const c_char, info: *mut Info) -> c_int;
    }

    /// The name of a kernel, for as long as the process lives, and the sizes of its parameters; `None` where the
    /// emulator has no such kernel.
    pub fn parameters(kernel: &CStr) -> Option<(&'static CStr, Vec<usize>)> {
        let mut info = MaybeUninit::<Info>::uninit();
        // SAFETY: the name ends with NUL, and `info` is laid out as the C struct and written where 1 is returned. Its
        // pointers are then to constants of the program: a string, and `argument_count` sizes.
        unsafe {
            if natv2_emulator_find(kernel.as_ptr(), info.as_mut_ptr()) != 1 {
                return None;
            }
            let info = info.assume_init();
            let sizes = std::slice::from_raw_parts(info.argument_bytes, info.argument_count as usize);
            Some((CStr::from_ptr(info.name), sizes.to_vec()))
        }
    }

    /// Runs a launch to its end.
    ///
    /// # Safety
    /// The pointers among its parameters are valid for what the kernel does with them.
    pub unsafe fn run(launch: &mut Launch, threads: u32) -> Result<(), Message> {
        let pointers: Vec<*mut c_void> =
            launch.values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let mut message = [0 as c_char; 512];
        let request = Request {
            kernel: launch.kernel.as_ptr(),
            grid: launch.grid,
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            argument_count: u32::try_from(pointers.len()).unwrap_or(u32::MAX),
            arguments: pointers.as_ptr(),
            argument_bytes: launch.bytes.as_ptr(),
            threads,
            order: 0,
            bank_counts: std::ptr::null_mut(),
        };
        // SAFETY: the request and what it points to live until the call returns; the rest is the caller's promise. The
        // message ends with NUL where the result is not 0.
        unsafe {
            match natv2_emulator_launch(&raw const request, message.as_mut_ptr(), message.len()) {
                0 => Ok(()),
                _ => Err(CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned()),
            }
        }
    }
}

#[cfg(not(natv2_emulator))]
pub use missing::{parameters, run};

/// Without a C++ compiler there is no emulator, and so no kernel.
#[cfg(not(natv2_emulator))]
mod missing {
    use super::{Launch, Message};
    use std::ffi::CStr;

    /// No kernel is there.
    pub fn parameters(_: &CStr) -> Option<(&'static CStr, Vec<usize>)> {
        None
    }

    /// Nothing runs.
    ///
    /// # Safety
    /// As where there is an emulator; this one touches nothing.
    pub unsafe fn run(_: &mut Launch, _: u32) -> Result<(), Message> {
        Err("this build has no emulator".to_owned())
    }
}
