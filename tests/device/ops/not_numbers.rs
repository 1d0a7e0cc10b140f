//! What is no number in an operand reaches the results, on every device.

use natv2::bench::kernels::arena_from;
use natv2::device::{Device, Reference};
use natv2::ops::cases::Case;
use natv2::ops::halves::Format;
use natv2::ops::{Slot, Threads};
use rayon::prelude::*;
use std::sync::Arc;

/// Elements of a case that is tried, unless its operator has no smaller one: each operand has runs of its own.
const LARGEST: usize = 20_000;

/// A case with a NaN or an infinite number in an operand.
pub struct Poisoned {
    case: Case,
    operand: (Slot, Option<Format>),
    value: f32,
    /// Which of the results' numbers are finite by the definition.
    finite: Vec<bool>,
}

impl Poisoned {
    /// Which of them are on a device.
    fn finite_on(&self, device: &dyn Device) -> Vec<bool> {
        let Poisoned { case, operand: (slot, format), value, .. } = self;
        let operands = case.operands_with(*slot, *format, *value);
        let arena = arena_from(device, case, &operands, Threads::All).unwrap();
        let numbers = |slot: Slot| match case.stored(slot) {
            Some(format) => format.unpack(&arena[slot.offset..][..slot.len]),
            None => arena[slot.offset..][..slot.len].to_vec(),
        };
        case.results().into_iter().flat_map(numbers).map(f32::is_finite).collect()
    }
}

/// Both numbers in every operand of the smaller of some cases, at least one an operator, and what the definition
/// makes of them.
pub fn poisoned(cases: &[Case]) -> Vec<Poisoned> {
    let reference = Reference::<f64>::new();
    let mut all = Vec::new();
    let size = |case: &Case| case.weights + case.arena;
    let least = |name: &str| cases.iter().filter(|case| case.call.name() == name).map(size).min();
    let tried = |case: &&Case| size(case) <= LARGEST.max(least(case.call.name()).unwrap_or(0));
    for case in cases.iter().filter(tried) {
        // The reference may hold an infinite 16-bit number as NaN (`natv2::ops::halves`), which shows where the
        // infinite one need not.
        let plain = case.real().all(|(_, format)| format.is_none());
        let values = [f32::NAN, f32::INFINITY].into_iter().take(if plain { 2 } else { 1 });
        for (operand, value) in case.real().flat_map(|operand| values.clone().map(move |v| (operand, v))) {
            all.push(Poisoned { case: case.clone(), operand, value, finite: Vec::new() });
        }
    }
    // A definition runs on one thread.
    all.par_iter_mut().for_each(|poisoned| poisoned.finite = poisoned.finite_on(&reference));
    // Most of them show: what only says which of some numbers is the largest, or is for a later pass, need not.
    let shown = all.iter().filter(|poisoned| poisoned.finite.contains(&false)).count();
    assert!(4 * shown > 3 * all.len(), "{shown} of {}", all.len());
    all
}

/// Wherever the definition has no finite number, the devices have none either.
pub fn reach_the_results(devices: &[Arc<dyn Device>], all: &[Poisoned]) {
    let mut wrong = Vec::new();
    for (device, poisoned) in devices.iter().flat_map(|device| all.iter().map(move |one| (&**device, one))) {
        let found = poisoned.finite_on(device);
        let swallowed = poisoned.finite.iter().zip(&found).filter(|&(&wanted, &found)| found && !wanted);
        let count = swallowed.count();
        if count > 0 {
            let Poisoned { case, value, operand, .. } = poisoned;
            wrong.push(format!(
                "{}: {} {}: {value} in the operand at {}: {count} of {} numbers are finite, as if it were one",
                device.describe(),
                case.call.name(),
                case.name,
                operand.0.offset,
                found.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
