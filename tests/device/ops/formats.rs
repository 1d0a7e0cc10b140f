//! The operators whose maps are f32 or a 16-bit format, on every device, from one table of shapes
//! (`natv2::ops::cases::formats`).
//!
//! Results of a device are those of the f64 reference, which widens exactly and rounds once: 16-bit
//! ones but for a few that lie near enough to a tie to be rounded the other way, f32 ones as closely
//! as those of f32 maps. The reference in turn is checked against the same operator in f64 on maps
//! that were never rounded: what is between the two is what the format gives.

use natv2::bench::kernels::{arena_after, check_against, tolerance};
use natv2::device::{Cpu, Device, Reference};
use natv2::ops::cases::{Case, apply_group, formats};
use natv2::ops::halves::Format;
use natv2::ops::{Call, Threads};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::halves::{self, same_on_one_thread, squared_error};
use super::not_numbers::{poisoned, reach_the_results};

/// A result slot's numbers.
struct Result {
    numbers: Vec<f64>,
    /// Whether they are stored in 16 bits.
    rounded: bool,
}

/// The results of a case in a format on a device; `plain` is its twin in f32.
fn results(device: &dyn Device, format: Format, case: &Case, plain: &Case) -> Vec<Result> {
    results_in(&arena_after(device, case, Threads::All).unwrap(), format, case, plain)
}

/// The same, of the arena that it left.
fn results_in(arena: &[f32], format: Format, case: &Case, plain: &Case) -> Vec<Result> {
    let one = |(slot, twin): (natv2::ops::Slot, natv2::ops::Slot)| {
        let elements = &arena[slot.offset..][..slot.len];
        if slot.len == twin.len {
            Result { numbers: elements.iter().map(|&v| f64::from(v)).collect(), rounded: false }
        } else {
            Result { numbers: format.unpack(elements).into_iter().map(f64::from).collect(), rounded: true }
        }
    };
    case.results().into_iter().zip(plain.results()).map(one).collect()
}

fn check_all(devices: &[Arc<dyn Device>]) {
    let plain = formats(None);
    for format in Format::ALL {
        let cases = formats(Some(format));
        let defined = halves::defined(&cases);
        for ((case, plain), arena) in cases.iter().zip(&plain).zip(&defined) {
            let wanted = results_in(arena, format, case, plain);
            for device in devices {
                let name = format!("{} {} {}", device.describe(), case.call.name(), case.name);
                // All is written, and nothing else.
                assert!(check_against(&**device, case, arena).unwrap().is_some(), "{name}");
                for (found, wanted) in results(&**device, format, case, plain).iter().zip(&wanted) {
                    let bound = tolerance(wanted.rounded.then_some(format));
                    let error = squared_error(&found.numbers, &wanted.numbers);
                    assert!(error < bound, "{name}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn every_operator_is_there_in_both_formats_and_no_case_twice() {
    let plain = formats(None);
    let operators: BTreeSet<&str> = plain.iter().map(|case| case.call.name()).collect();
    assert_eq!(operators.len(), 21, "{operators:?}");
    for format in Format::ALL {
        let cases = formats(Some(format));
        let names: BTreeSet<_> = cases.iter().map(|c| (c.call.name(), c.name.as_str())).collect();
        assert_eq!((cases.len(), names.len()), (plain.len(), plain.len()));
        // Half the bytes of the maps; what else there is stays as it is.
        for (case, plain) in cases.iter().zip(&plain) {
            let (half, whole) = (case.call.work(), plain.call.work());
            assert!(half.bytes < whole.bytes && 2 * half.bytes >= whole.bytes, "{}", case.name);
            assert_eq!(half.flops, whole.flops, "{}", case.name);
        }
    }
}

#[test]
fn what_the_formats_lose_against_maps_in_f32_is_below_1e_5() {
    let reference = Reference::<f64>::new();
    let plain = formats(None);
    for (format, bound) in [(Format::F16, 5e-7), (Format::Bf16, 1e-5)] {
        for (case, plain) in formats(Some(format)).iter().zip(&plain) {
            let exact = arena_after(&reference, plain, Threads::All).unwrap();
            for (found, slot) in results(&reference, format, case, plain).iter().zip(plain.results()) {
                let exact: Vec<f64> =
                    exact[slot.offset..][..slot.len].iter().map(|&v| f64::from(v)).collect();
                let error = squared_error(&found.numbers, &exact);
                assert!(error < bound, "{} {}: {error:e}", case.call.name(), case.name);
                // Rounding shows: these are not the numbers of f32 maps.
                assert!(error > 0.0, "{} {}", case.call.name(), case.name);
            }
        }
    }
}

#[test]
fn fused_operators_in_both_formats_are_as_defined() {
    check_all(&crate::devices_in_both_orders());
}

#[test]
fn fused_operators_pass_on_what_is_no_number_in_both_formats() {
    for format in Format::ALL {
        reach_the_results(&crate::devices(), &poisoned(&formats(Some(format))));
    }
}

/// A group leaves the bits that its calls leave one by one.
#[test]
fn fused_normalisations_in_a_group_are_as_if_alone() {
    let case = apply_group();
    let Call::BnApplyGroup(group) = case.call.clone() else { panic!("a group") };
    halves::a_group_is_as_if_alone(case, group.calls);
    // 140 calls, 84 of them in bf16, which are more than a launch takes.
    assert_eq!(natv2::device::launches(&apply_group().call), 4);
}

#[test]
fn threads_change_no_bit_on_the_cpu() {
    Format::ALL.iter().for_each(|&format| same_on_one_thread(&Cpu, &formats(Some(format))));
}
