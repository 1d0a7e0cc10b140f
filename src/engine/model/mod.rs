//! What networks cost before they run: the planner's own estimate, for any machine.
//!
//! A plan is a list of calls, and every call knows its bytes and operations; the launch code of its
//! operator knows how many kernels it launches. A [`Pass`] sums up a list that is run a number of
//! times. On a [`Machine`] each call takes the longer of its traffic at full bandwidth and its
//! arithmetic at full rate, and every launch its own time; nothing overlaps:
//!
//! ```text
//! seconds = sum over calls of launches * launch_seconds + max(bytes / bandwidth, operations / rate)
//! ```
//!
//! Where all maps of a pass stay in a cache, only weights and images are traffic, and the cache is
//! taken to be as fast as it must be. No plan beats its [`Floor`]. An estimate is what the plan costs
//! if every kernel is as good as it can be: a plan is judged by its ratio to the floor, a kernel by
//! the ratio of its measured time to the estimate.
//!
//! - [`evaluation`](mod@evaluation): the passes of a population, recalibration included;
//! - [`floor`]: the least traffic and arithmetic;
//! - [`machine`]: cards by their data sheets, this machine by measurement.

pub mod evaluation;
pub mod floor;
pub mod machine;

pub use super::Precision;
pub use evaluation::{Planned, Taking, Workload, evaluation};
pub use floor::{Floor, Until};
pub use machine::Machine;

use super::plan::Program;
use crate::device::launches;
use crate::ops::{Call, Region, Slot, Work};
use serde::Serialize;
use std::collections::BTreeMap;

/// A call as the model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The operator.
    pub operator: &'static str,
    /// Kernels that it launches on a card.
    pub launches: u64,
    /// Bytes and operations.
    pub work: Work,
    /// Bytes of it that no cache of the arena keeps: weights, folded batch norms, images.
    pub outside: u64,
    /// Whether it is a matrix product, as tensor cores compute.
    pub product: bool,
}

/// A list of calls that is run a number of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The calls, in order.
    pub items: Vec<Item>,
    /// Elements of the arena.
    pub arena_len: usize,
    /// How often it is run.
    pub runs: u64,
}

/// What the calls of one operator come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Kernels launched on a card.
    pub launches: u64,
    /// Bytes, each operand of a call once.
    pub bytes: u64,
    /// Operations; a multiply-add counts as two.
    pub flops: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.calls += other.calls;
        self.launches += other.launches;
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}

impl Pass {
    /// Sums up `calls`, which get their images at `input`.
    pub fn new(calls: &[Call], arena_len: usize, input: Option<Slot>, runs: u64) -> Pass {
        let item = |call: &Call| {
            let work = call.work();
            let outside = |slot: &Slot| slot.region != Region::Arena || Some(*slot) == input;
            let elements: usize = call.reads().iter().filter(|slot| outside(slot)).map(|slot| slot.len).sum();
            Item {
                operator: call.name(),
                launches: u64::from(launches(call)),
                work,
                outside: (4 * elements as u64).min(work.bytes),
                product: is_product(call),
            }
        };
        Pass { items: calls.iter().map(item).collect(), arena_len, runs }
    }

    /// A lowered program, run `runs` times.
    pub fn program(program: &Program, runs: u64) -> Pass {
        Pass::new(&program.calls, program.arena_len, Some(program.input), runs)
    }

    /// Seconds of each operator on a machine, in all runs, of a plan in that precision; `None` where it
    /// does not run.
    fn seconds(&self, machine: &Machine, precision: Precision) -> Option<Vec<(&'static str, f64)>> {
        let (products, others) = machine.peaks(precision)?;
        let cached = 4 * self.arena_len as u64 <= machine.cache_bytes;
        let item = |item: &Item| {
            let bytes = if cached { item.outside } else { item.work.bytes };
            let peak = if item.product { products } else { others };
            let once = item.launches as f64 * machine.launch_seconds
                + machine.roofline(bytes, item.work.flops, peak);
            (item.operator, self.runs as f64 * once)
        };
        Some(self.items.iter().map(item).collect())
    }
}

/// Whether a call is a dense product of matrices.
fn is_product(call: &Call) -> bool {
    matches!(
        call,
        Call::Stem(_)
            | Call::Mbconv(_)
            | Call::MbconvGroup(_)
            | Call::ExpandDepthwise(_)
            | Call::MbconvPass(_)
            | Call::MbconvPassGroup(_)
            | Call::Pointwise(_)
            | Call::PointwiseHalf(_)
            | Call::Branches(_)
            | Call::PointwiseWeights(_)
            | Call::PointwiseHalfWeights(_)
            | Call::StemWeights(_)
    )
}

/// What passes come to, by operator.
pub fn tally(passes: &[Pass]) -> BTreeMap<&'static str, Tally> {
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for (pass, item) in passes.iter().flat_map(|pass| pass.items.iter().map(move |item| (pass, item))) {
        *tallies.entry(item.operator).or_default() += Tally {
            calls: pass.runs,
            launches: pass.runs * item.launches,
            bytes: pass.runs * item.work.bytes,
            flops: pass.runs * item.work.flops,
        };
    }
    tallies
}

/// What passes come to as a whole.
pub fn total(passes: &[Pass]) -> Tally {
    let mut sum = Tally::default();
    tally(passes).into_values().for_each(|tally| sum += tally);
    sum
}

/// Seconds of passes that were planned in a precision on a machine, by operator; `None` where that does
/// not run there.
pub fn seconds(
    passes: &[Pass],
    machine: &Machine,
    precision: Precision,
) -> Option<BTreeMap<&'static str, f64>> {
    let mut sums = BTreeMap::new();
    for pass in passes {
        for (operator, seconds) in pass.seconds(machine, precision)? {
            *sums.entry(operator).or_insert(0.0) += seconds;
        }
    }
    Some(sums)
}

/// The least seconds of maps, weights and operations on a machine, without a launch; `None` where the
/// precision does not run there.
pub fn floor_seconds(elements: u64, flops: u64, machine: &Machine, precision: Precision) -> Option<f64> {
    let (products, _) = machine.peaks(precision)?;
    Some(machine.roofline(precision.bytes() * elements, flops, products))
}

#[cfg(test)]
mod tests;
