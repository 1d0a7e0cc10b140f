//! The definitions of the backward operators against finite differences of the forward ones, and of
//! losses and optimisers against PyTorch, all in f64.
//!
//! The fast paths and the kernels are held against these definitions by `tests/ops.rs`.

mod others;
