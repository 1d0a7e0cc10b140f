//! The operators on 16-bit numbers on every device, from one table of shapes
//! (`natv2::ops::cases::half_products`).
//!
//! Three bounds, from the tightest: every output is the f64 result of the rounded operands, rounded
//! once, but for what f32 sums leave open; the squared error against the reference device, which
//! rounds too, is that of a few roundings gone the other way; and that against the plain f32 operator
//! on operands that were never rounded is what the format gives, below 1e-5.

use natv2::bench::kernels::{TOLERANCE, arena_after, check_against};
use natv2::device::{Cpu, Device, Reference};
use natv2::launch::panels::{panelled_index, panelled_len};
use natv2::ops::cases::{Case, half_products, half_rows, half_weights};
use natv2::ops::halves::{Format, stored};
use natv2::ops::pointwise;
use natv2::ops::pointwise_half::{self, PointwiseHalf};
use natv2::ops::{Call, Region, Slot, Threads};
use rayon::prelude::*;
use std::sync::Arc;

use super::halves::{defined, numbers, same_on_one_thread, squared_error};
use super::not_numbers::{poisoned, reach_the_results};

fn call_of(case: &Case) -> &PointwiseHalf {
    match &case.call {
        Call::PointwiseHalf(call) => call,
        other => panic!("{other:?} has no check here"),
    }
}

/// The f64 results of a case before they are rounded, and how far f32 sums may be from each.
fn exact(case: &Case) -> (Vec<f64>, Vec<f64>) {
    let call = call_of(case);
    let (weights, arena) = case.operands(1);
    let of = |slot: Slot, change: fn(f64) -> f64| -> Vec<f64> {
        let buffer = if slot.region == Region::Weights { &weights } else { &arena };
        buffer[slot.offset..][..slot.len].iter().map(|&value| change(f64::from(value))).collect()
    };
    let compute = |numbers: fn(f64) -> f64, singles: fn(f64) -> f64, activation: u32| {
        let optional = |slot: Option<Slot>, change| slot.map(|slot| of(slot, change));
        let (scale, shift, gate) =
            (optional(call.scale, singles), optional(call.shift, singles), optional(call.gate, singles));
        let residual = optional(call.residual, numbers);
        let mut y = vec![0.0; call.y.len];
        let args = pointwise_half::Args {
            x: &of(call.x, numbers),
            w: &of(call.w, numbers),
            scale: scale.as_deref(),
            shift: shift.as_deref(),
            gate: gate.as_deref(),
            residual: residual.as_deref(),
            y: &mut y,
        };
        let mut params = call.params;
        params.shape.activation = activation;
        pointwise_half::reference::unrounded(&params, &args)
    };
    // The sum of the terms' magnitudes: signs are the top bits of both halves of an element.
    let magnitudes = |element: f64| f64::from(f32::from_bits((element as f32).to_bits() & 0x7fff_7fff));
    let values = compute(|value| value, |value| value, call.params.shape.activation);
    let terms = compute(magnitudes, f64::abs, 0);
    let slack: Vec<f64> = terms.iter().map(|terms| 1e-5 * terms).collect();
    let (p, format) = (&call.params, call.params.format());
    if p.pooled == 0 {
        return (values, slack);
    }
    // Any of the rounded numbers may have gone the other way.
    let cout = p.shape.cout as usize;
    let steps: Vec<f64> =
        values.iter().zip(&slack).map(|(&v, slack)| slack + 2.0 * half_step(format, v)).collect();
    let mean = |i: usize| {
        let first = i / cout * p.shape.pixels() * cout + i % cout;
        steps[first..].iter().step_by(cout).take(p.shape.pixels()).sum::<f64>() / p.shape.pixels() as f64
    };
    let means = pointwise_half::reference::means(p, &values);
    let slack = (0..means.len()).map(mean).collect();
    (means, slack)
}

