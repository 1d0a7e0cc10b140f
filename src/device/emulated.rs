//! The emulated device: the kernels of `kernels/`, run on the CPU.
//!
//! The build compiles the kernels a second time with the C++ compiler, against `kernels/emulator/`
//! (its `emulator.h` explains how that works). This module launches them and stands in for the
//! rest of a GPU: memory, copies, streams, events. A device address is a host address; a launch
//! runs to its end before it returns, so there is nothing to wait for.
//!
//! Where the program was built without a C++ compiler, or without the feature `emulator`,
//! [`EmulatedRuntime::new`] returns [`EmulatorError::NotBuilt`].

use crate::launch::{Arguments, Geometry};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// Why something on the emulated device did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmulatorError {
    /// The program holds no emulator.
    #[error(
        "this program was built without the emulated device; build it where a C++17 compiler is installed, with the \
         feature `emulator`"
    )]
    NotBuilt,
    /// A launch was refused, or a kernel went wrong.
    #[error("emulated launch failed ({status:?}): {message}")]
    Launch {
        /// What kind of failure.
        status: LaunchStatus,
        /// Names the kernel and, where it ran, the block, the thread and the line.
        message: String,
    },
    /// No memory.
    #[error("cannot allocate {bytes} bytes for the emulated device; use smaller batches")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A copy beyond the end of an allocation.
    #[error("a copy of {bytes} bytes at offset {offset} does not fit an allocation of {size} bytes")]
    OutOfRange {
        /// Start of the copy in bytes.
        offset: usize,
        /// Length of the copy in bytes.
        bytes: usize,
        /// Size of the allocation in bytes.
        size: usize,
    },
}

/// How an emulated launch can fail; mirrors `nat_emulator::Status` of `kernels/emulator/block.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchStatus {
    /// No kernel has this name.
    UnknownKernel,
    /// The number or sizes of the arguments are not the kernel's.
    BadArguments,
    /// A grid, block or amount of shared memory that a card would refuse too.
    BadConfiguration,
    /// Threads wait at a barrier for others that will not come.
    Divergence,
    /// A warp collective called in a way that CUDA leaves undefined.
    BadCollective,
    /// A misaligned asynchronous copy or matrix row.
    BadAccess,
    /// The kernel called `__trap`.
    Trap,
    /// The emulator ran out of memory.
    OutOfMemory,
    /// A status that this version of the program does not know.
    Other(i32),
}

impl LaunchStatus {
    #[cfg_attr(not(natv2_emulator), allow(dead_code))]
    fn from_code(code: i32) -> LaunchStatus {
        match code {
            1 => LaunchStatus::UnknownKernel,
            2 => LaunchStatus::BadArguments,
            3 => LaunchStatus::BadConfiguration,
            4 => LaunchStatus::Divergence,
            5 => LaunchStatus::BadCollective,
            6 => LaunchStatus::BadAccess,
            7 => LaunchStatus::Trap,
            8 => LaunchStatus::OutOfMemory,
            other => LaunchStatus::Other(other),
        }
    }
}

/// The order in which the threads of a block take turns. Correct kernels do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadOrder {
    /// Thread 0 first. `NATV2_EMULATOR_ORDER=reverse` in the environment turns it round.
    #[default]
    Forward,
    /// The last thread first.
    Reverse,
}

/// A kernel that the program holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// The name that launches it.
    pub name: String,
    /// Its source file.
    pub file: String,
    /// The most threads that a block may have.
    pub max_threads: u32,
    /// The sizes of its arguments in bytes.
    pub argument_bytes: Vec<usize>,
}

/// All kernels that the emulator can launch, sorted by name. Empty where it was not built.
pub fn kernels() -> Vec<KernelInfo> {
    let mut kernels = ffi::kernels();
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    kernels
}

/// The kernel of that name.
pub fn kernel(name: &str) -> Option<KernelInfo> {
    kernels().into_iter().find(|kernel| kernel.name == name)
}

/// Runs a kernel to its end on up to `threads` operating-system threads, this one included.
///
/// # Errors
///
/// [`EmulatorError::NotBuilt`], or [`EmulatorError::Launch`] where the launch is refused (no such
/// kernel, sizes of arguments, geometry) or the emulator finds the kernel in error.
///
/// # Safety
///
/// The kernel reads and writes through the pointers among its arguments as it likes: they must be
/// valid for that, and nothing else may use the memory during the launch.
pub unsafe fn launch(
    kernel: &str,
    geometry: Geometry,
    arguments: &Arguments<'_>,
    threads: usize,
    order: ThreadOrder,
) -> Result<(), EmulatorError> {
    // SAFETY: passed on to the caller.
    unsafe { ffi::launch(kernel, geometry, arguments, threads, order) }
}

/// The emulated device.
#[derive(Debug, Clone)]
pub struct EmulatedRuntime {
    threads: usize,
    order: ThreadOrder,
}

impl EmulatedRuntime {
    /// A device that runs blocks on `threads` operating-system threads; 0 is taken for 1.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::NotBuilt`].
    pub fn new(threads: usize) -> Result<EmulatedRuntime, EmulatorError> {
        if !cfg!(natv2_emulator) {
            return Err(EmulatorError::NotBuilt);
        }
        Ok(EmulatedRuntime { threads: threads.max(1), order: ThreadOrder::Forward })
    }

