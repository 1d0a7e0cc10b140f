//! Runs once when weights change; the reference is fast enough.

pub use super::reference::run;
