//! Runs and what comes out of them: run directories under kills, whole runs, reports, exported networks.

#[path = "../common/mod.rs"]
mod common;

mod crash;
mod export;
mod onnx;
mod report;
mod whole;