    /// The same device with another order of threads.
    #[must_use]
    pub fn with_order(mut self, order: ThreadOrder) -> EmulatedRuntime {
        self.order = order;
        self
    }

    /// Operating-system threads in use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Memory of the device, filled with [`POISON`], aligned to 256 bytes as on a card.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::OutOfMemory`].
    pub fn alloc(&self, bytes: usize) -> Result<EmulatedMemory, EmulatorError> {
        EmulatedMemory::new(bytes)
    }

    /// Copies from the host to `memory`, `offset` bytes from its start.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::OutOfRange`].
    pub fn upload(
        &self,
        memory: &mut EmulatedMemory,
        offset: usize,
        from: &[u8],
    ) -> Result<(), EmulatorError> {
        memory.range_mut(offset, from.len())?.copy_from_slice(from);
        Ok(())
    }

    /// Copies from `memory`, `offset` bytes from its start, to the host.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::OutOfRange`].
    pub fn download(
        &self,
        memory: &EmulatedMemory,
        offset: usize,
        to: &mut [u8],
    ) -> Result<(), EmulatorError> {
        to.copy_from_slice(memory.range(offset, to.len())?);
        Ok(())
    }

    /// Sets `bytes` bytes to zero.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::OutOfRange`].
    pub fn zero(
        &self,
        memory: &mut EmulatedMemory,
        offset: usize,
        bytes: usize,
    ) -> Result<(), EmulatorError> {
        memory.range_mut(offset, bytes)?.fill(0);
        Ok(())
    }

    /// Copies between two allocations.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::OutOfRange`].
    pub fn copy(
        &self,
        from: &EmulatedMemory,
        from_offset: usize,
        to: &mut EmulatedMemory,
        to_offset: usize,
        bytes: usize,
    ) -> Result<(), EmulatorError> {
        let source = from.range(from_offset, bytes)?;
        to.range_mut(to_offset, bytes)?.copy_from_slice(source);
        Ok(())
    }

    /// Runs a kernel; see [`launch`](launch()).
    ///
    /// # Errors
    ///
    /// As for [`launch`](launch()).
    ///
    /// # Safety
    ///
    /// As for [`launch`](launch()).
    pub unsafe fn launch(
        &self,
        kernel: &str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
    ) -> Result<(), EmulatorError> {
        // SAFETY: passed on to the caller.
        unsafe { launch(kernel, geometry, arguments, self.threads, self.order) }
    }

    /// Waits until all launches have ended, which here they have.
    pub fn synchronise(&self) {}

    /// A point in time among the launches.
    pub fn record(&self) -> EmulatedEvent {
        EmulatedEvent(Instant::now())
    }
}

/// A point in time among the launches of an [`EmulatedRuntime`].
#[derive(Debug, Clone, Copy)]
pub struct EmulatedEvent(Instant);

impl EmulatedEvent {
    /// Time from `earlier` to this event.
    pub fn since(&self, earlier: &EmulatedEvent) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// What fresh memory holds: a signalling NaN as f32, and NaN in both halves as f16 and bf16. The
/// same pattern as in shared memory (`kernels/emulator/shared.h`).
pub const POISON: u32 = 0x7fa1_7fa1;

const ALIGNMENT: usize = 256;

/// Memory of an [`EmulatedRuntime`]. Freed when dropped.
#[derive(Debug)]
pub struct EmulatedMemory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is plain memory, owned by this value alone.
unsafe impl Send for EmulatedMemory {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for EmulatedMemory {}

impl EmulatedMemory {
    fn new(bytes: usize) -> Result<EmulatedMemory, EmulatorError> {
        let out_of_memory = EmulatorError::OutOfMemory { bytes };
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT).map_err(|_| out_of_memory.clone())?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(out_of_memory)?;
        let mut memory = EmulatedMemory { start, bytes };
        memory.poison();
        Ok(memory)
    }

    /// Fills the memory with [`POISON`] again, so that a test sees what a kernel did not write.
    pub fn poison(&mut self) {
        let pattern = POISON.to_le_bytes();
        for (i, chunk) in (0..self.bytes).step_by(4).enumerate() {
            let length = (self.bytes - chunk).min(4);
            // SAFETY: 4 i + length <= bytes, the size of the allocation.
            unsafe {
                std::ptr::copy_nonoverlapping(pattern.as_ptr(), self.start.as_ptr().add(4 * i), length)
            };
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address that kernels know it by.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    fn check(&self, offset: usize, bytes: usize) -> Result<(), EmulatorError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(EmulatorError::OutOfRange { offset, bytes, size: self.bytes }),
        }
    }

    fn range(&self, offset: usize, bytes: usize) -> Result<&[u8], EmulatorError> {
        self.check(offset, bytes)?;
        // SAFETY: inside the allocation, which is initialised since `new`.
        Ok(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), bytes) })
    }

    fn range_mut(&mut self, offset: usize, bytes: usize) -> Result<&mut [u8], EmulatorError> {
        self.check(offset, bytes)?;
        // SAFETY: inside the allocation, which is initialised since `new` and borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), bytes) })
    }
}

