//! This machine's figures, as tables and as JSON.
//!
//! - [`kernels`]: every operator's kernel over the shapes of real sub-networks;
//! - [`plan`]: what a plan costs by the performance model, on cards and on this machine;
//! - [`profile`]: where the time of networks goes, by operator;
//! - [`evaluate`]: sub-networks a second, one by one and as populations;
//! - [`ways`]: the same with one stream or two, with graphs and without, and what they cost the host;
//! - [`search`]: the parts of a search's iteration;
//! - [`train`]: optimiser steps;
//! - [`rounds`]: how times are taken;
//! - [`watch`]: devices that watch another one;
//! - [`compare`]: criterion's estimates against a baseline.

pub mod compare;
pub mod evaluate;
pub mod kernels;
pub mod plan;
pub mod profile;
pub mod rounds;
pub mod search;
pub mod train;
pub mod watch;
pub mod ways;