/// Half the distance between neighbours of the format around a value.
fn half_step(format: Format, value: f64) -> f64 {
    let (digits, smallest) = match format {
        Format::F16 => (11, -14),
        Format::Bf16 => (8, -126),
    };
    let exponent = if value == 0.0 { smallest } else { (value.abs().log2().floor() as i32).max(smallest) };
    2f64.powi(exponent - digits)
}

/// The results of a case on a device.
fn results(device: &dyn Device, case: &Case) -> Vec<f64> {
    let call = call_of(case);
    numbers(device, case, (call.y, stored(call.params.output)))
}

fn check_all(devices: &[Arc<dyn Device>]) {
    let reference = Reference::<f64>::new();
    let cases = half_products();
    // A definition runs on one thread.
    let defined: Vec<_> = cases.par_iter().map(|case| (exact(case), results(&reference, case))).collect();
    for (case, ((values, slack), rounded)) in cases.iter().zip(&defined) {
        let format = call_of(case).params.format();
        for device in devices {
            let name = format!("{} {}", device.describe(), case.name);
            let found = results(&**device, case);
            for (i, &found) in found.iter().enumerate() {
                let step = if call_of(case).params.output == 0 { 0.0 } else { half_step(format, values[i]) };
                let allowed = step + slack[i];
                // A NaN, which is what was there before, fails too.
                assert!(
                    (found - values[i]).abs() <= allowed,
                    "{name}: output {i} is {found}, not {} within {allowed}",
                    values[i]
                );
            }
            // One output in some hundreds lies near enough to a tie to be rounded the other way.
            let bound = if format == Format::F16 { 1e-9 } else { 1e-8 };
            let error = squared_error(&found, rounded);
            assert!(error < bound, "{name}: {error:e}");
        }
    }
}

#[test]
fn no_case_is_there_twice_and_both_formats_are() {
    let cases = half_products();
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    for format in Format::ALL {
        assert_eq!(
            cases.iter().filter(|case| call_of(case).params.format() == format).count(),
            cases.len() / 2
        );
    }
}

#[test]
fn fused_products_in_16_bits_are_as_defined() {
    check_all(&crate::devices_in_both_orders());
}

#[test]
fn fused_products_in_16_bits_pass_on_what_is_no_number() {
    let cases = [half_products(), half_weights()].concat();
    reach_the_results(&crate::devices(), &poisoned(&cases));
}

#[test]
fn fused_gradients_of_weights_and_rows_are_as_defined() {
    let devices = crate::devices_in_both_orders();
    check_weights(&devices);
    check_rows(&devices);
}

#[test]
fn threads_change_no_bit() {
    crate::devices().iter().for_each(|device| same_on_one_thread(&**device, &half_products()));
}

