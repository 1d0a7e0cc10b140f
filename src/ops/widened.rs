//! Calls on 16-bit maps as calls on f32 maps.
//!
//! An operator whose parameters name a format computes what it computes in f32, from numbers that
//! are widened exactly, and its output map is rounded once. A device without code of its own for a
//! format runs it just so.

use super::Slot;
use super::halves::{Format, PER_ELEMENT};
use super::operator::{Operator, Resolve};
use super::real::Real;
use std::cell::Cell;

/// Memory in which a call finds the numbers of its 16-bit maps in place of what their slots hold.
pub(crate) struct Widened<'m, T, R> {
    memory: &'m R,
    read: Vec<(Slot, &'m [T])>,
    written: Vec<(Slot, Cell<Option<&'m mut [T]>>)>,
}

impl<T, R: Resolve<T>> Resolve<T> for Widened<'_, T, R> {
    fn read(&self, slot: Slot) -> &[T] {
        debug_assert!(
            self.written.iter().all(|(own, _)| *own != slot),
            "what a call writes it does not read too"
        );
        let own = self.read.iter().find(|(own, _)| *own == slot);
        own.map_or_else(|| self.memory.read(slot), |&(_, numbers)| numbers)
    }

    fn write(&self, slot: Slot) -> &mut [T] {
        match self.written.iter().find(|(own, _)| *own == slot) {
            Some((_, numbers)) => numbers.take().expect("a call asks once for what it writes"),
            None => self.memory.write(slot),
        }
    }
}

/// Gives `run` the memory in which the call's 16-bit maps are widened, and rounds what it writes to them.
pub(crate) fn run<T: Real, R: Resolve<T>>(
    call: &impl Operator,
    format: Format,
    memory: &R,
    run: impl FnOnce(&Widened<'_, T, R>),
) {
    let maps = |slots: Vec<Slot>| {
        let mut maps: Vec<Slot> = Vec::with_capacity(slots.len());
        for slot in slots {
            if call.stored(slot).is_some() && !maps.contains(&slot) {
                maps.push(slot);
            }
        }
        maps
    };
    let (reads, writes) = (maps(call.reads()), maps(call.writes()));
    let numbers = |&slot: &Slot| {
        if reads.contains(&slot) {
            format.widen(memory.read(slot))
        } else {
            vec![T::nan(); PER_ELEMENT * slot.len]
        }
    };
    let read: Vec<(Slot, Vec<T>)> =
        reads.iter().filter(|slot| !writes.contains(slot)).map(|slot| (*slot, numbers(slot))).collect();
    let mut written: Vec<Vec<T>> = writes.iter().map(numbers).collect();
    run(&Widened {
        memory,
        read: read.iter().map(|(slot, numbers)| (*slot, numbers.as_slice())).collect(),
        written: (writes.iter().copied())
            .zip(written.iter_mut().map(|numbers| Cell::new(Some(numbers.as_mut_slice()))))
            .collect(),
    });
    for (&slot, numbers) in writes.iter().zip(&written) {
        format.narrow(numbers, memory.write(slot));
    }
}
