//! Training: how a super-network gets its weights.
//!
//! - [`phase`]: the phases of a training as data, and the built-in schedules;
//! - [`rate`]: the learning rate of every step;
//! - [`choose`]: the sub-networks of a step, and those of a validation;
//! - [`checks`]: losses that say a training has diverged, and what is done then.

pub mod checks;
pub mod choose;
pub mod phase;
pub mod rate;
