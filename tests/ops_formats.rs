//! The operators whose maps are f32 or a 16-bit format, on every device, from one table of shapes
//! (`natv2::ops::cases::formats`).
//!
//! Results of a device are those of the f64 reference, which widens exactly and rounds once: 16-bit
//! ones but for a few that lie near enough to a tie to be rounded the other way, f32 ones as closely
//! as those of f32 maps. The reference in turn is checked against the same operator in f64 on maps
//! that were never rounded: what is between the two is what the format gives.
//!
//! `NATV2_TEST_DEVICE=cuda` adds the card.

use natv2::bench::kernels::{TOLERANCE, arena_after, check};
use natv2::device::{Cpu, Device, Reference};
use natv2::ops::Threads;
use natv2::ops::cases::{Case, formats};
use natv2::ops::halves::Format;
use std::collections::BTreeSet;

/// A result slot's numbers.
struct Result {
    numbers: Vec<f64>,
    /// Whether they are stored in 16 bits.
    rounded: bool,
}

/// The results of a case in a format on a device; `plain` is its twin in f32.
fn results(device: &dyn Device, format: Format, case: &Case, plain: &Case) -> Vec<Result> {
    let arena = arena_after(device, case, Threads::All).unwrap();
    let one = |(slot, twin): (natv2::ops::Slot, natv2::ops::Slot)| {
        let elements = &arena[slot.offset..][..slot.len];
        match slot.len == twin.len {
            true => Result { numbers: elements.iter().map(|&v| f64::from(v)).collect(), rounded: false },
            false => Result {
                numbers: format.unpack(elements).into_iter().map(f64::from).collect(),
                rounded: true,
            },
        }
    };
    case.results().into_iter().zip(plain.results()).map(one).collect()
}

/// What neither has is NaN in both: a call that adds to a part of a tensor leaves the rest of it alone.
fn squared_error(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let both = found.iter().zip(wanted).filter(|(a, b)| !(a.is_nan() && b.is_nan()));
    let (difference, size) = both.fold((0.0, 0.0), |(d, s), (a, b)| (d + (a - b) * (a - b), s + b * b));
    difference / f64::max(size, f64::MIN_POSITIVE)
}

fn check_all(devices: &[&dyn Device]) {
    let reference = Reference::<f64>::new();
    let plain = formats(None);
    for format in Format::ALL {
        for (case, plain) in formats(Some(format)).iter().zip(&plain) {
            let wanted = results(&reference, format, case, plain);
            for device in devices {
                let name = format!("{} {} {}", device.describe(), case.call.name(), case.name);
                // All is written, and nothing else.
                assert!(check(*device, case).unwrap().is_some(), "{name}");
                for (found, wanted) in results(*device, format, case, plain).iter().zip(&wanted) {
                    // A number's neighbours are 2^-10 or 2^-7 of it away, and one in thousands goes there.
                    let bound = match (wanted.rounded, format) {
                        (false, _) => TOLERANCE,
                        (true, Format::F16) => 1e-8,
                        (true, Format::Bf16) => 1e-7,
                    };
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
    assert_eq!(operators.len(), 20, "{operators:?}");
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
fn the_cpu_agrees() {
    check_all(&[&Cpu]);
}

/// Both orders of threads in one test: the f64 reference is most of its time.
#[cfg(natv2_emulator)]
#[test]
fn the_kernels_agree_on_the_emulator_in_both_orders_of_threads() {
    use natv2::device::emulated::ThreadOrder;
    use natv2::device::{Emulator, Gpu};
    let device = |order| Gpu::new(Emulator::new(order).unwrap());
    check_all(&[&device(ThreadOrder::Forward), &device(ThreadOrder::Reverse)]);
}

#[test]
fn the_kernels_agree_on_the_device_that_was_chosen() {
    let name = std::env::var("NATV2_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    if name != "cpu" {
        check_all(&[&*natv2::device::open(&name).unwrap()]);
    }
}
