//! Machines that plans are estimated for.
//!
//! Cards are known by the peaks that their maker publishes; any device of this process by what it
//! measures of itself. A kernel that streams maps as well as can be reaches some 85 % of the bandwidth of the paper.

use super::Precision;
use crate::device::{
    CARD_ARENA_BYTES, CARD_IMAGES, Device, Error, H100_MULTIPROCESSORS, Memory, Multiprocessors, Peaks,
};
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
    /// Multiprocessors, among which blocks are shared out; `None` where there are none.
    pub multiprocessors: Option<u32>,
    /// f32 multiply-adds that each of them makes in a cycle.
    pub multiply_adds: Option<u32>,
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
    Multiprocessors { count, multiply_adds }: Multiprocessors,
) -> Machine {
    Machine {
        name: name.into(),
        bandwidth: gigabytes * 1e9,
        f32_flops: f32_tera * 1e12,
        tensor_flops: Some(tensor_tera * 1e12),
        launch_seconds: LAUNCH_SECONDS,
        cache_bytes: l2_mib << 20,
        shared_bytes: Some(shared_kib << 10),
        multiprocessors: Some(count),
        multiply_adds: Some(multiply_adds),
        lanes: 1,
    }
}

impl Machine {
    /// The cards of the table, from NVIDIA's data sheets: A100 SXM 80 GB, H100 SXM, H200.
    pub fn cards() -> Vec<Machine> {
        let ampere = Multiprocessors { count: 108, multiply_adds: 64 };
        vec![
            card("A100", 2039.0, (19.5, 312.0), 40, 163, ampere),
            card("H100", 3350.0, (67.0, 989.0), 50, 227, H100_MULTIPROCESSORS),
            card("H200", 4800.0, (67.0, 989.0), 50, 227, H100_MULTIPROCESSORS),
        ]
    }

    /// A device of this process, with the peaks that it measures now; takes about a second.
    ///
    /// # Errors
    /// The device fails.
    pub fn measured(device: &dyn Device) -> Result<Machine, Error> {
        Machine::with_peaks(device, device.peaks()?)
    }

    /// The same with peaks that were measured before.
    ///
    /// # Errors
    /// The device fails.
    pub fn with_peaks(device: &dyn Device, peaks: Peaks) -> Result<Machine, Error> {
        let multiprocessors = device.multiprocessors();
        let shared_bytes = u64::from(device.block_bytes());
        Ok(Machine {
            name: device.describe(),
            bandwidth: peaks.copy,
            f32_flops: peaks.arithmetic,
            tensor_flops: peaks.products,
            launch_seconds: launch_seconds(device)?,
            cache_bytes: device.cache_bytes() as u64,
            shared_bytes: (shared_bytes > 0).then_some(shared_bytes),
            multiprocessors: multiprocessors.map(|all| all.count),
            multiply_adds: multiprocessors.map(|all| all.multiply_adds),
            lanes: device.lanes(),
        })
    }

    /// Bytes of shared memory that a block can have, and the multiprocessors that blocks run on; `None` where there
    /// are none.
    pub fn blocks(&self) -> Option<(u32, Multiprocessors)> {
        let multiprocessors =
            Multiprocessors { count: self.multiprocessors?, multiply_adds: self.multiply_adds? };
        Some((u32::try_from(self.shared_bytes?).unwrap_or(u32::MAX), multiprocessors))
    }

    /// Cycles a second at which its multiprocessors reach the f32 rate; `None` where there are none.
    pub fn clock(&self) -> Option<f64> {
        let (count, multiply_adds) = (f64::from(self.multiprocessors?), f64::from(self.multiply_adds?));
        Some(self.f32_flops / (2.0 * multiply_adds * count))
    }

    /// Whether plans in a precision run there as they are meant to.
    pub fn runs(&self, precision: Precision) -> bool {
        precision == Precision::F32 || self.tensor_flops.is_some()
    }

    /// The rate of products of 16-bit numbers.
    pub(super) fn product_flops(&self) -> f64 {
        self.tensor_flops.unwrap_or(self.f32_flops)
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
