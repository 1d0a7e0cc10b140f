//! Search: spaces, multi-objective routines and predictors against independent values; whole small searches, with and
//! without adaptation, over two widths, killed, and compared with each other.

#[path = "../common/mod.rs"]
mod common;

mod adaptation;
mod compare;
mod crash;
mod moo;
mod predictor;
mod searches;
mod space;
mod widths;
