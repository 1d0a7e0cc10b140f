//! Passes of inverted bottlenecks in recalibration on every device, from one table of shapes
//! (`natv2::ops::cases::mbconv_passes`), compared with their definition in f64.

use natv2::bench::kernels::arena_after;
use natv2::device::{Device, Reference};
use natv2::ops::cases::{Case, mbconv_pass_group, mbconv_passes};
use natv2::ops::halves::Format;
use natv2::ops::mbconv_pass::{MbconvPass, Pass, fits};
use natv2::ops::{Call, Slot, Threads};
use rayon::prelude::*;
use std::sync::Arc;

use super::halves::{self, same_on_one_thread, squared_error};
use super::not_numbers::{poisoned, reach_the_results};

fn call_of(case: &Case) -> &MbconvPass {
    match &case.call {
        Call::MbconvPass(call) => call,
        other => panic!("{other:?} has no check here"),
    }
}

/// What a case leaves on a device: its output, if it has one, and the means and the sums of squares.
fn results(device: &dyn Device, case: &Case) -> [Vec<f64>; 3] {
    let call = call_of(case);
    let arena = arena_after(device, case, Threads::All).unwrap();
    let (_, before) = case.operands(1);
    let results = case.results();
    let outside = |i: &usize| !results.iter().any(|y| (y.offset..y.offset + y.len).contains(i));
    let changed = (0..arena.len()).filter(outside).find(|&i| arena[i].to_bits() != before[i].to_bits());
    assert_eq!(changed, None, "{}: written outside the results", case.name);
    let found = |slot: Slot| &arena[slot.offset..][..slot.len];
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let y = call.y.map_or_else(Vec::new, |y| call.params.format().unpack(found(y)));
    let channels = call.params.channels() as usize;
    let units = found(call.partials).chunks_exact(2 * channels);
    let halves =
        |part: usize| units.clone().flat_map(move |unit| unit[part * channels..][..channels].to_vec());
    [wide(y), wide(halves(0).collect()), wide(halves(1).collect())]
}

fn check_all(devices: &[Arc<dyn Device>]) {
    let reference = Reference::<f64>::new();
    let mut worst = [[0.0f64; 3]; 2];
    let cases = mbconv_passes();
    // A definition runs on one thread.
    let defined: Vec<_> = cases.par_iter().map(|case| results(&reference, case)).collect();
    for (case, defined) in cases.iter().zip(&defined) {
        let format = call_of(case).params.format();
        for device in devices {
            let found = results(&**device, case);
            let bound = match format {
                Format::F16 => 1e-8,
                Format::Bf16 => 1e-7,
            };
            for (part, what) in ["the output", "means", "sums of squares"].iter().enumerate() {
                let error = squared_error(&found[part], &defined[part]);
                assert!(error < bound, "{} {}: {what}: {error:e}", device.describe(), case.name);
                let worst = &mut worst[usize::from(format == Format::Bf16)][part];
                *worst = worst.max(error);
            }
        }
    }
    for (format, [y, means, squares]) in ["f16", "bf16"].iter().zip(worst) {
        println!("{format}: output {y:.1e}, means {means:.1e}, squares {squares:.1e} from the definition");
    }
}

#[test]
fn no_case_is_there_twice_and_all_fit_an_h100() {
    let cases = mbconv_passes();
    assert!(cases.iter().all(|case| fits(&call_of(case).params, 227 << 10)));
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    let of = |pass: Pass| cases.iter().filter(|case| call_of(case).params.pass == pass).count();
    assert!(Pass::ALL.iter().all(|&pass| of(pass) > 20));
}

#[test]
fn fused_passes_are_as_defined() {
    check_all(&crate::devices_in_both_orders());
}

#[test]
fn fused_passes_pass_on_what_is_no_number() {
    let some: Vec<Case> = mbconv_passes().into_iter().step_by(5).collect();
    reach_the_results(&crate::devices(), &poisoned(&some));
}

/// A group leaves the bits that its calls leave one by one.
#[test]
fn fused_passes_in_a_group_are_as_if_alone() {
    let case = mbconv_pass_group();
    let Call::MbconvPassGroup(group) = case.call.clone() else { panic!("a group") };
    halves::a_group_is_as_if_alone(case, group.calls);
}

#[test]
fn threads_change_no_bit() {
    crate::devices().iter().for_each(|device| same_on_one_thread(&**device, &mbconv_passes()));
}
