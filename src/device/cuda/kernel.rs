//! A kernel ready to launch, and how much of a multiprocessor's memory is to be shared memory for it.

use super::driver::Function;
use super::error::{Checked, CudaError};
use crate::device::emulated;
use crate::launch::{Arguments, MOST_ARGUMENTS};
use cudarc::driver::DriverError;
use cudarc::driver::sys::{CUfunction_attribute, CUresult};
use std::sync::atomic::{AtomicBool, Ordering};

/// A kernel ready to launch.
pub(super) struct Kernel {
    function: Function,
    /// Sizes of its arguments, where they are known: from its image, else from the emulator's kernel.
    argument_bytes: Option<Vec<usize>>,
    /// Whether a carve-out was asked for.
    carved: AtomicBool,
}

/// Dynamic shared memory that a kernel has without asking, in bytes.
const SHARED_BYTES: u32 = 48 << 10;

/// The share of a multiprocessor's memory that a kernel is to have as shared memory, in per cent, if blocks of it are
/// launched with so much dynamic shared memory; `None` leaves it to the driver.
///
/// A multiprocessor has one memory for shared memory and the first-level cache: 256 KiB on an H100, up to 228 of
/// them shared. What the driver takes for a kernel is its own affair, and it may be what one block needs, where two
/// of 105 KiB would fit. Kernels with large blocks stage what they read in shared memory and have little use for
/// the cache; those with small ones read through the cache, so that theirs stays what the driver makes of it.
fn carveout(dynamic_bytes: u32) -> Option<i32> {
    // All there can be: CU_SHAREDMEM_CARVEOUT_MAX_SHARED.
    (dynamic_bytes > SHARED_BYTES).then_some(100)
}

/// The CUDA version from which on a driver says what a kernel of an image takes.
const TELLS_PARAMETERS: (u32, u32) = (12, 4);

/// The sizes of the kernel's parameters in its image, in bytes; `None` where the driver does not know them. The
/// driver supports CUDA [`TELLS_PARAMETERS`].
fn parameters(function: &Function) -> Result<Option<Vec<usize>>, CudaError> {
    let mut sizes = Vec::new();
    // One more than any launch of ours has shows that a kernel takes more.
    while sizes.len() <= MOST_ARGUMENTS {
        match function.parameter_bytes(sizes.len()) {
            Ok(bytes) => sizes.push(bytes),
            // Behind the last.
            Err(CUresult::CUDA_ERROR_INVALID_VALUE) => break,
            Err(CUresult::CUDA_ERROR_NOT_SUPPORTED) => return Ok(None),
            Err(code) => return Err(DriverError(code)).call("cuFuncGetParamInfo"),
        }
    }
    // All kernels take something, so this one's image does not say.
    Ok((!sizes.is_empty()).then_some(sizes))
}

impl Kernel {
    /// A kernel on a card whose blocks can have `most` bytes of shared memory, with a driver that supports that version
    /// of CUDA. The context is bound.
    pub fn new(
        name: &str,
        function: Function,
        most: usize,
        cuda_version: (u32, u32),
    ) -> Result<Kernel, CudaError> {
        let fixed = function.shared_bytes()?;
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        // More than 48 KiB of dynamic shared memory has to be asked for, kernel by kernel.
        let dynamic = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set(dynamic, (most - fixed).max(0))?;
        let of_image = if cuda_version < TELLS_PARAMETERS { None } else { parameters(&function)? };
        let argument_bytes = of_image.or_else(|| emulated::kernel(name).map(|info| info.argument_bytes));
        Ok(Kernel { function, argument_bytes, carved: AtomicBool::new(false) })
    }

    /// The function, for a launch of these arguments with so much dynamic shared memory. `name` is the kernel's.
    pub fn function(
        &self,
        name: &str,
        arguments: &Arguments<'_>,
        dynamic_bytes: u32,
    ) -> Result<&Function, CudaError> {
        if let Some(wanted) = &self.argument_bytes
            && wanted != arguments.bytes()
        {
            return Err(CudaError::BadArguments {
                kernel: name.to_owned(),
                wanted: wanted.clone(),
                given: arguments.bytes().to_vec(),
            });
        }
        if let Some(share) = carveout(dynamic_bytes)
            && !self.carved.swap(true, Ordering::Relaxed)
        {
            // A wish: where the driver knows no such thing, the kernel runs without.
            let wish = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            let _ = self.function.set(wish, share);
        }
        Ok(&self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_large_blocks_get_all_the_shared_memory_there_is() {
        assert_eq!([0, 1, 48 << 10].map(carveout), [None; 3]);
        assert_eq!([(48 << 10) + 1, 105 << 10, 227 << 10].map(carveout), [Some(100); 3]);
    }
}
