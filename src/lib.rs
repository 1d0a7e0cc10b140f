//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Dependencies point one way, from the top of this list to its end:
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`predictor`] | accuracy predictors on plain numbers: gradient-boosted trees, bagged CART |
//! | [`random`] | random streams, keyed by seed and purpose |
#![deny(unsafe_code)]

pub mod predictor;
pub mod random;
