//! The program: every subcommand, every kind of bad input, and what its tables and benchmarks print.

#[path = "../common/mod.rs"]
mod common;

mod accuracies;
mod bench;
mod data;
mod program;
mod subcommands;
mod supernet;
