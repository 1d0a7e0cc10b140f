//! Whole inverted bottlenecks on every device, from one table of shapes (`natv2::ops::cases::mbconv_edges`), and
//! their first halves (`natv2::ops::cases::expand_depthwise_edges`).
//!
//! What the table's results are compared with: the definition in f64, which rounds the maps between the
//! parts as the kernels do, so that only roundings gone the other way are left; and the same chain of f64
//! operators with nothing rounded, which says what the format costs.

use natv2::bench::kernels::arena_after;
use natv2::device::{Device, Reference};
use natv2::launch::panels::{panelled_index, panelled_len};
use natv2::ops::cases::{Case, expand_depthwise_edges, mbconv_edges, mbconv_group};
use natv2::ops::expand_depthwise;
use natv2::ops::halves::Format;
use natv2::ops::mbconv::{Mbconv, fits};
use natv2::ops::pointwise;
use natv2::ops::{Call, Region, Slot, Threads, depthwise, squeeze_excite, stem};
use rayon::prelude::*;
use std::sync::Arc;

use super::halves::{self, numbers, same_on_one_thread, squared_error};
use super::not_numbers::{poisoned, reach_the_results};

fn call_of(case: &Case) -> &Mbconv {
    match &case.call {
        Call::Mbconv(call) => call,
        other => panic!("{other:?} has no check here"),
    }
}

/// The results of a case on a device.
fn results(device: &dyn Device, case: &Case) -> Vec<f64> {
    let call = call_of(case);
    numbers(device, case, (call.y, Some(call.params.format())))
}

/// The chain of f64 operators on a case's operands, with no rounding between them nor after.
fn never_rounded(case: &Case) -> Vec<f64> {
    let (call, p) = (call_of(case), call_of(case).params);
    let (weights, arena) = case.operands(1);
    let read = |slot: Slot| -> &[f32] {
        let buffer = if slot.region == Region::Weights { &weights } else { &arena };
        &buffer[slot.offset..][..slot.len]
    };
    let singles = |slot: Slot| -> Vec<f64> { read(slot).iter().copied().map(f64::from).collect() };
    let halves =
        |slot: Slot| -> Vec<f64> { p.format().unpack(read(slot)).into_iter().map(f64::from).collect() };
    // Rows of input channels as the panels of the f32 operator.
    let panels = |slot: Slot, shape: &pointwise::Params| -> Vec<f64> {
        let (rows, stored) = (halves(slot), shape.weight_cin as usize);
        let mut panels = vec![0.0; panelled_len(shape.cout as usize, stored)];
        for n in 0..shape.cout as usize {
            for k in 0..shape.cin as usize {
                panels[panelled_index(stored, n, k)] = rows[n * stored + k];
            }
        }
        panels
    };
    let x = match (call.expand, call.stem) {
        (Some(expand), _) => {
            let shape = p.expansion().shape;
            let mut y = vec![0.0; p.expanded_len()];
            let args = pointwise::Args {
                x: &halves(call.x),
                w: &panels(expand, &shape),
                scale: Some(&singles(call.expand_scale.unwrap())),
                shift: Some(&singles(call.expand_shift.unwrap())),
                gate: None,
                residual: None,
                y: &mut y,
            };
            pointwise::reference::run(&shape, args);
            y
        }
        (_, Some(filters)) => {
            let mut y = vec![0.0; p.expanded_len()];
            let args = stem::Args {
                x: &singles(call.x),
                w: &singles(filters),
                scale: Some(&singles(call.expand_scale.unwrap())),
                shift: Some(&singles(call.expand_shift.unwrap())),
                y: &mut y,
            };
            stem::reference::run(&p.stem(), args);
            y
        }
        _ => halves(call.x),
    };
    let mut filtered = vec![0.0; p.filtered_len()];
    let args = depthwise::Args {
        x: &x,
        w: &singles(call.filter),
        scale: Some(&singles(call.filter_scale)),
        shift: Some(&singles(call.filter_shift)),
        y: &mut filtered,
        pool: None,
    };
    depthwise::reference::run(&p.depthwise(), args);
    let gate = call.reduce.map(|reduce| {
        let mut gate = vec![0.0; (p.images * p.mid) as usize];
        let args = squeeze_excite::Args {
            x: &filtered,
            reduce: &singles(reduce),
            reduce_bias: &singles(call.reduce_bias.unwrap()),
            expand: &singles(call.excite.unwrap()),
            expand_bias: &singles(call.excite_bias.unwrap()),
            gate: &mut gate,
        };
        squeeze_excite::reference::run(&p.squeeze_excite(), args);
        gate
    });
    let (shape, residual) = (p.projection().shape, call.residual.map(halves));
    let residual = if p.shortcut > 0 { Some(x) } else { residual };
    let mut y = vec![0.0; shape.rows() * shape.cout as usize];
    let args = pointwise::Args {
        x: &filtered,
        w: &panels(call.project, &shape),
        scale: Some(&singles(call.project_scale)),
        shift: Some(&singles(call.project_shift)),
        gate: gate.as_deref(),
        residual: residual.as_deref(),
        y: &mut y,
    };
    pointwise::reference::run(&shape, args);
    y
}

