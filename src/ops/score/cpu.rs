//! A few hundred numbers an image; the reference is fast enough.

pub use super::reference::run;
