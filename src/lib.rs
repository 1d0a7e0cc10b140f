//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the top of this list to its end:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`config`] | settings: profiles, configuration files, overrides |
//! | [`run`] | the run directory: journal, checkpoints, lock, signals, progress |
//! | [`random`] | random streams, keyed by seed and purpose |
#![deny(unsafe_code)]

pub mod config;
pub mod random;
pub mod run;
