//! What networks cost before they run: the planner's own estimate, for any machine.
//!
//! A plan is a list of calls, and every call knows its bytes and its operations, by the unit of a card that makes
//! them; the launch code of its operator knows how many kernels it launches and in how many blocks. A [`Pass`] sums up
//! a list that is run a number of times. What a call takes on a [`Machine`] is said by [`time`](mod@time):
//!
//! ```text
//! seconds = sum over calls of launches * launch_seconds
//!           + cycles / clock                         an MBConv, by the estimate that its blocks are picked by
//!           + max(bytes / bandwidth, operations / rate of each unit, shared out in blocks)     any other call
//! ```
//!
//! and by its [`SecondsBy`] what for: traffic, launches, products on tensor cores, other arithmetic, multiprocessors that
//! wait. The largest of them is what bounds it. Calls do not overlap. Where all maps of a pass stay in a cache, only
//! weights and images are traffic, and the cache is taken to be as fast as it must be. No plan beats its [`Floor`]:
//! the longest of the least traffic, the products and the depthwise filters, each at full rate. A plan is judged by its
//! ratio to the floor, a kernel by the ratio of its measured time to the estimate.
//!
//! - [`evaluation`](mod@evaluation): the passes of a population, recalibration included;
//! - [`chosen`]: which parts run how, and why;
//! - [`floor`]: the least traffic and arithmetic;
//! - [`machine`]: cards by their data sheets, this machine by measurement;
//! - [`time`](mod@time): how long a call takes on a machine, and what for.

pub mod chosen;
pub mod evaluation;
pub mod floor;
pub mod machine;
pub mod time;

pub use super::Precision;
pub use chosen::Chosen;
pub use evaluation::{EvaluationPlan, Scheduling, Workload, evaluation};
pub use floor::{Floor, ReadTo};
pub use machine::Machine;
pub use time::{Bound, SecondsBy};

use super::plan::Program;
use crate::device::geometries;
use crate::ops::mbconv::blocks::Job;
use crate::ops::sums::added;
use crate::ops::{Call, Region, Slot, Work};
use serde::Serialize;
use std::collections::BTreeMap;

/// A call as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The operator.
    pub operator: &'static str,
    /// Kernels that it launches on a card.
    pub launches: u64,
    /// Blocks of the largest of these launches.
    pub blocks: u64,
    /// Bytes and operations.
    pub work: Work,
    /// Operations among them that are products of 16-bit numbers, as tensor cores compute.
    pub tensor_flops: u64,
    /// Bytes of it that no cache of the arena keeps: weights, folded batch norms, images.
    pub outside: u64,
    /// What the blocks of MBConvs are to make.
    jobs: Vec<Job>,
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
pub struct OperatorTally {
    /// Calls.
    pub calls: u64,
    /// Kernels launched on a card.
    pub launches: u64,
    /// Bytes, each operand of a call once.
    pub bytes: u64,
    /// Operations; a multiply-add counts as two.
    pub flops: u64,
}

added!(OperatorTally { calls, launches, bytes, flops });

impl Item {
    /// A call that gets its images at `input`.
    fn new(call: &Call, input: Option<Slot>) -> Item {
        let work = call.work();
        let outside = |slot: &Slot| slot.region != Region::Arena || Some(*slot) == input;
        let elements: usize = call.reads().iter().filter(|slot| outside(slot)).map(|slot| slot.len).sum();
        let launches = geometries(call);
        let blocks = launches.iter().map(|launch| launch.grid.map(u64::from).iter().product());
        Item {
            operator: call.name(),
            launches: launches.len() as u64,
            blocks: blocks.max().unwrap_or(0),
            work,
            tensor_flops: call.tensor_flops(),
            outside: (4 * elements as u64).min(work.bytes),
            jobs: call.jobs(),
        }
    }
}

impl Pass {
    /// Sums up `calls`, which get their images at `input`.
    pub fn new(calls: &[Call], arena_len: usize, input: Option<Slot>, runs: u64) -> Pass {
        Pass { items: calls.iter().map(|call| Item::new(call, input)).collect(), arena_len, runs }
    }

    /// A lowered program, run `runs` times.
    pub fn program(program: &Program, runs: u64) -> Pass {
        Pass::new(&program.calls, program.arena_len, Some(program.input), runs)
    }

