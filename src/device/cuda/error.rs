//! Errors of the CUDA device.

use crate::device::launch::Geometry;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// Why something on the CUDA device did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver library is missing.
    #[error("there is no NVIDIA driver (libcuda.so.1 was not found); install it, or use --device cpu")]
    NoDriver,
    /// The driver finds no card.
    #[error(
        "the NVIDIA driver finds no card; check nvidia-smi and CUDA_VISIBLE_DEVICES, or install a driver that \
         knows the card, or use --device cpu"
    )]
    NoCard,
    /// A card number that is too large.
    #[error("there is no card cuda:{ordinal}; this machine has {count}, counted from cuda:0")]
    NoSuchCard {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A call into the driver failed.
    #[error("{call} failed: {code}{advice}")]
    Driver {
        /// The function of the driver interface.
        call: String,
        /// The driver's name for the error.
        code: String,
        /// What to do, as a clause that starts with "; ", or nothing.
        advice: &'static str,
    },
    /// The card's memory is full.
    #[error("the card cannot allocate {bytes} bytes ({free} of {total} are free); use smaller batches")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
        /// What was free.
        free: usize,
        /// What the card has.
        total: usize,
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
    /// No kernel has this name.
    #[error("there is no kernel named {kernel:?}")]
    UnknownKernel {
        /// The name.
        kernel: String,
    },
    /// Arguments of other sizes than the kernel's.
    #[error("kernel {kernel} takes arguments of {wanted:?} bytes, not {given:?}")]
    BadArguments {
        /// The kernel.
        kernel: String,
        /// Sizes of its arguments.
        wanted: Vec<usize>,
        /// Sizes given.
        given: Vec<usize>,
    },
    /// No machine code for the card, and nothing to make it with.
    #[error(
        "the kernels of {file}.cu cannot be loaded: {reason}. The driver supports CUDA {}.{}, the embedded images \
         need CUDA 13.0, driver 580 or newer. Update the driver, or install NVRTC of CUDA {}.{} or older \
         (libnvrtc.so, on LD_LIBRARY_PATH or under CUDA_HOME), which then compiles the kernels when the program starts",
        cuda_version.0, cuda_version.1, cuda_version.0, cuda_version.1
    )]
    NoImage {
        /// The kernel file, without its extension.
        file: &'static str,
        /// What went wrong on the way.
        reason: String,
        /// What the driver supports.
        cuda_version: (u32, u32),
    },
    /// NVRTC failed.
    #[error("NVRTC ({call}) failed on {file}: {code}\n{log}")]
    Nvrtc {
        /// The function of NVRTC.
        call: &'static str,
        /// The source file.
        file: String,
        /// NVRTC's name for the error.
        code: String,
        /// What the compiler printed.
        log: String,
    },
}

impl CudaError {
    /// The error of a launch, with the geometry that the driver may have disliked.
    pub(super) fn launch(kernel: &str, geometry: Geometry, failure: DriverError) -> CudaError {
        let Geometry { grid, block, shared_bytes } = geometry;
        CudaError::Driver {
            call: format!(
                "cuLaunchKernel of {kernel} (grid {grid:?}, block {block:?}, {shared_bytes} bytes of shared memory)"
            ),
            code: name_of(failure),
            advice: advice(failure.0),
        }
    }
}

/// Turns a driver result into one that names the call.
pub(super) trait Checked<T> {
    fn call(self, call: &'static str) -> Result<T, CudaError>;
}

impl<T> Checked<T> for Result<T, DriverError> {
    fn call(self, call: &'static str) -> Result<T, CudaError> {
        self.map_err(|failure| CudaError::Driver {
            call: call.to_owned(),
            code: name_of(failure),
            advice: advice(failure.0),
        })
    }
}

/// The driver's name for an error, as `CUDA_ERROR_INVALID_VALUE`.
pub(super) fn name_of(failure: DriverError) -> String {
    // Not asked of the driver: the enumeration's own names are the same, and always there.
    format!("{:?}", failure.0)
}

fn advice(code: CUresult) -> &'static str {
    match code {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "; use smaller batches, or free the card (nvidia-smi lists who uses it)"
        }
        CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => {
            "; check nvidia-smi and CUDA_VISIBLE_DEVICES"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_UNKNOWN => {
            "; the driver's kernel module and libraries may differ in version: reload the module or restart the machine"
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => "; install driver 580 or newer",
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_ASSERT => {
            "; a kernel went wrong, maybe one started earlier: run under compute-sanitizer, or on --device emulated, and \
             report it"
        }
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR => {
            "; the card may be faulty: see nvidia-smi -q"
        }
        CUresult::CUDA_ERROR_INVALID_VALUE => {
            "; a grid, a block or an amount of shared memory may be out of range"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_call_the_code_and_what_to_do() {
        let failure: Result<(), _> = Err(DriverError(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
        let message = failure.call("cuModuleLoadData").expect_err("it is one").to_string();
        assert_eq!(
            message,
            "cuModuleLoadData failed: CUDA_ERROR_NO_BINARY_FOR_GPU; install driver 580 or newer"
        );
        let error = CudaError::NoImage { file: "stem", reason: "r".into(), cuda_version: (12, 4) };
        assert!(error.to_string().contains("driver 580") && error.to_string().contains("CUDA 12.4 or older"));
    }
}
