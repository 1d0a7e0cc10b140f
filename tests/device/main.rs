//! Devices: operators, whole networks and training steps against independent values; many networks and batches at
//! once, recordings and images made on a device; and what is under them, the emulator and launches.
//!
//! `scripts/gpu-check.sh` packs this program for a machine with a card and runs three groups of it there: tests whose
//! names begin with `fused_`, with `golden_` or `operators_`, and with `engine_`. Those run on the device that
//! `NATV2_TEST_DEVICE` names (`cuda`, `cuda:N`, `emulated`, `cpu`). Without a name golden tests run on the CPU, and the
//! others on the CPU and the emulator. `scripts/with-stand-in-driver cargo test --test device golden_` runs them on `cuda`
//! where there is no card.
//!
//! Tests share their process. Three things belong to it: the instruction set, which is chosen in a process of its own
//! (`ops::operators`); the driver, so that nothing opens a card where there is no name, but a test in a process of its
//! own (`common::stand_in`); and the allocator, which counts for each thread apart (`launch_allocations`).

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod emulator;
mod golden;
mod launch_allocations;
mod ops;
mod population;
mod recording;
mod resident;

use natv2::device::{self, Device};
use std::sync::Arc;

/// The device that `NATV2_TEST_DEVICE` names.
fn named() -> Option<Arc<dyn Device>> {
    let name = std::env::var("NATV2_TEST_DEVICE").ok()?;
    Some(device::open(&name).unwrap_or_else(|error| panic!("error: {error}")))
}

/// The named device, else the CPU and the emulator.
fn devices() -> Vec<Arc<dyn Device>> {
    let unnamed = || [device::open("cpu").unwrap()].into_iter().chain(emulators().take(1)).collect();
    named().map_or_else(unnamed, |one| vec![one])
}

/// The named device, else the CPU and the emulator with the threads of a block in order and in reverse.
fn devices_in_both_orders() -> Vec<Arc<dyn Device>> {
    let unnamed = || [device::open("cpu").unwrap()].into_iter().chain(emulators()).collect();
    named().map_or_else(unnamed, |one| vec![one])
}

/// The emulator with the threads of a block in order, then in reverse; none where it was not built.
fn emulators() -> impl Iterator<Item = Arc<dyn Device>> {
    use natv2::device::emulated::ThreadOrder;
    use natv2::device::{Emulator, Gpu};
    let orders = [ThreadOrder::Forward, ThreadOrder::Reverse].into_iter().filter(|_| cfg!(natv2_emulator));
    orders.map(|order| Arc::new(Gpu::new(Emulator::new(order).unwrap())) as Arc<dyn Device>)
}
