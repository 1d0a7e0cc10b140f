//! The driver that stands in for NVIDIA's (`driver/`), and natv2 on it.
//!
//! `images` is about what it reads of machine code, `faults` about what it finds: each kind is planted. The others run
//! natv2 on it: `doctor`, `card` for what a card computes, `runs` for what whole commands leave, `failures` for what
//! becomes of calls that fail, `populations` for other interleavings of the streams and for graphs that cannot be had;
//! `jobs` is what they run.
//!
//! Tests that open a card start a process of their own (`common::stand_in`).
#![cfg(all(feature = "cuda", target_os = "linux"))]

#[path = "../common/mod.rs"]
mod common;
#[path = "driver/image/mod.rs"]
mod image;

mod card;
mod doctor;
mod failures;
mod faults;
mod images;
mod jobs;
mod populations;
mod runs;
