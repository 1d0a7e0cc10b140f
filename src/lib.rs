//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the end of this list to its top:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`random`] | random streams, keyed by seed and purpose |
//! | [`space`] | what can be searched: families, architectures, genotypes, sampling, exact costs |
#![deny(unsafe_code)]

pub mod device;
pub mod engine;
pub mod ops;
pub mod random;
pub mod space;
pub mod supernet;
