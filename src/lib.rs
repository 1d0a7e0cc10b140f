//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the top of this list to its end:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`moo`] | multi-objective optimisation on plain numbers: sorting, NSGA-II, NSGA-III, directions, hypervolume |
//! | [`random`] | random streams, keyed by seed and purpose |
#![deny(unsafe_code)]

pub mod moo;
pub mod random;
