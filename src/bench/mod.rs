//! This machine's figures, as tables and as JSON.
//!
//! - [`kernels`]: every operator's kernel over the shapes of real sub-networks.

pub mod kernels;
