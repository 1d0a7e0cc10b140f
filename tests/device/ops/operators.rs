//! Every operator on every device, from one table of shapes (`natv2::ops::cases`), against the f64
//! reference: the normalised mean squared error is below 1e-10, every element of a result is
//! written (all start as NaN), nothing else is, and weights beyond the prefix in use, which are NaN,
//! are not read; nor are gradients beyond the prefix written. What is no number in an operand reaches
//! the results.

use natv2::bench::kernels::{TOLERANCE, arena_after, check_against};
use natv2::data::Transform;
use natv2::device::{Cpu, Device, Memory};
use natv2::ops::batch_norm::{BLOCK_ROWS, BatchFold, BnMerge, BnStatistics, Merge, MergeParams};
use natv2::ops::cases::{
    Case, edges, expand_depthwise_edges, half_products, half_rows, half_weights, mbconv_edges, mbconv_group,
    mbconv_pass_group, mbconv_passes, network,
};
use natv2::ops::preprocess::{Params, Preprocess, pack};
use natv2::ops::simd::Isa;
use natv2::ops::{Call, Region, Slot, Threads};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use super::halves::defined;
use super::not_numbers::{poisoned, reach_the_results};

fn check_all(devices: &[Arc<dyn Device>], cases: &[Case], defined: &[Vec<f32>]) {
    let mut wrong = Vec::new();
    for (case, wanted) in cases.iter().zip(defined) {
        for device in devices {
            let found = check_against(&**device, case, wanted).unwrap();
            if !found.is_some_and(|error| error < TOLERANCE) {
                wrong.push(format!("{}: {} {}: {found:?}", device.describe(), case.call.name(), case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Results must not depend on the number of threads, to the bit.
fn same_on_one_thread(device: &dyn Device, cases: &[Case]) {
    for case in cases {
        let bits = |threads| -> Vec<u32> {
            let arena = arena_after(device, case, threads).unwrap();
            case.results().iter().flat_map(|s| &arena[s.offset..][..s.len]).map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(Threads::One), bits(Threads::All), "{} {}", case.call.name(), case.name);
    }
}

#[test]
fn networks_run_the_operators_of_the_table_and_no_case_stands_twice() {
    let cases = edges();
    let names: BTreeSet<(&str, &str)> = cases.iter().map(|c| (c.call.name(), c.name.as_str())).collect();
    assert_eq!(names.len(), cases.len());
    let operators: BTreeSet<&str> = names.iter().map(|(operator, _)| *operator).collect();
    let network: BTreeSet<&str> = network(1, 32).iter().map(|c| c.call.name()).collect();
    assert_eq!(operators, network);
    // The others have tables of their own: they take 16-bit numbers alone, or many calls of such an operator.
    let halves = [half_products(), half_weights(), half_rows(), mbconv_edges(), expand_depthwise_edges()];
    let others =
        halves.concat().into_iter().chain(mbconv_passes()).chain([mbconv_group(), mbconv_pass_group()]);
    let others: BTreeSet<&str> = others.map(|case| case.call.name()).collect();
    let all: BTreeSet<&str> = Call::NAMES.iter().copied().collect();
    assert_eq!(operators, &all - &others);
}

/// The bits of slots after some calls on a case's operands, with `more` elements behind them.
fn bits_after(
    device: &dyn Device,
    case: &Case,
    calls: &[Call],
    more: usize,
    slots: &[Slot],
) -> Vec<Vec<u32>> {
    let (weights, arena) = case.operands(7);
    let mut buffer = device.allocate(arena.len() + more).unwrap();
    let mut stored = device.allocate(weights.len()).unwrap();
    device.upload(&mut stored, 0, &weights).unwrap();
    device.upload(&mut buffer, 0, &arena).unwrap();
    let memory = Memory { weights: &stored, network: &stored, arena: &mut buffer };
    device.run(calls, memory, Threads::All).unwrap();
    let mut out = vec![0.0; arena.len() + more];
    device.download(&buffer, 0, &mut out).unwrap();
    let bits = |s: &Slot| out[s.offset..][..s.len].iter().map(|value: &f32| value.to_bits()).collect();
    slots.iter().map(bits).collect()
}

/// The branches of a layer in one call give the bits of a call each.
fn branches_are_those_of_separate_calls(device: &dyn Device) {
    let mut checked = 0;
    for case in edges().into_iter().chain(network(2, 40)) {
        let Call::Branches(call) = &case.call else { continue };
        let scratch = Slot { region: Region::Arena, offset: case.arena, len: call.scratch_len() };
        let run = |calls: &[Call]| bits_after(device, &case, calls, scratch.len, &case.results());
        assert_eq!(run(std::slice::from_ref(&case.call)), run(&call.separate(scratch)), "{}", case.name);
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// Every merge of a list leaves the bits that it leaves alone, and one of what a map's statistics are merged
/// from the bits of those.
fn merges_are_those_of_separate_calls(device: &dyn Device) {
    let mut checked = [0, 0];
    for case in edges() {
        match &case.call {
            Call::BnMerge(all) if all.calls.len() > 1 => {
                let one = |merge: &Merge| Call::from(BnMerge { calls: vec![merge.clone()] });
                let alone: Vec<Call> = all.calls.iter().map(one).collect();
                let run = |calls: &[Call]| bits_after(device, &case, calls, 0, &case.results());
                assert_eq!(run(std::slice::from_ref(&case.call)), run(&alone), "{}", case.name);
                checked[0] += 1;
            }
            // One whose blocks leave partial statistics on every device: of one batch, as the next may take
            // their place.
            Call::BnStatistics(call) if call.params.rows as usize > 32 * BLOCK_ROWS => {
                let (mut p, batches) = (call.params, call.params.batches as usize);
                p.batches = 1;
                let one = |slot: Slot| slot.part(0, slot.len / batches);
                let batch = one(call.batch);
                let fold =
                    call.fold.map(|f| BatchFold { scale: one(f.scale), shift: one(f.shift), ..f }).unwrap();
                let whole = BnStatistics { params: p, batch, fold: Some(fold), ..call.clone() };
                let params = MergeParams {
                    rows: p.rows,
                    unit_rows: BLOCK_ROWS as u32,
                    span_rows: p.rows,
                    channels: p.channels,
                    batches: 1,
                    epsilon: p.epsilon,
                };
                let mut end = case.arena;
                let mut again = |slot: Slot| {
                    end += slot.len;
                    Slot { offset: end - slot.len, ..slot }
                };
                let fold = Some(BatchFold { scale: again(fold.scale), shift: again(fold.shift), ..fold });
                let merges = vec![Merge { params, partials: call.partials, batch: again(batch), fold }];
                let calls = [Call::from(whole), Call::from(BnMerge { calls: merges })];
                // The first of what the statistics write are the partial ones.
                let slots = [&calls[0].writes()[1..], &calls[1].writes()].concat();
                let found = bits_after(device, &case, &calls, end - case.arena, &slots);
                assert_eq!(found[..3], found[3..], "{}", case.name);
                checked[1] += 1;
            }
            _ => {}
        }
    }
    assert_eq!(checked, [1, 1]);
}

/// The device with a name, else the emulator: the CPU has more to check, below.
fn kernels() -> Vec<Arc<dyn Device>> {
    crate::named().map_or_else(|| crate::emulators().take(1).collect(), |one| vec![one])
}

#[test]
fn operators_are_as_defined() {
    let devices = crate::named().map_or_else(|| crate::emulators().collect(), |one| vec![one]);
    let cases = edges();
    check_all(&devices, &cases, &defined(&cases));
}

/// The shapes of real networks; the f64 reference has to run all images too.
#[test]
fn operators_of_networks_are_as_defined() {
    let cases = network(if crate::named().is_some() { 4 } else { 2 }, 40);
    check_all(&kernels(), &cases, &defined(&cases));
}

#[test]
fn operators_pass_on_what_is_no_number() {
    reach_the_results(&kernels(), &poisoned(&edges()));
}

#[test]
fn operators_in_lists_are_those_of_separate_calls() {
    for device in kernels() {
        branches_are_those_of_separate_calls(&*device);
        merges_are_those_of_separate_calls(&*device);
    }
    let lists = edges().into_iter().filter(|case| matches!(case.call, Call::BnMerge(_)));
    let launches: Vec<u32> = lists.map(|case| natv2::device::launches(&case.call)).collect();
    assert_eq!(launches, [[1; 16].as_slice(), &[2]].concat());
}

#[test]
fn operators_preprocess_as_the_transform_of_the_data_sets() {
    kernels().iter().for_each(|device| preprocessing_is_that_of_the_data_sets(&**device));
}

#[test]
fn preprocessing_on_the_host_is_the_transform_of_the_data_sets() {
    for name in ["cpu", "reference-f64"] {
        preprocessing_is_that_of_the_data_sets(&*natv2::device::open(name).unwrap());
    }
}

#[test]
fn threads_change_no_bit_on_the_emulator() {
    crate::emulators().take(1).for_each(|device| same_on_one_thread(&*device, &edges()));
}

/// Says that this process is there for one test.
const ALONE: &str = "NATV2_TEST_ALONE";

/// The instruction set is the process's, so that this is made in one of its own: this program again, with this test.
#[test]
fn the_cpu_agrees_with_every_instruction_set() {
    if std::env::var_os(ALONE).is_none() {
        let this = "ops::operators::the_cpu_agrees_with_every_instruction_set";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", this, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let printed =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success() && printed[0].contains("1 passed"), "{}", printed.concat());
        return;
    }
    let cases = edges();
    let (defined, poisoned) = (defined(&cases), poisoned(&cases));
    let cpu: [Arc<dyn Device>; 1] = [Arc::new(Cpu)];
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
        if isa.pin().is_ok() {
            check_all(&cpu, &cases, &defined);
            same_on_one_thread(&Cpu, &cases);
            branches_are_those_of_separate_calls(&Cpu);
            merges_are_those_of_separate_calls(&Cpu);
            reach_the_results(&cpu, &poisoned);
        }
    }
}

fn preprocessing_is_that_of_the_data_sets(device: &dyn Device) {
    let (side, r) = (32usize, 48usize);
    let pixels: Vec<u8> = (0..2 * side * side * 3).map(|i| (i * i % 251 + i % 5) as u8).collect();
    let packed = pack(&pixels);
    let transform = Transform::new(r, [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616], 255.0).unwrap();
    let y = Slot { region: Region::Arena, offset: 0, len: 2 * r * r * 3 };
    let call = Call::from(Preprocess {
        params: Params {
            images: 2,
            side_in: side as u32,
            side_out: r as u32,
            first: 0,
            scale: transform.scale(),
            mean: transform.mean(),
            std: transform.std(),
        },
        x: Slot::weights(0, packed.len()),
        indices: None,
        windows: None,
        y,
    });
    let (mut weights, mut arena) = (device.allocate(packed.len()).unwrap(), device.allocate(y.len).unwrap());
    device.upload(&mut weights, 0, &packed).unwrap();
    let memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
    device.run(std::slice::from_ref(&call), memory, Threads::All).unwrap();
    let mut out = vec![0.0; y.len];
    device.download(&arena, 0, &mut out).unwrap();
    for (image, out) in pixels.chunks(side * side * 3).zip(out.chunks(r * r * 3)) {
        for (found, wanted) in out.iter().zip(transform.reference::<f64>(image, side)) {
            let close = (f64::from(*found) - wanted).abs() < 2e-6;
            assert!(close, "{}: {found} {wanted}", device.describe());
        }
    }
}
