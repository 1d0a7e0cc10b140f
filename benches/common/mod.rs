//! What the benchmarks share: the device under test, its name in every id, and time as the device
//! itself measures it.
#![allow(dead_code)]

pub mod lowered;
pub mod paper;
pub mod synthetic;

use criterion::BenchmarkId;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use natv2::device::{self, Device, Stamp};
use std::sync::Arc;
use std::time::Duration;

/// The device of `NATV2_BENCH_DEVICE` (cpu, cuda, cuda:N, emulated), the CPU by default.
pub fn device() -> Arc<dyn Device> {
    let name = std::env::var("NATV2_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    device::open(&name).unwrap_or_else(|error| panic!("NATV2_BENCH_DEVICE={name}: {error}"))
}

/// The name of plain host work on `threads` threads.
pub fn host(threads: usize) -> String {
    format!("cpu ({threads} thread{})", if threads == 1 { "" } else { "s" })
}

/// `group/device/part/case`: criterion filters by any piece of it.
pub fn id(device: &str, part: &str, case: impl std::fmt::Display) -> BenchmarkId {
    BenchmarkId::new(device, format!("{part}/{case}"))
}

/// Time on the device: between two events on a card, on the clock elsewhere. Either way it begins
/// when earlier work is done and ends when the measured work is.
pub struct DeviceTime {
    device: Arc<dyn Device>,
    format: WallTime,
}

impl DeviceTime {
    /// Time on that device.
    pub fn new(device: Arc<dyn Device>) -> DeviceTime {
        DeviceTime { device, format: WallTime }
    }
}

impl Measurement for DeviceTime {
    type Intermediate = Stamp;
    type Value = Duration;

    fn start(&self) -> Stamp {
        self.device.stamp().expect("a point in time on the device")
    }

    fn end(&self, from: Stamp) -> Duration {
        let to = self.start();
        // Criterion cannot use a time of nothing.
        self.device.elapsed(&from, &to).expect("the device's own time").max(Duration::from_nanos(1))
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.format.formatter()
    }
}
