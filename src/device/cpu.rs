//! The CPU: the operators' fast paths on the rayon pool.

use super::host::{self, Resolver};
use super::{Buffer, Device, Error, Memory};
use crate::ops::simd::Isa;
use crate::ops::{Call, Threads};

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
                call.run_fast(&resolver, threads);
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
