//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the top of this list to its end:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`device`] | where operators run: launches on a GPU and on the emulated device |
//! | [`random`] | random streams, keyed by seed and purpose |
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod device;
pub mod random;
