//! How long a call takes on a machine, and what for.
//!
//! A whole MBConv, its first half and the passes of recalibration take the cycles of the estimate that their blocks
//! are picked by: products, multiply-adds, traffic, waits that no other block fills, and a last wave that does not
//! fill the card. Any other call takes the longer of its traffic and its arithmetic, which is shared out in blocks:
//! the multiprocessor that has the most of them is the last to end.

use super::{Item, Machine};
use crate::ops::mbconv::blocks::{Estimate, Job, resident};
use crate::ops::sums::added;
use crate::words::words;
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds, by what they are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct SecondsBy {
    /// Bytes between memory, caches and processor.
    pub traffic: f64,
    /// From one kernel to the next.
    pub launches: f64,
    /// Products of 16-bit numbers on tensor cores.
    pub tensor: f64,
    /// All other arithmetic, f32 multiply-adds above all.
    pub fma: f64,
    /// Multiprocessors that wait, or have less to do than others.
    pub occupancy: f64,
}

words!(
    /// What most of a time is taken for: the fields of [`SecondsBy`].
    #[allow(missing_docs)]
    Bound { Traffic = "traffic", Launches = "launches", Tensor = "tensor", Fma = "fma", Occupancy = "occupancy" }
);

impl SecondsBy {
    /// All of them.
    pub fn seconds(&self) -> f64 {
        self.traffic + self.launches + self.tensor + self.fma + self.occupancy
    }

    /// The largest of them; of equals the first.
    pub fn bound(&self) -> Bound {
        let all = [
            (Bound::Traffic, self.traffic),
            (Bound::Launches, self.launches),
            (Bound::Tensor, self.tensor),
            (Bound::Fma, self.fma),
            (Bound::Occupancy, self.occupancy),
        ];
        all.into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(Bound::Traffic, |(bound, _)| bound)
    }

    /// So many times.
    pub fn times(self, count: f64) -> SecondsBy {
        SecondsBy {
            traffic: count * self.traffic,
            launches: count * self.launches,
            tensor: count * self.tensor,
            fma: count * self.fma,
            occupancy: count * self.occupancy,
        }
    }
}

added!(SecondsBy { traffic, launches, tensor, fma, occupancy });

/// Seconds of a call whose traffic is `bytes`, on a machine.
pub(super) fn parts(item: &Item, bytes: u64, machine: &Machine) -> SecondsBy {
    let traffic = bytes as f64 / machine.bandwidth;
    let tensor = item.tensor_flops as f64 / machine.product_flops();
    let fma = (item.work.flops - item.tensor_flops) as f64 / machine.f32_flops;
    let launches = item.launches as f64 * machine.launch_seconds;
    match fused(&item.jobs, machine) {
        // No unit is quicker than its peak.
        Some(estimate) if traffic.max(tensor).max(fma) > estimate.seconds() => {
            let longest = SecondsBy { traffic, tensor, fma, ..SecondsBy::default() }.bound();
            let of = |bound: Bound, seconds: f64| if longest == bound { seconds } else { 0.0 };
            SecondsBy {
                traffic: of(Bound::Traffic, traffic),
                tensor: of(Bound::Tensor, tensor),
                fma: of(Bound::Fma, fma),
                launches,
                occupancy: 0.0,
            }
        }
        Some(estimate) => SecondsBy { launches, ..estimate },
        None => SecondsBy { launches, ..apart(item.blocks, (traffic, tensor, fma), machine.multiprocessors) },
    }
}

/// Seconds of calls by the estimate of their blocks, without launches; `None` where there are none, or the machine has
/// no blocks that they fit.
fn fused(jobs: &[Job], machine: &Machine) -> Option<SecondsBy> {
    let ((shared_bytes, multiprocessors), clock) = (machine.blocks()?, machine.clock()?);
    let mut kernels: BTreeMap<_, Vec<Estimate>> = BTreeMap::new();
    for job in jobs {
        let estimate = job.estimate(shared_bytes, multiprocessors)?;
        kernels.entry(job.kernel()).or_default().push(estimate);
    }
    let mut sum: Option<SecondsBy> = None;
    for ((.., together), estimates) in &kernels {
        for launch in estimates.chunks(*together) {
            *sum.get_or_insert_default() += of_launch(launch, multiprocessors.count).times(1.0 / clock);
        }
    }
    sum
}

/// Cycles of calls that are launched together. Their blocks come one after the other, as many at a time as of the
/// largest of them are resident.
fn of_launch(launch: &[Estimate], multiprocessors: u32) -> SecondsBy {
    let blocks: u32 = launch.iter().map(|estimate| estimate.blocks).sum();
    let most = launch.iter().map(|estimate| estimate.resident).min().unwrap_or(1);
    let resident = resident(blocks, most, multiprocessors);
    let blocks = f64::from(blocks);
    let all = |cycles: &dyn Fn(&Estimate) -> u64| -> f64 {
        launch.iter().map(|estimate| f64::from(estimate.blocks) * cycles(estimate) as f64).sum()
    };
    let places = f64::from(multiprocessors * resident);
    let cycles = (blocks / places).ceil() * (all(&|estimate| estimate.block.wave(resident)) / blocks);
    let each = |cycles: &dyn Fn(&Estimate) -> u64| all(cycles) / f64::from(multiprocessors);
    let (tensor, fma) = (each(&|e| e.block.tensor), each(&|e| e.block.multiply_adds));
    let traffic = each(&|e| e.block.traffic);
    SecondsBy { tensor, fma, traffic, launches: 0.0, occupancy: (cycles - tensor - fma - traffic).max(0.0) }
}

/// Seconds of a call of so many blocks that has these when nothing is in its way, without launches.
fn apart(blocks: u64, (traffic, tensor, fma): (f64, f64, f64), multiprocessors: Option<u32>) -> SecondsBy {
    let arithmetic = tensor + fma;
    let alone = traffic.max(arithmetic);
    // The multiprocessor with the most blocks has so much more than its share.
    let uneven = match multiprocessors.map(f64::from) {
        Some(count) if blocks > 0 => (blocks as f64 / count).ceil() * count / blocks as f64,
        _ => 1.0,
    };
    let ideal = if traffic >= arithmetic {
        SecondsBy { traffic, ..SecondsBy::default() }
    } else {
        SecondsBy { tensor, fma, ..SecondsBy::default() }
    };
    SecondsBy { occupancy: traffic.max(uneven * arithmetic) - alone, ..ideal }
}
