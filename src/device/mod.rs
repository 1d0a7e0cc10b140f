//! Where operators run.
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod emulated;
pub mod launch;
