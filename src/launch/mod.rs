//! The vocabulary of kernel launches, which the operators speak and the devices listen to.
//!
//! An operator names its operands as [`Slot`]s, places in a device's buffers. Its launch code asks a [`Launcher`] for
//! their addresses, works out a [`Geometry`], and hands over the struct that its kernel takes. What becomes of a launch,
//! the device decides that made the launcher: it starts the kernel, records the launch, or counts it.

// Arguments are handed to drivers as pointers.
#[allow(unsafe_code)]
mod arguments;
mod error;
mod launcher;
mod layout;
pub mod panels;
mod slot;

pub use arguments::{Arguments, Geometry, MOST_ARGUMENTS, RecordedLaunch};
pub use error::Error;
pub(crate) use launcher::Grouped;
pub use launcher::{Launcher, Multiprocessors};
#[cfg(test)]
pub(crate) use layout::{Layout, Twin};
pub(crate) use layout::{launched, params};
pub use panels::PANEL;
pub use slot::{Region, Slot};