fn check_all(devices: &[Arc<dyn Device>]) {
    let reference = Reference::<f64>::new();
    // By format: against the definition, and against f64 throughout.
    let mut worst = [[0.0f64; 2]; 2];
    let cases = mbconv_edges();
    // A definition runs on one thread.
    let defined: Vec<_> =
        cases.par_iter().map(|case| (results(&reference, case), never_rounded(case))).collect();
    for (case, (defined, unrounded)) in cases.iter().zip(&defined) {
        let format = call_of(case).params.format();
        for device in devices {
            let name = format!("{} {}", device.describe(), case.name);
            let found = results(&**device, case);
            let (bound, loss) = match format {
                Format::F16 => (1e-8, 1e-6),
                Format::Bf16 => (1e-7, 1e-4),
            };
            let errors = [squared_error(&found, defined), squared_error(&found, unrounded)];
            assert!(errors[0] < bound, "{name}: {:e} from the definition", errors[0]);
            // Rounding shows: this is not the chain of f32 operators.
            assert!(errors[1] < loss && errors[1] > 1e-9, "{name}: {:e} from f64", errors[1]);
            let worst = &mut worst[usize::from(format == Format::Bf16)];
            worst.iter_mut().zip(errors).for_each(|(worst, error)| *worst = worst.max(error));
        }
    }
    for (format, [definition, unrounded]) in ["f16", "bf16"].iter().zip(worst) {
        println!("{format}: at most {definition:.1e} from the definition, {unrounded:.1e} from f64");
    }
}

/// First halves of MBConvs: the depthwise output and the means of its rows, against the definition.
fn check_halves(devices: &[Arc<dyn Device>]) {
    let reference = Reference::<f64>::new();
    let mut worst = [[0.0f64; 2]; 2];
    for case in expand_depthwise_edges() {
        let Call::ExpandDepthwise(call) = &case.call else { panic!("{:?} has no check here", case.call) };
        let format = call.params.shape.format();
        let operands = case.operands(1).1;
        let results = |device: &dyn Device| -> [Vec<f64>; 2] {
            let arena = arena_after(device, &case, Threads::All).unwrap();
            let written = case.results();
            let outside = |i: &usize| !written.iter().any(|y| (y.offset..y.offset + y.len).contains(i));
            let changed =
                (0..arena.len()).filter(outside).find(|&i| arena[i].to_bits() != operands[i].to_bits());
            assert_eq!(changed, None, "{} {}: written outside", device.describe(), case.name);
            let found = |slot: Slot| &arena[slot.offset..][..slot.len];
            let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect();
            [wide(&format.unpack(found(call.y))), call.means.map_or_else(Vec::new, |slot| wide(found(slot)))]
        };
        let defined = results(&reference);
        for device in devices {
            let bound = if format == Format::F16 { 1e-8 } else { 1e-7 };
            let found = results(&**device);
            for (part, what) in ["the output", "means"].iter().enumerate() {
                let error = squared_error(&found[part], &defined[part]);
                assert!(error < bound, "{} {}: {what}: {error:e}", device.describe(), case.name);
                let worst = &mut worst[usize::from(format == Format::Bf16)][part];
                *worst = worst.max(error);
            }
        }
    }
    for (format, [y, means]) in ["f16", "bf16"].iter().zip(worst) {
        println!("{format}: first halves {y:.1e}, means {means:.1e} from the definition");
    }
}

#[test]
fn no_case_is_there_twice_and_all_fit_an_h100() {
    let cases = mbconv_edges();
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.iter().all(|case| fits(&call_of(case).params, 227 << 10)));
    let halves = expand_depthwise_edges();
    let names: std::collections::BTreeSet<&str> = halves.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), halves.len());
    let fit = |case: &Case, bytes: u32| match &case.call {
        Call::ExpandDepthwise(call) => expand_depthwise::fits(&call.params, bytes),
        other => panic!("{other:?} has no check here"),
    };
    // The smallest blocks of cards take them all.
    assert!(halves.iter().all(|case| fit(case, 99 << 10)));
}

#[test]
fn fused_mbconvs_are_as_defined() {
    check_all(&crate::devices_in_both_orders());
}

#[test]
fn fused_first_halves_are_as_defined() {
    check_halves(&crate::devices_in_both_orders());
}

#[test]
fn fused_mbconvs_pass_on_what_is_no_number() {
    let cases: Vec<Case> = mbconv_edges().into_iter().chain(expand_depthwise_edges()).step_by(4).collect();
    reach_the_results(&crate::devices(), &poisoned(&cases));
}

/// A group leaves the bits that its calls leave one by one.
#[test]
fn fused_mbconvs_in_a_group_are_as_if_alone() {
    let case = mbconv_group();
    let Call::MbconvGroup(group) = case.call.clone() else { panic!("a group") };
    halves::a_group_is_as_if_alone(case, group.calls);
    // Sixteen with filters of 3 by 3 are one more than a launch takes.
    assert_eq!(natv2::device::launches(&mbconv_group().call), 2 + 5);
}

#[test]
fn threads_change_no_bit() {
    for device in crate::devices() {
        same_on_one_thread(&*device, &mbconv_edges());
        same_on_one_thread(&*device, &expand_depthwise_edges());
    }
}