impl Drop for EmulatedMemory {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe {
            let layout = Layout::from_size_align_unchecked(self.bytes.max(1), ALIGNMENT);
            std::alloc::dealloc(self.start.as_ptr(), layout);
        }
    }
}

/// The C interface of `kernels/emulator/launch.h`.
#[cfg(natv2_emulator)]
mod ffi {
    use super::{EmulatorError, KernelInfo, LaunchStatus, ThreadOrder};
    use crate::launch::{Arguments, Geometry};
    use std::ffi::{CStr, c_char, c_int, c_void};

    /// Bytes of the longest name that a launch looks for.
    const LONGEST_NAME: usize = 255;

    #[repr(C)]
    struct LaunchRequest {
        kernel: *const c_char,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        argument_count: u32,
        arguments: *const *mut c_void,
        argument_bytes: *const usize,
        threads: u32,
        order: u32,
        /// Counts of bank conflicts, or null: the emulator's own checks ask for them.
        bank_counts: *mut c_void,
    }

    #[repr(C)]
    struct RawKernelInfo {
        name: *const c_char,
        file: *const c_char,
        max_threads: u32,
        argument_count: u32,
        argument_bytes: *const usize,
    }

    unsafe extern "C" {
        fn natv2_emulator_launch(
            request: *const LaunchRequest,
            message: *mut c_char,
            message_bytes: usize,
        ) -> c_int;
        fn natv2_emulator_kernel(index: usize, info: *mut RawKernelInfo) -> c_int;
    }

    pub fn kernels() -> Vec<KernelInfo> {
        let mut found = Vec::new();
        loop {
            let mut raw = RawKernelInfo {
                name: std::ptr::null(),
                file: std::ptr::null(),
                max_threads: 0,
                argument_count: 0,
                argument_bytes: std::ptr::null(),
            };
            // SAFETY: `raw` is laid out as the C struct. Where 1 is returned, its pointers are to
            // constants of the program: strings, and `argument_count` sizes.
            unsafe {
                if natv2_emulator_kernel(found.len(), &mut raw) != 1 {
                    return found;
                }
                found.push(KernelInfo {
                    name: CStr::from_ptr(raw.name).to_string_lossy().into_owned(),
                    file: CStr::from_ptr(raw.file).to_string_lossy().into_owned(),
                    max_threads: raw.max_threads,
                    argument_bytes: std::slice::from_raw_parts(
                        raw.argument_bytes,
                        raw.argument_count as usize,
                    )
                    .to_vec(),
                });
            }
        }
    }

    pub unsafe fn launch(
        kernel: &str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
        threads: usize,
        order: ThreadOrder,
    ) -> Result<(), EmulatorError> {
        let unknown = || EmulatorError::Launch {
            status: LaunchStatus::UnknownKernel,
            message: format!("there is no kernel named {kernel:?}"),
        };
        // On the stack, with its NUL: a launch takes no memory. No kernel has a name as long as that.
        let mut name = [0u8; LONGEST_NAME + 1];
        if kernel.len() > LONGEST_NAME || kernel.contains('\0') {
            return Err(unknown());
        }
        name[..kernel.len()].copy_from_slice(kernel.as_bytes());
        let request = LaunchRequest {
            kernel: name.as_ptr().cast(),
            grid: geometry.grid,
            block: geometry.block,
            shared_bytes: geometry.shared_bytes,
            argument_count: arguments.pointers().len() as u32,
            arguments: arguments.pointers().as_ptr(),
            argument_bytes: arguments.bytes().as_ptr(),
            threads: threads.try_into().unwrap_or(u32::MAX),
            order: match order {
                ThreadOrder::Forward => 0,
                ThreadOrder::Reverse => 1,
            },
            bank_counts: std::ptr::null_mut(),
        };
        let mut message = [0u8; 1024];
        // SAFETY: the request is laid out as the C struct and its pointers live until the call
        // returns; the message is written within its length and ends with 0. The kernel's own
        // accesses are the caller's promise.
        let code = unsafe { natv2_emulator_launch(&request, message.as_mut_ptr().cast(), message.len()) };
        if code == 0 {
            return Ok(());
        }
        let message = CStr::from_bytes_until_nul(&message).unwrap_or_default().to_string_lossy().into_owned();
        Err(EmulatorError::Launch { status: LaunchStatus::from_code(code), message })
    }
}

/// Stands in where the emulator was not built.
#[cfg(not(natv2_emulator))]
mod ffi {
    use super::{EmulatorError, KernelInfo, ThreadOrder};
    use crate::launch::{Arguments, Geometry};

    pub fn kernels() -> Vec<KernelInfo> {
        Vec::new()
    }

    pub unsafe fn launch(
        _: &str,
        _: Geometry,
        _: &Arguments<'_>,
        _: usize,
        _: ThreadOrder,
    ) -> Result<(), EmulatorError> {
        Err(EmulatorError::NotBuilt)
    }
}
