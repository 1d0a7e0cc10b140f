//! Where operators run.
pub mod emulated;
pub mod launch;
