//! What the tests of operators share, most of them on 16-bit numbers: results, errors, groups.

use natv2::bench::kernels::arena_after;
use natv2::device::{Device, Reference};
use natv2::ops::cases::Case;
use natv2::ops::halves::Format;
use natv2::ops::{Call, Slot, Threads};
use rayon::prelude::*;

/// What the definitions, each of which runs on one thread, leave in the arenas of some cases.
pub fn defined(cases: &[Case]) -> Vec<Vec<f32>> {
    let run = |case| arena_after(&Reference::<f64>::new(), case, Threads::All).unwrap();
    cases.par_iter().map(run).collect()
}

/// The numbers that a case leaves in `y` on a device, in 16 bits or f32, which is all that it may write.
pub fn numbers(device: &dyn Device, case: &Case, (y, format): (Slot, Option<Format>)) -> Vec<f64> {
    let arena = arena_after(device, case, Threads::All).unwrap();
    let (_, before) = case.operands(1);
    let outside = |i: &usize| !(y.offset..y.offset + y.len).contains(i);
    let changed = (0..arena.len()).filter(outside).find(|&i| arena[i].to_bits() != before[i].to_bits());
    assert_eq!(changed, None, "{}: written outside the results", case.name);
    let values = match format {
        Some(format) => format.unpack(&arena[y.offset..][..y.len]),
        None => arena[y.offset..][..y.len].to_vec(),
    };
    values.into_iter().map(f64::from).collect()
}

/// Squared error against the wanted values' squares; NaN, which is what was there before, where one is
/// found and none wanted. What is NaN in both was left alone, as the rest of a tensor is.
pub fn squared_error(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let both = found.iter().zip(wanted).filter(|(a, b)| !(a.is_nan() && b.is_nan()));
    let (difference, size) = both.fold((0.0, 0.0), |(d, s), (a, b)| (d + (a - b) * (a - b), s + b * b));
    difference / f64::max(size, f64::MIN_POSITIVE)
}

/// Results must not depend on the number of threads, to the bit.
pub fn same_on_one_thread(device: &dyn Device, cases: &[Case]) {
    for case in cases {
        let bits = |threads| -> Vec<u32> {
            let arena = arena_after(device, case, threads).unwrap();
            let results = case.results().into_iter();
            results.flat_map(|y| arena[y.offset..][..y.len].iter().map(|value| value.to_bits())).collect()
        };
        assert_eq!(bits(Threads::One), bits(Threads::All), "{} {}", case.call.name(), case.name);
    }
}

/// A group leaves the bits that its calls leave one by one, on every device.
pub fn a_group_is_as_if_alone(case: Case, calls: Vec<impl Into<Call>>) {
    let calls: Vec<Call> = calls.into_iter().map(Into::into).collect();
    crate::devices_in_both_orders().iter().for_each(|device| as_if_alone(&**device, case.clone(), &calls));
}

fn as_if_alone(device: &dyn Device, mut case: Case, calls: &[Call]) {
    let together = arena_after(device, &case, Threads::All).unwrap();
    for (index, call) in calls.iter().enumerate() {
        let results = call.writes();
        let bits = |arena: &[f32]| -> Vec<u32> {
            let values = results.iter().flat_map(|y| &arena[y.offset..][..y.len]);
            values.map(|value| value.to_bits()).collect()
        };
        case.call = call.clone();
        let alone = arena_after(device, &case, Threads::One).unwrap();
        assert!(bits(&alone) == bits(&together), "{}: call {index}", device.describe());
    }
}
