//! Launches, checked against the machine code of their kernels before they are put on a stream.

use crate::context::{Context, Function, Prepared};
use crate::emulator::{self, Known, Launch};
use crate::image::{Kernel, Kind};
use crate::memory;
use crate::state::Shared;
use cudarc::driver::sys::CUresult;
use natv2::launch::Geometry;
use std::ffi::c_void;

/// Shared memory that a kernel has without asking, static and dynamic, in bytes.
pub const SHARED: u32 = 48 << 10;
/// Registers of a multiprocessor.
const REGISTERS: u32 = 1 << 16;
/// Registers are given to warps in units of so many.
const REGISTER_UNIT: u32 = 256;
/// The most threads of a block.
pub const MOST_THREADS: u32 = 1024;

/// What a launch asks for, as the driver is told it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub parameters: *mut *mut c_void,
    pub extra: *mut *mut c_void,
}

impl Kernel {
    /// The sizes of its parameters.
    pub fn parameter_bytes(&self) -> Vec<usize> {
        self.parameters.iter().map(|parameter| parameter.bytes as usize).collect()
    }

    /// Whether it does nothing.
    fn is_empty(&self) -> bool {
        self.kind == Kind::Ptx { empty_body: true }
    }
}

impl Function {
    /// A kernel of that module, before anything was asked for it.
    pub fn new(module: usize, kernel: Kernel) -> Function {
        // Of other sizes they have been named when the image was loaded.
        let same = |known: &&Known| known.bytes == kernel.parameter_bytes();
        let emulated = emulator::known(&kernel.name).filter(same);
        let most_dynamic = SHARED.saturating_sub(kernel.static_shared_bytes);
        Function { module, kernel, emulated, most_dynamic, carveout: -1 }
    }

    /// Threads of a block that its registers and its launch bounds allow.
    pub fn most_threads(&self) -> u32 {
        let of_warp = (32 * self.kernel.registers.next_multiple_of(8)).next_multiple_of(REGISTER_UNIT);
        let by_registers = REGISTERS.checked_div(of_warp).map_or(MOST_THREADS, |warps| 32 * warps);
        by_registers.min(self.kernel.max_threads).min(MOST_THREADS)
    }

    fn geometry(&self, asked: &Asked) -> Result<(), (CUresult, String)> {
        let Asked { grid, block, shared_bytes, .. } = *asked;
        let invalid = |text: String| Err((CUresult::CUDA_ERROR_INVALID_VALUE, text));
        let most_blocks = [i32::MAX.unsigned_abs(), 65535, 65535];
        if grid.iter().zip(most_blocks).any(|(&blocks, most)| blocks == 0 || blocks > most) {
            return invalid(format!("a grid of {grid:?} blocks, where {most_blocks:?} are the most"));
        }
        let threads =
            block.iter().try_fold(1u32, |all, &threads| all.checked_mul(threads)).unwrap_or(u32::MAX);
        if threads == 0 || threads > MOST_THREADS || block[2] > 64 {
            return invalid(format!("a block of {block:?} threads"));
        }
        if threads > self.kernel.max_threads {
            return invalid(format!(
                "{threads} threads in a block, of {} in its bounds",
                self.kernel.max_threads
            ));
        }
        if threads > self.most_threads() {
            let registers = self.kernel.registers;
            let text = format!("{threads} threads of {registers} registers do not fit a multiprocessor");
            return Err((CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, text));
        }
        if shared_bytes > self.most_dynamic {
            let (most, fixed) = (self.most_dynamic, self.kernel.static_shared_bytes);
            return invalid(format!(
                "{shared_bytes} bytes of dynamic shared memory, where it may have {most} beside its own {fixed}"
            ));
        }
        Ok(())
    }
}

impl Context {
    /// Checks a launch and copies its parameters.
    pub fn prepare(&self, shared: &mut Shared, function: usize, asked: &Asked) -> Result<Prepared, CUresult> {
        let function = self.functions.get(&function).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let name = &function.kernel.name;
        let refuse = |shared: &mut Shared, (code, text): (CUresult, String)| {
            shared.note(format!("a launch of {name} is refused: {text}"));
            code
        };
        function.geometry(asked).map_err(|refusal| refuse(shared, refusal))?;
        if !asked.extra.is_null() {
            let text = "parameters in one buffer are not known here".to_owned();
            return Err(refuse(shared, (CUresult::CUDA_ERROR_NOT_SUPPORTED, text)));
        }
        let values = self.parameters(shared, function, asked)?;
        let launch = function.emulated.map(|kernel| {
            let Asked { grid, block, shared_bytes, .. } = *asked;
            Box::new(Launch { kernel, geometry: Geometry { grid, block, shared_bytes }, values })
        });
        if launch.is_none() && !function.kernel.is_empty() {
            let text = if cfg!(natv2_emulator) {
                "the emulator has no such kernel"
            } else {
                "this build has no emulator; build it where a C++17 compiler is installed"
            };
            return Err(refuse(shared, (CUresult::CUDA_ERROR_NOT_SUPPORTED, text.to_owned())));
        }
        Ok(Prepared { module: function.module, launch })
    }

    /// Copies of the parameters.
    fn parameters(
        &self,
        shared: &mut Shared,
        function: &Function,
        asked: &Asked,
    ) -> Result<Vec<Vec<u64>>, CUresult> {
        let (name, sizes) = (&function.kernel.name, function.kernel.parameter_bytes());
        let pointer = |index: usize| {
            // SAFETY: the driver's contract: an array with a pointer for each parameter of the kernel; and one more, null,
            // where the environment promises it.
            unsafe { asked.parameters.add(index).read() }
        };
        if !sizes.is_empty() && asked.parameters.is_null() {
            shared.note(format!("a launch of {name} is refused: it has no parameters"));
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let mut values = Vec::with_capacity(sizes.len());
        for (index, &bytes) in sizes.iter().enumerate() {
            let from = pointer(index);
            if from.is_null() {
                shared.note(format!("a launch of {name} is refused: {index} parameters of {}", sizes.len()));
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
            let mut value = vec![0u64; bytes.div_ceil(size_of::<u64>())];
            // SAFETY: the driver's contract: a value of the parameter's size is there. `value` has room for it.
            unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), bytes) };
            for word in value.iter().take(bytes / size_of::<u64>()) {
                self.look_at(shared, name, *word as usize);
            }
            values.push(value);
        }
        if shared.settings.terminated && !asked.parameters.is_null() && !pointer(sizes.len()).is_null() {
            shared.report.fault(format!("a launch of {name} has more than its {} parameters", sizes.len()));
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        Ok(values)
    }

    /// What a kernel is given as an address of the card is of memory that is there.
    fn look_at(&self, shared: &mut Shared, kernel: &str, word: usize) {
        if memory::is_address(word) && !self.memory.holds(word, 0) {
            shared.report.fault(format!(
                "a launch of {kernel} is given {word:#x}, which is no memory of the card: it was freed, or lies outside of \
                 all allocations"
            ));
        }
    }
}
