//! The CPU: the operators' fast paths on the rayon pool.

use super::host::{self, HostOps, Resolver};
use super::{Buffer, Device, Error, Memory};
use crate::ops::simd::Isa;
use crate::ops::{
    Call, Threads, batch_norm, branches, depthwise, kernel_transform, pointwise, pool, preprocess, score,
    squeeze_excite, stem, sum,
};

/// The CPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Device for Cpu {
    fn describe(&self) -> String {
        format!("cpu ({}, {} threads)", Isa::current(), self.lanes())
    }

    fn arithmetic(&self) -> String {
        format!("cpu {}", Isa::current())
    }

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        host::allocate::<f32>(self, len)
    }

    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        host::upload::<f32>(buffer, offset, data);
        Ok(())
    }

    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        host::download::<f32>(buffer, offset, out);
        Ok(())
    }

    fn run(&self, calls: &[Call], mut memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        let mut run = || {
            let resolver = Resolver::new(&mut memory);
            for call in calls {
                let threads = if is_worth_threads(call) { threads } else { Threads::One };
                host::run(&Fast(threads), call, &resolver);
            }
        };
        match threads {
            // On a thread of the pool: from outside, every call would put this one to sleep.
            Threads::All => rayon::scope(|_| run()),
            Threads::One => run(),
        }
        Ok(())
    }

    fn lanes(&self) -> usize {
        rayon::current_num_threads()
    }

    fn batch_lanes(&self) -> usize {
        self.lanes()
    }

    fn chunk(&self, arena_of_one: usize) -> usize {
        // Maps of two megabytes are near the second-level cache of recent server cores. Fewer than eight
        // images, where those still have eight megabytes at most, would leave late layers too few
        // rows for a pass over their weights.
        let fit = |elements: usize| elements / arena_of_one.max(1);
        fit(1 << 19).max(fit(1 << 21).min(8)).clamp(2, 64)
    }
}

/// Whether a call takes longer than waking another thread for half of it, some 20 microseconds, on
/// a core of 50 GFLOP/s and 10 GB/s. Results do not depend on it.
fn is_worth_threads(call: &Call) -> bool {
    let work = call.work();
    work.flops / 50 + work.bytes / 10 > 20_000
}

/// The fast paths with a way to thread them.
struct Fast(Threads);

impl HostOps<f32> for Fast {
    fn stem(&self, p: &stem::Params, a: stem::Args<'_, f32>) {
        stem::cpu::run(p, a, self.0);
    }
    fn pointwise(&self, p: &pointwise::Params, a: pointwise::Args<'_, f32>) {
        pointwise::cpu::run(p, a, self.0);
    }
    fn branches(&self, p: &branches::Params, a: branches::Args<'_, f32>) {
        branches::cpu::run(p, a, self.0);
    }
    fn depthwise(&self, p: &depthwise::Params, a: depthwise::Args<'_, f32>) {
        depthwise::cpu::run(p, a, self.0);
    }
    fn squeeze_excite(&self, p: &squeeze_excite::Params, a: squeeze_excite::Args<'_, f32>) {
        squeeze_excite::cpu::run(p, a, self.0);
    }
    fn global_pool(&self, p: &pool::Params, a: pool::Args<'_, f32>) {
        pool::cpu::global(p, a, self.0);
    }
    fn max_pool(&self, p: &pool::Params, a: pool::Args<'_, f32>) {
        pool::cpu::max(p, a, self.0);
    }
    fn sum(&self, p: &sum::Params, a: sum::Args<'_, f32>) {
        sum::cpu::run(p, a, self.0);
    }
    fn statistics(&self, p: &batch_norm::StatisticsParams, a: batch_norm::StatisticsArgs<'_, f32>) {
        batch_norm::cpu::statistics(p, a, self.0);
    }
    fn merge(&self, p: &batch_norm::MergeParams, a: batch_norm::MergeArgs<'_, f32>) {
        batch_norm::cpu::merge(p, a);
    }
    fn average(&self, p: &batch_norm::AverageParams, a: batch_norm::AverageArgs<'_, f32>) {
        batch_norm::cpu::average(p, a);
    }
    fn fold(&self, p: &batch_norm::FoldParams, a: batch_norm::FoldArgs<'_, f32>) {
        batch_norm::cpu::fold(p, a);
    }
    fn apply(&self, p: &batch_norm::ApplyParams, a: batch_norm::ApplyArgs<'_, f32>) {
        batch_norm::cpu::apply(p, a, self.0);
    }
    fn kernel_transform(&self, p: &kernel_transform::Params, a: kernel_transform::Args<'_, f32>) {
        kernel_transform::cpu::run(p, a, self.0);
    }
    fn score(&self, p: &score::Params, a: score::Args<'_, f32>) {
        score::cpu::run(p, a);
    }
    fn preprocess(&self, p: &preprocess::Params, a: preprocess::Args<'_, f32>) {
        preprocess::cpu::run(p, a, self.0);
    }
    fn training(&self, call: &Call, resolver: &Resolver<'_, f32>) {
        host::run_fast(call, resolver, self.0);
    }
}
