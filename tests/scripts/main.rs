//! What surrounds the library: the build script and the scripts of the proof on a card. Nothing here links it.

#[path = "../common/mod.rs"]
mod common;

mod build_script;
mod gpu_check;
