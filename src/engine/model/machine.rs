//! Machines that plans are estimated for.
//!
//! Cards are known by the peaks that their maker publishes; any device of this process by what it
//! measures of itself. A plan that is good on paper reaches some 85 % of the bandwidth of the paper.

use super::Precision;
use crate::device::{CARD_ARENA_BYTES, CARD_IMAGES, Device, Error, Memory};
use crate::ops::update::{Fill, FillParams};
use crate::ops::{Call, Region, Slot, Threads};
use serde::Serialize;

/// What the model knows of a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Bytes a second between memory and processor, read and written together.
    pub bandwidth: f64,
    /// Operations a second in f32; a multiply-add counts as two.
    pub f32_flops: f64,
    /// Operations a second of 16-bit matrix products with f32 sums, without sparsity; `None` where
    /// there is no such unit, or nothing runs on it here.
    pub tensor_flops: Option<f64>,
    /// Seconds from one launch of a kernel to the next where neither has anything to do.
    pub launch_seconds: f64,
    /// Bytes of the last cache that one lane has to itself: maps that stay in it cost no traffic.
    pub cache_bytes: u64,
    /// Bytes of shared memory that one block can have; `None` where there are no blocks.
    pub shared_bytes: Option<u64>,
    /// Lists of calls that run side by side.
    pub lanes: usize,
}

/// Seconds between two empty kernels of one stream on recent cards: 2 to 3 microseconds. A captured
/// graph needs about half of that.
const LAUNCH_SECONDS: f64 = 2.5e-6;

/// A card with one lane.
fn card(
    name: &str,
    gigabytes: f64,
    (f32_tera, tensor_tera): (f64, f64),
    l2_mib: u64,
    shared_kib: u64,
) -> Machine {
    Machine {
        name: name.into(),
        bandwidth: gigabytes * 1e9,
        f32_flops: f32_tera * 1e12,
        tensor_flops: Some(tensor_tera * 1e12),
        launch_seconds: LAUNCH_SECONDS,
        cache_bytes: l2_mib << 20,
        shared_bytes: Some(shared_kib << 10),
        lanes: 1,
    }
}

impl Machine {
    /// The cards of the table, from NVIDIA's data sheets: A100 SXM 80 GB, H100 SXM, H200.
    pub fn cards() -> Vec<Machine> {
        vec![
            card("A100", 2039.0, (19.5, 312.0), 40, 163),
            card("H100", 3350.0, (67.0, 989.0), 50, 227),
            card("H200", 4800.0, (67.0, 989.0), 50, 227),
        ]
    }

    /// A device of this process, with the peaks that it measures now; takes about a second.
    ///
    /// # Errors
    /// The device fails.
    pub fn measured(device: &dyn Device) -> Result<Machine, Error> {
        let peaks = device.peaks()?;
        Ok(Machine {
            name: device.describe(),
            bandwidth: peaks.copy,
            f32_flops: peaks.arithmetic,
            tensor_flops: None,
            launch_seconds: launch_seconds(device)?,
            cache_bytes: device.cache_bytes() as u64,
            shared_bytes: None,
            lanes: device.lanes(),
        })
    }

    /// The least time of `bytes` and `flops` on this machine: the longer of the two.
    pub fn roofline(&self, bytes: u64, flops: u64, peak: f64) -> f64 {
        (bytes as f64 / self.bandwidth).max(flops as f64 / peak)
    }

    /// The peak of matrix products, and of everything else; `None` where the precision does not run.
    pub(super) fn peaks(&self, precision: Precision) -> Option<(f64, f64)> {
        match precision {
            Precision::F32 => Some((self.f32_flops, self.f32_flops)),
            Precision::F16 | Precision::Bf16 => Some((self.tensor_flops?, self.f32_flops)),
        }
    }
}

/// Images that a card takes in one pass, where one needs `arena_of_one` elements.
pub fn card_chunk(arena_of_one: usize) -> usize {
    (CARD_ARENA_BYTES / size_of::<f32>() / arena_of_one.max(1)).clamp(1, CARD_IMAGES)
}

/// Recalibration's batches that a card takes in one pass, where one needs `arena_of_one` elements.
pub fn card_batches(arena_of_one: usize) -> usize {
    (CARD_ARENA_BYTES / size_of::<f32>() / arena_of_one.max(1)).max(1)
}

/// Seconds of a call that fills sixteen elements: the least of a few times many.
fn launch_seconds(device: &dyn Device) -> Result<f64, Error> {
    const TIMES: usize = 256;
    let mut arena = device.allocate(16)?;
    let none = device.allocate(0)?;
    let fill = Fill {
        params: FillParams { len: 16, value: 0.0 },
        y: Slot { region: Region::Arena, offset: 0, len: 16 },
    };
    let calls = [Call::from(fill)];
    let mut memory = Memory { weights: &none, network: &none, arena: &mut arena };
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let time = device.time_many(&calls, memory.again(), Threads::One, TIMES)?;
        least = least.min(time.as_secs_f64());
    }
    Ok(least / TIMES as f64)
}
