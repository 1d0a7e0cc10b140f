//! What an operator is, and how one list of operands makes its call.
//!
//! The table of calls in [`ops`](super) needs an [`Operator`] of each. [`operator!`] makes it of the list of operands
//! and of three functions in the operator's folder, which have one name in `reference.rs`, `cpu.rs` and `gpu.rs`. The
//! folder itself says what a call costs ([`Cost`]). [`operand_set!`] makes operands that are there together or not at
//! all. A [`Group`] is many calls of one operator as one call.

mod kinds;
mod lists;

pub(crate) use crate::launch::params;
pub(crate) use kinds::{
    address, address_type, as_read, as_write, in_f32, is_halves, is_scratch, launch, launch_together,
    resolve, slice_type, slot_type, stored,
};
pub(crate) use lists::{operand_set, operands, operator, runs};

use super::halves::Format;
use super::mbconv::blocks::Job;
use super::{Real, Slot, Threads, Work};
#[cfg(test)]
use crate::launch::Layout;
use crate::launch::{Error, Launcher};

/// Gives the slots of one list of calls as slices.
pub(crate) trait Resolve<T> {
    /// A slot that is read.
    fn read(&self, slot: Slot) -> &[T];
    /// A slot that is written. A call asks for it once.
    #[allow(clippy::mut_from_ref)]
    fn write(&self, slot: Slot) -> &mut [T];
}

/// The operands of a call, or of a part of one.
pub(crate) trait Operands {
    /// Every slot that is read.
    fn reads(&self) -> Vec<Slot>;

    /// Every slot that is written; those in `reads` too are updated in place.
    fn writes(&self) -> Vec<Slot>;
}

/// A call of one operator.
pub(crate) trait Operator: Operands + Cost {
    /// Whether kernels read the operands 16 bytes at a time, so that slots start at multiples of that. Kernels
    /// of operators that take nothing but 16-bit maps do.
    const BY_QUADS: bool;

    /// The slots that are written, but for scratch.
    fn results(&self) -> Vec<Slot>;

    /// The format of an operand that holds 16-bit numbers.
    fn stored(&self, slot: Slot) -> Option<Format>;

    /// Runs the call by its definition.
    fn run_definition<T: Real>(&self, memory: &impl Resolve<T>);

    /// Runs the call by its fast path on the host.
    fn run_fast(&self, memory: &impl Resolve<f32>, threads: Threads);

    /// Launches the call's kernels.
    fn launch(&self, to: &Launcher<'_>) -> Result<(), Error>;

    /// Launches calls none of which reads what another writes.
    fn launch_together(calls: &[Self], to: &Launcher<'_>) -> Result<(), Error> {
        calls.iter().try_for_each(|call| call.launch(to))
    }

    /// The structs that the operator's kernels take.
    #[cfg(test)]
    fn layouts() -> Vec<Layout>;
}

/// What a call costs, for the performance model and the benchmarks.
pub(crate) trait Cost: Sized {
    /// Bytes and FLOPs.
    fn work(&self) -> Work;

    /// Those of calls that are launched together.
    fn work_together(calls: &[Self]) -> Work {
        calls.iter().map(Cost::work).sum()
    }

    /// As [`Call::jobs`](super::Call::jobs).
    fn jobs(&self) -> Vec<Job> {
        Vec::new()
    }

    /// As [`Call::tensor_flops`](super::Call::tensor_flops).
    fn tensor_flops(&self) -> u64 {
        self.jobs().iter().map(Job::tensor_flops).sum()
    }
}

/// Calls of one operator that are one call. None reads what another writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<C> {
    /// Them.
    pub calls: Vec<C>,
}

impl<C> Default for Group<C> {
    fn default() -> Self {
        Group { calls: Vec::new() }
    }
}

impl<C: Operator> Operands for Group<C> {
    fn reads(&self) -> Vec<Slot> {
        self.calls.iter().flat_map(C::reads).collect()
    }

    fn writes(&self) -> Vec<Slot> {
        self.calls.iter().flat_map(C::writes).collect()
    }
}

impl<C: Operator> Operator for Group<C> {
    const BY_QUADS: bool = C::BY_QUADS;

    fn results(&self) -> Vec<Slot> {
        self.calls.iter().flat_map(C::results).collect()
    }

    fn stored(&self, slot: Slot) -> Option<Format> {
        self.calls.iter().find_map(|call| call.stored(slot))
    }

    fn run_definition<T: Real>(&self, memory: &impl Resolve<T>) {
        self.calls.iter().for_each(|call| call.run_definition(memory));
    }

    fn run_fast(&self, memory: &impl Resolve<f32>, threads: Threads) {
        self.calls.iter().for_each(|call| call.run_fast(memory, threads));
    }

    fn launch(&self, to: &Launcher<'_>) -> Result<(), Error> {
        C::launch_together(&self.calls, to)
    }

    #[cfg(test)]
    fn layouts() -> Vec<Layout> {
        C::layouts()
    }
}

impl<C: Operator> Cost for Group<C> {
    fn work(&self) -> Work {
        C::work_together(&self.calls)
    }

    fn jobs(&self) -> Vec<Job> {
        self.calls.iter().flat_map(C::jobs).collect()
    }

    fn tensor_flops(&self) -> u64 {
        self.calls.iter().map(C::tensor_flops).sum()
    }
}
