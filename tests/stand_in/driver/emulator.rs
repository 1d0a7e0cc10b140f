//! The kernels: those of natv2's emulator. In a build without a C++ compiler there are none.

use natv2::device::emulated::{self, ThreadOrder};
use natv2::launch::{Arguments, Geometry, MOST_ARGUMENTS};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::LazyLock;

/// A kernel that can run.
#[derive(Debug)]
pub struct Known {
    pub name: CString,
    /// The sizes of its parameters.
    pub bytes: Vec<usize>,
}

/// A launch, with copies of its parameters.
#[derive(Debug, Clone)]
pub struct Launch {
    pub kernel: &'static Known,
    pub geometry: Geometry,
    /// The values of the parameters, each in whole words.
    pub values: Vec<Vec<u64>>,
}

/// The kernel of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    static KERNELS: LazyLock<BTreeMap<String, Known>> = LazyLock::new(|| {
        let kernels = emulated::kernels().into_iter();
        let one = |kernel: emulated::KernelInfo| {
            let name = CString::new(kernel.name.as_str()).unwrap_or_default();
            (kernel.name, Known { name, bytes: kernel.argument_bytes })
        };
        kernels.map(one).filter(|(_, known)| known.bytes.len() <= MOST_ARGUMENTS).collect()
    });
    KERNELS.get(name)
}

/// Runs a launch to its end.
///
/// # Errors
/// How it went wrong, in the emulator's words.
///
/// # Safety
/// The pointers among its parameters are valid for what the kernel does with them.
pub unsafe fn run(launch: &Launch, threads: usize) -> Result<(), String> {
    let sized = launch.values.iter().zip(&launch.kernel.bytes);
    let arguments = sized.fold(Arguments::new(), |arguments, (value, &bytes)| {
        // SAFETY: the value is a copy of as many bytes, which the launch has until this returns.
        unsafe { arguments.and_raw(value.as_ptr().cast_mut().cast(), bytes) }
    });
    let name = launch.kernel.name.to_string_lossy();
    // SAFETY: passed on to the caller.
    let ran = unsafe { emulated::launch(&name, launch.geometry, &arguments, threads, ThreadOrder::Forward) };
    ran.map_err(|error| error.to_string())
}
