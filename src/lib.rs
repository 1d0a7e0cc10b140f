//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the top of this list to its end:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`data`] | data sets, splits, and the way from pixels to a network's input |
//! | [`random`] | random streams, keyed by seed and purpose |
#![deny(unsafe_code)]

pub mod data;
pub mod random;
