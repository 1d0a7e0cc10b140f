//! Why a launch is not made.

use crate::exit::exits;

/// Why a launch is not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call whose kernel needs more shared memory than a block can have.
    #[error("{kernel} of this shape does not fit the {shared_bytes} bytes of shared memory of this device")]
    NoRoom {
        /// The kernel.
        kernel: &'static str,
        /// Bytes there are.
        shared_bytes: u32,
    },
    /// A call with more items than a kernel can count.
    #[error("a call of {items} items is too large for the GPU's kernels: use smaller batches")]
    TooLarge {
        /// Items of the call.
        items: u64,
    },
    /// The device refuses the launch; it keeps its own error.
    #[error("the device refuses a launch")]
    Refused,
}

exits! { Error: Failure [NoRoom, TooLarge, Refused] }
