//! Passes of inverted bottlenecks in recalibration on every device, from one table of shapes
//! (`natv2::ops::cases::mbconv_passes`), compared with their definition in f64.
//!
//! `tests/card` has the same for one device.

use natv2::bench::kernels::arena_after;
use natv2::device::{Cpu, Device, Reference};
use natv2::ops::cases::{Case, mbconv_pass_group, mbconv_passes};
use natv2::ops::halves::Format;
use natv2::ops::mbconv_pass::{MbconvPass, Pass, fits};
use natv2::ops::{Call, Slot, Threads};

mod common;
use common::halves::{self, same_on_one_thread, squared_error};
use common::not_numbers::{poisoned, reach_the_results};

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

fn check_all(devices: &[&dyn Device]) {
    let reference = Reference::<f64>::new();
    let mut worst = [[0.0f64; 3]; 2];
    for case in mbconv_passes() {
        let format = call_of(&case).params.format();
        let defined = results(&reference, &case);
        for device in devices {
            let found = results(*device, &case);
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

/// A group leaves the bits that its calls leave one by one.
fn a_group_is_as_if_alone(device: &dyn Device) {
    let case = mbconv_pass_group();
    let Call::MbconvPassGroup(group) = case.call.clone() else { panic!("a group") };
    let calls = group.calls.into_iter().map(Call::from).collect();
    halves::a_group_is_as_if_alone(device, case, calls);
}

#[test]
fn no_case_is_there_twice() {
    let cases = mbconv_passes();
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    let of = |pass: Pass| cases.iter().filter(|case| call_of(case).params.pass == pass).count();
    assert!(Pass::ALL.iter().all(|&pass| of(pass) > 20));
}

fn what_is_no_number_reaches_the_results(device: &dyn Device) {
    let some: Vec<Case> = mbconv_passes().into_iter().step_by(5).collect();
    reach_the_results(device, &poisoned(&some));
}

/// All that holds on any device.
pub(crate) fn on_any_device(device: &dyn Device) {
    check_all(&[device]);
    what_is_no_number_reaches_the_results(device);
    a_group_is_as_if_alone(device);
}

#[test]
fn the_cpu_agrees() {
    on_any_device(&Cpu);
    same_on_one_thread(&Cpu, &mbconv_passes());
}

/// Both orders of threads in one test: the f64 reference is much of its time.
#[cfg(natv2_emulator)]
#[test]
fn the_kernels_agree_on_the_emulator_in_both_orders_of_threads() {
    assert!(mbconv_passes().iter().all(|case| fits(&call_of(case).params, 227 << 10)));
    let [forward, reverse] = halves::emulated();
    check_all(&[&*forward, &*reverse]);
    same_on_one_thread(&*forward, &mbconv_passes());
    what_is_no_number_reaches_the_results(&*forward);
    a_group_is_as_if_alone(&*forward);
    a_group_is_as_if_alone(&*reverse);
}
