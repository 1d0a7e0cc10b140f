//! Errors of the CUDA device.

use super::images::{architectures, release};
use crate::launch::Geometry;
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
    /// The machine gives no memory that copies go through.
    #[error(
        "the driver cannot pin {bytes} bytes of the machine's memory for copies; free memory of the machine, or raise \
         the limit of locked memory (ulimit -l)"
    )]
    OutOfHostMemory {
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
    /// A driver that knows less than is asked of it.
    #[error(
        "the NVIDIA driver supports CUDA {}.{} only, which is too old; install driver 580 or newer, or use --device cpu",
        cuda_version.0, cuda_version.1
    )]
    OldDriver {
        /// What the driver supports.
        cuda_version: (u32, u32),
    },
    /// No machine code for the card, and nothing to make it with.
    #[error(
        "the kernels of {file}.cu cannot be loaded: {reason}. {}, or install NVRTC of CUDA {}.{} or older (libnvrtc.so, \
         on LD_LIBRARY_PATH or under CUDA_HOME), which then compiles the kernels when the program starts",
        remedy(architectures(), release(), *compute_capability, *cuda_version), cuda_version.0, cuda_version.1
    )]
    NoImage {
        /// The kernel file, without its extension.
        file: &'static str,
        /// What went wrong on the way.
        reason: String,
        /// What the driver supports.
        cuda_version: (u32, u32),
        /// The card's.
        compute_capability: (u32, u32),
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

/// Why code for these architectures, made by that release of CUDA, does not run on a card, and what to do.
fn remedy(
    architectures: &[&str],
    release: Option<(u32, u32)>,
    (major, minor): (u32, u32),
    driver: (u32, u32),
) -> String {
    if architectures.is_empty() {
        return "This program was built without nvcc: build it where nvcc is found".to_owned();
    }
    let covered = architectures.iter().any(|name| runs_on(name, (major, minor)));
    match release {
        _ if !covered => format!(
            "The card has compute capability {major}.{minor}, and this program has code for {} only: build it with \
             NATV2_CUDA_ARCHS=sm_{major}{minor}",
            architectures.join(", ")
        ),
        Some(made) if made > driver => format!(
            "The driver supports CUDA {}.{}, and the code in this program is of CUDA {}.{}: install {}",
            driver.0,
            driver.1,
            made.0,
            made.1,
            driver_for(made)
        ),
        _ => "This program's code for the card may be damaged: build it again".to_owned(),
    }
}

/// The driver that came with a release of CUDA.
fn driver_for((major, minor): (u32, u32)) -> String {
    match (major, minor) {
        (13, 0) => "driver 580 or newer".to_owned(),
        (12, 0) => "driver 525 or newer".to_owned(),
        _ => format!("a driver that supports CUDA {major}.{minor}"),
    }
}

/// Whether code for an architecture, as `sm_90` or `compute_80`, runs on a card.
fn runs_on(architecture: &str, (major, minor): (u32, u32)) -> bool {
    let Some((kind, number)) = architecture.split_once('_') else { return false };
    let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
    let (Ok(made), card) = (digits.parse::<u32>(), 10 * major + minor) else { return false };
    match kind {
        // Machine code runs on later cards of its own generation, and with an `a` on its own cards alone.
        "sm" if number.ends_with('a') => made == card,
        "sm" => made / 10 == major && made <= card,
        _ if number.ends_with('a') => made == card,
        _ => made <= card,
    }
}

impl CudaError {
    /// Whether the card's memory was full, whatever it was wanted for.
    pub(super) fn is_out_of_memory(&self) -> bool {
        match self {
            CudaError::OutOfMemory { .. } => true,
            CudaError::Driver { code, .. } => code == "CUDA_ERROR_OUT_OF_MEMORY",
            _ => false,
        }
    }

    /// Whether the driver, or the card under it, knows no such thing as was asked for.
    fn is_unsupported(&self) -> bool {
        matches!(self, CudaError::Driver { code, .. } if code == "CUDA_ERROR_NOT_SUPPORTED")
    }

    /// Whether it is about a graph alone, so that its launches may well go one by one: a graph has memory of its own,
    /// and cards that are shared may have none.
    pub fn is_about_the_graph(&self) -> bool {
        self.is_out_of_memory() || self.is_unsupported()
    }

    /// The error of a launch, with the geometry that the driver may have disliked.
    pub(super) fn launch(kernel: &str, geometry: Geometry, failure: DriverError) -> CudaError {
        CudaError::of_launch("cuLaunchKernel", kernel, geometry, failure)
    }

    /// The error of a launch that was to be a part of a graph.
    pub(super) fn node(kernel: &str, geometry: Geometry, failure: DriverError) -> CudaError {
        CudaError::of_launch("cuGraphAddKernelNode", kernel, geometry, failure)
    }

    fn of_launch(call: &str, kernel: &str, geometry: Geometry, failure: DriverError) -> CudaError {
        let Geometry { grid, block, shared_bytes } = geometry;
        CudaError::Driver {
            call: format!(
                "{call} of {kernel} (grid {grid:?}, block {block:?}, {shared_bytes} bytes of shared memory)"
            ),
            code: name_of(failure),
            advice: advice(failure.0),
        }
    }
}

/// Turns a driver result into one that names the call.
pub(super) trait Checked<T> {
    fn call(self, call: &'static str) -> Result<T, CudaError>;

    /// As `call`, of a call that takes memory of the card: where that is full, the error says so. `bytes` is what
    /// was asked for, as far as that is known, and `state` what is free and what there is.
    fn call_for_memory(
        self,
        call: &'static str,
        bytes: usize,
        state: impl FnOnce() -> (usize, usize),
    ) -> Result<T, CudaError>;
}

impl<T> Checked<T> for Result<T, DriverError> {
    fn call_for_memory(
        self,
        call: &'static str,
        bytes: usize,
        state: impl FnOnce() -> (usize, usize),
    ) -> Result<T, CudaError> {
        match self {
            Err(failure) if failure.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = state();
                Err(CudaError::OutOfMemory { bytes, free, total })
            }
            other => other.call(call),
        }
    }

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
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "; the libcuda.so that was loaded is a toolkit's stub, which stands in for the driver when programs are \
             linked: take its folder (lib64/stubs) off LD_LIBRARY_PATH, or install the driver"
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
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "; the card is lost, or another process has it for itself: see nvidia-smi, and start again when it is there"
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
        let full = || Err::<(), _>(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        let error = full().call_for_memory("cuMemAlloc", 7, || (3, 5)).expect_err("it is one");
        assert_eq!(error, CudaError::OutOfMemory { bytes: 7, free: 3, total: 5 });
        let other: Result<(), _> = Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
        let error = other.call_for_memory("cuMemAlloc", 7, || (3, 5)).expect_err("it is one");
        assert!(matches!(error, CudaError::Driver { .. }), "{error}");
        let stub: Result<(), _> = Err(DriverError(CUresult::CUDA_ERROR_STUB_LIBRARY));
        let message = stub.call("cuInit").expect_err("it is one").to_string();
        assert!(message.contains("toolkit's stub") && message.contains("LD_LIBRARY_PATH"), "{message}");
    }

    /// Every error that a machine can be the cause of is one line that says what to do.
    #[test]
    fn no_driver_an_old_one_and_a_card_without_code_are_one_line_each() {
        let reason = "cuModuleLoadData: CUDA_ERROR_NO_BINARY_FOR_GPU".to_owned();
        let no_image =
            CudaError::NoImage { file: "stem", reason, cuda_version: (12, 4), compute_capability: (7, 5) };
        assert!(no_image.to_string().contains("install NVRTC of CUDA 12.4 or older"), "{no_image}");
        let old = CudaError::OldDriver { cuda_version: (10, 2) };
        assert!(old.to_string().contains("CUDA 10.2") && old.to_string().contains("driver 580"), "{old}");
        let errors = [
            (CudaError::NoDriver, "install it"),
            (CudaError::NoCard, "nvidia-smi"),
            (CudaError::NoSuchCard { ordinal: 3, count: 1 }, "counted from cuda:0"),
            (CudaError::OutOfMemory { bytes: 1, free: 0, total: 2 }, "smaller batches"),
            (old, "--device cpu"),
            (no_image, "CUDA_HOME"),
        ];
        for (error, what_to_do) in errors {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.contains(what_to_do), "{message}");
        }
    }

    #[test]
    fn what_is_said_of_missing_code_is_why_it_is_missing() {
        let made = Some((13, 0));
        let usual = ["sm_80", "sm_90", "compute_80"];
        let old_card = remedy(&usual, made, (7, 5), (13, 0));
        assert!(old_card.contains("7.5") && old_card.contains("NATV2_CUDA_ARCHS=sm_75"), "{old_card}");
        let other_card = remedy(&["sm_90"], made, (12, 0), (13, 0));
        assert!(other_card.contains("code for sm_90 only") && other_card.contains("sm_120"), "{other_card}");
        let old_driver = remedy(&usual, made, (9, 0), (12, 4));
        assert!(old_driver.contains("CUDA 12.4") && old_driver.contains("driver 580"), "{old_driver}");
        assert!(remedy(&[], None, (9, 0), (12, 4)).contains("without nvcc"));
        assert!(remedy(&usual, made, (9, 0), (13, 0)).contains("damaged"));
    }

    #[test]
    fn code_runs_on_its_generation_and_ptx_on_what_is_newer() {
        let on = |card| ["sm_80", "sm_90", "sm_90a", "compute_80"].map(|name| runs_on(name, card));
        assert_eq!(on((8, 0)), [true, false, false, true]);
        assert_eq!(on((8, 9)), [true, false, false, true]);
        assert_eq!(on((9, 0)), [false, true, true, true]);
        assert_eq!(on((12, 0)), [false, false, false, true]);
        assert_eq!(on((7, 5)), [false; 4]);
        assert!(runs_on("sm_120", (12, 1)) && !runs_on("compute_120", (10, 0)) && !runs_on("sm", (9, 0)));
    }
}