    /// What each call takes on a machine, once.
    fn parts(&self, machine: &Machine) -> impl Iterator<Item = (&Item, SecondsBy)> {
        let cached = 4 * self.arena_len as u64 <= machine.cache_bytes;
        self.items.iter().map(move |item| {
            let bytes = if cached { item.outside } else { item.work.bytes };
            (item, time::parts(item, bytes, machine))
        })
    }

    /// What the MBConvs of elastic layers take on a machine in all runs, in order, where they are one call or a pair;
    /// a pair ends with its projection.
    fn layers(&self, machine: &Machine) -> Vec<SecondsBy> {
        let mut layers: Vec<SecondsBy> = Vec::new();
        let mut in_pair = false;
        for (item, parts) in self.parts(machine) {
            match item.operator {
                "Mbconv" if item.jobs.iter().all(Job::expands) => layers.push(parts),
                "ExpandDepthwise" => {
                    layers.push(parts);
                    in_pair = true;
                }
                "SqueezeExcite" | "PointwiseHalf" if in_pair => {
                    layers.iter_mut().next_back().into_iter().for_each(|layer| *layer += parts);
                    in_pair = item.operator != "PointwiseHalf";
                }
                _ => {}
            }
        }
        layers.into_iter().map(|layer| layer.times(self.runs as f64)).collect()
    }
}

/// What passes come to, by operator.
pub fn tally(passes: &[Pass]) -> BTreeMap<&'static str, OperatorTally> {
    let mut tallies: BTreeMap<&'static str, OperatorTally> = BTreeMap::new();
    for (pass, item) in passes.iter().flat_map(|pass| pass.items.iter().map(move |item| (pass, item))) {
        *tallies.entry(item.operator).or_default() += OperatorTally {
            calls: pass.runs,
            launches: pass.runs * item.launches,
            bytes: pass.runs * item.work.bytes,
            flops: pass.runs * item.work.flops,
        };
    }
    tallies
}

/// What passes come to as a whole.
pub fn total(passes: &[Pass]) -> OperatorTally {
    let mut sum = OperatorTally::default();
    tally(passes).into_values().for_each(|tally| sum += tally);
    sum
}

/// What passes that were planned in a precision take on a machine, by operator; `None` where that does not run
/// there.
pub fn seconds(
    passes: &[Pass],
    machine: &Machine,
    precision: Precision,
) -> Option<BTreeMap<&'static str, SecondsBy>> {
    let mut sums: BTreeMap<&'static str, SecondsBy> = BTreeMap::new();
    for pass in passes.iter().filter(|_| machine.runs(precision)) {
        for (item, parts) in pass.parts(machine) {
            *sums.entry(item.operator).or_default() += parts.times(pass.runs as f64);
        }
    }
    machine.runs(precision).then_some(sums)
}

/// What a call takes on a machine whose caches hold nothing of it.
pub fn estimate(call: &Call, machine: &Machine) -> SecondsBy {
    let item = Item::new(call, None);
    time::parts(&item, item.work.bytes, machine)
}

/// What the MBConvs of the elastic layers of one network's inference take on a machine, in order, where each is one
/// call or a pair.
pub fn layers(passes: &[Pass], machine: &Machine) -> Vec<SecondsBy> {
    let scores = |pass: &&Pass| pass.items.iter().any(|item| item.operator == "Score");
    passes.iter().find(scores).map(|pass| pass.layers(machine)).unwrap_or_default()
}

/// The least that a plan moves and computes, in whatever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastWork {
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub flops: u64,
    /// Those of depthwise filters among them.
    pub filter_flops: u64,
}

/// The least seconds of that on a machine, without a launch; `None` where the precision does not run there.
pub fn floor_seconds(least: LeastWork, machine: &Machine, precision: Precision) -> Option<f64> {
    let LeastWork { bytes, flops, filter_flops } = least;
    let traffic = bytes as f64 / machine.bandwidth;
    let arithmetic = match precision {
        Precision::F32 => flops as f64 / machine.f32_flops,
        _ => {
            let products = (flops - filter_flops) as f64 / machine.product_flops();
            products.max(filter_flops as f64 / machine.f32_flops)
        }
    };
    machine.runs(precision).then_some(traffic.max(arithmetic))
}

#[cfg(test)]
mod tests;