/// Values that were never rounded, through the f32 operator, against the same values packed, through
/// the 16-bit one.
#[test]
fn what_the_formats_lose_against_f32_is_below_1e_5() {
    let (images, side, cin, cout) = (6usize, 5usize, 96usize, 40usize);
    let shape = pointwise::Params {
        images: images as u32,
        side_in: side as u32,
        side_out: side as u32,
        cin: cin as u32,
        cout: cout as u32,
        weight_cin: cin as u32,
        stride: 1,
        activation: natv2::ops::Activation::HSwish as u32,
    };
    // A fixed sequence of numbers in -1..1.
    let mut state = 1u32;
    let mut values = |count: usize, size: f32| -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            size * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        (0..count).map(|_| next()).collect()
    };
    let rows = shape.rows();
    let (x, w) = (values(rows * cin, 1.0), values(cout * cin, 0.3));
    let (scale, shift, residual) = (values(cout, 2.0), values(cout, 1.0), values(rows * cout, 1.0));
    let gate: Vec<f32> = values(images * cin, 0.5).iter().map(|gate| gate + 0.5).collect();
    let mut panels = vec![0.0; panelled_len(cout, cin)];
    for n in 0..cout {
        for k in 0..cin {
            panels[panelled_index(cin, n, k)] = w[n * cin + k];
        }
    }
    let mut wanted = vec![0.0f32; rows * cout];
    pointwise::reference::run(
        &shape,
        pointwise::Args {
            x: &x,
            w: &panels,
            scale: Some(&scale),
            shift: Some(&shift),
            gate: Some(&gate),
            residual: Some(&residual),
            y: &mut wanted,
        },
    );
    let wanted: Vec<f64> = wanted.into_iter().map(f64::from).collect();
    for (format, bound) in [(Format::F16, 1e-6), (Format::Bf16, 1e-5)] {
        let mut y = vec![0.0; rows * cout / 2];
        pointwise_half::cpu::run(
            &pointwise_half::Params { shape, output: format as u32, pooled: 0, format: format as u32 },
            pointwise_half::Args {
                x: &format.pack(&x),
                w: &format.pack(&w),
                scale: Some(&scale),
                shift: Some(&shift),
                gate: Some(&gate),
                residual: Some(&format.pack(&residual)),
                y: &mut y,
            },
            Threads::All,
        );
        let found: Vec<f64> = format.unpack(&y).into_iter().map(f64::from).collect();
        let error = squared_error(&found, &wanted);
        assert!(error < bound, "{format:?}: {error:e}");
        // Rounding shows: this is not the f32 operator.
        assert!(error > 1e-9, "{format:?}: {error:e}");
    }
}

/// Gradients of weights are f32: the bound is that of f32 operators.
fn check_weights(devices: &[Arc<dyn Device>]) {
    let cases = half_weights();
    for (case, wanted) in cases.iter().zip(defined(&cases)) {
        for device in devices {
            let found = check_against(&**device, case, &wanted).unwrap();
            let name = format!("{} {}", device.describe(), case.name);
            assert!(found.is_some_and(|error| error < TOLERANCE), "{name}: {found:?}");
            let bits = |threads| -> Vec<u32> {
                let arena = arena_after(&**device, case, threads).unwrap();
                case.results().iter().flat_map(|s| &arena[s.offset..][..s.len]).map(|v| v.to_bits()).collect()
            };
            assert_eq!(bits(Threads::One), bits(Threads::All), "{name}");
        }
    }
}

/// Rows are rounded weights: the same bits everywhere.
fn check_rows(devices: &[Arc<dyn Device>]) {
    let bits = |arena: &[f32]| arena.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let cases = half_rows();
    for (case, wanted) in cases.iter().zip(defined(&cases)) {
        for device in devices {
            let found = arena_after(&**device, case, Threads::All).unwrap();
            assert!(bits(&found) == bits(&wanted), "{} {}", device.describe(), case.name);
        }
    }
}

/// The rows that a device makes are those that an engine packs on the host.
#[test]
fn rows_are_the_rounded_panels_and_their_transpose() {
    for case in half_rows() {
        let Call::HalfRows(call) = &case.call else { panic!("{:?} is no list of rows", case.call) };
        let arena = arena_after(&Cpu, &case, Threads::One).unwrap();
        let format = call.params.format;
        for job in &call.jobs {
            let (cout, cin) = (job.params.cout as usize, job.params.cin as usize);
            let rows = format.unpack(&arena[job.rows.offset..][..job.rows.len]);
            let transposed = job.transposed.map(|slot| format.unpack(&arena[slot.offset..][..slot.len]));
            for n in 0..cout {
                for k in 0..cin {
                    let wanted = format.round(arena[job.w.offset + panelled_index(cin, n, k)]);
                    assert_eq!(rows[n * cin + k], wanted, "{} [{n}, {k}]", case.name);
                    let other = transposed.as_ref().map_or(wanted, |transposed| transposed[k * cout + n]);
                    assert_eq!(other, wanted, "{} [{n}, {k}], transposed", case.name);
                }
            }
        }
    }
}
