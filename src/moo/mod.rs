//! Multi-objective optimisation on plain numbers. Knows nothing of networks; every objective is
//! minimised.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`Points`] | points in objective space; makes NaN the worst value there is |
//! | [`sorting`] | fronts of mutually non-dominated points |
//! | [`directions`] | reference directions: Das-Dennis lattice, Riesz-energy points |
//! | [`normalisation`], [`nsga3`] | NSGA-III survival |
//! | [`nsga2`] | NSGA-II survival and tournament |
//! | [`survival`] | one survival step by whichever algorithm, for archives |
//! | [`variation`], [`evolve`] | the evolutionary search over integer genomes |
//! | [`hypervolume`](mod@hypervolume) | the volume that a front dominates |
//! | [`tradeoff`](mod@tradeoff) | high trade-off points of a front |
//! | [`subset`] | which candidates even out the gaps of a front |
//!
//! Every draw comes from the stream that the caller hands in, so equal streams give equal results.

pub mod directions;
mod error;
pub mod evolve;
pub mod hypervolume;
pub mod normalisation;
pub mod nsga2;
pub mod nsga3;
mod points;
mod riesz;
pub mod sorting;
pub mod subset;
pub mod survival;
pub mod tradeoff;
pub mod variation;

pub use error::Error;
pub use points::Points;
pub use survival::Algorithm;
