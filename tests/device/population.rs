//! A population evaluated as a tree gives the bits of its networks evaluated one by one: in every
//! family, with resolutions mixed, several exits, duplicates, and whatever memory and threads there
//! are.

use natv2::device::{self, Device};
use natv2::engine::plan::{Mode, Reads, lower, lower_tree};
use natv2::engine::tree::Tree;
use natv2::engine::{Calibration, Cropped, Engine, Evaluation, Precision};
use natv2::ops::Threads;
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family, Space};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIDE: usize = 40;

fn images(count: usize, purpose: &str) -> (Tensor, Vec<u32>) {
    let mut rng = stream(5, purpose, 0, 0);
    let data = (0..count * 3 * SIDE * SIDE).map(|_| rng.random::<f32>() * 4.0 - 2.0).collect();
    let labels = (0..count as u32).map(|index| index % 10).collect();
    (Tensor { shape: vec![count, 3, SIDE, SIDE], data }, labels)
}

fn supernet(family: Family) -> Supernet {
    Supernet::random(&Blank::new(family, 0.25, 10), 3).unwrap()
}

/// Networks with prefixes in common, at their own exits and at several, one of them twice.
fn population(family: Family, count: usize) -> Vec<(Arch, Exits)> {
    let space = Space::new(family, &[32, 40], &[0.25], ExitScaling::Once).unwrap();
    let mut rng = stream(6, "population", 0, 0);
    let mut archs: Vec<Arch> = Vec::new();
    for index in 0..count {
        let mut arch = space.decode(&sample(&space, Policy::Nat, &mut rng)).unwrap();
        if index % 3 > 0 {
            arch = archs[index - 1].clone();
            // Anywhere from the last stage to the first.
            arch.ks[19 - 4 * (index % 5)] = 3 + 2 * (index % 3) as u8;
            arch.e[18 - 4 * (index % 5)] = 3;
            arch.d[4 - index % 5] = 2 + (index % 2) as u8;
        }
        archs.push(arch);
    }
    archs.push(archs[0].clone());
    let exits = |(index, arch): (usize, &Arch)| match index % 3 {
        1 => Exits::up_to(arch),
        _ => Exits::single(arch),
    };
    let exits: Vec<Exits> = archs.iter().enumerate().map(exits).collect();
    archs.into_iter().zip(exits).collect()
}

fn bits(results: &[Vec<Evaluation>]) -> Vec<Vec<(usize, usize, u64)>> {
    let one = |e: &Evaluation| (e.correct, e.images, e.loss.to_bits());
    results.iter().map(|exits| exits.iter().map(one).collect()).collect()
}

fn check(device: Arc<dyn Device>, precision: Precision, family: Family, count: usize, budgets: &[usize]) {
    let (test, labels) = images(7, "test");
    let (train, _) = images(9, "train");
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let recalibrate = Calibration::Batches { images: &train, count: 9, batch: 3 };
    let networks = population(family, count);
    for calibration in [recalibrate, Calibration::Stored] {
        let net = Arc::new(supernet(family));
        let engine = Engine::in_precision(device.clone(), net, precision).unwrap();
        let alone: Vec<Vec<Evaluation>> = networks
            .iter()
            .map(|(arch, exits)| engine.evaluate(arch, *exits, &test, calibration, Threads::One).unwrap())
            .collect();
        let mut engine = engine;
        for &budget in budgets {
            engine = engine.with_budget(budget);
            let calls = AtomicUsize::new(0);
            let done = |index: usize, results: &[Evaluation]| {
                calls.fetch_add(1, Ordering::Relaxed);
                assert_eq!(bits(&[results.to_vec()]), bits(&alone[index..=index]));
            };
            let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &done);
            let found = found.unwrap().unwrap();
            let what = format!("{family} on {}, {budget} bytes", device.describe());
            assert_eq!(bits(&found.results), bits(&alone), "{what}");
            assert_eq!(calls.into_inner(), networks.len(), "{what}");
            assert!(
                found.saving.distinct < found.saving.executions || budget == 0,
                "{what}: {}",
                found.saving
            );
        }
    }
}

#[test]
fn a_tree_gives_what_its_networks_give_alone() {
    for family in Family::all() {
        check(device::open("cpu").unwrap(), Precision::F32, family, 12, &[512 << 20, 300_000, 0]);
    }
}

/// On a device with a name both precisions, and twenty-four networks: from there on there are groups for both streams
/// of a card.
#[test]
fn engine_populations_on_the_kernels_too() {
    let (devices, precisions, count) = match crate::named() {
        Some(device) => (vec![device], &[Precision::F32, Precision::Bf16][..], 24),
        None => {
            let reference = device::open("reference-f32").unwrap();
            (crate::emulators().take(1).chain([reference]).collect(), &[Precision::F32][..], 4)
        }
    };
    for device in &devices {
        for family in ["SE_B", "EE_DP"] {
            for &precision in precisions {
                check(device.clone(), precision, family.parse().unwrap(), count, &[512 << 20]);
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (test, labels) = images(7, "test");
    let (train, _) = images(9, "train");
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let calibration = Calibration::Batches { images: &train, count: 9, batch: 3 };
    for family in ["SE_D", "EE_P"] {
        let family = family.parse().unwrap();
        let networks = population(family, 11);
        let run = |threads: usize| {
            // More threads than batches run groups side by side.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let engine = Engine::new(device::open("cpu").unwrap(), Arc::new(supernet(family))).unwrap();
                let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ());
                bits(&found.unwrap().unwrap().results)
            })
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert_eq!(run(threads), one, "{family} with {threads} threads");
        }
    }
}

#[test]
fn a_population_of_one_runs_what_a_network_runs() {
    let family: Family = "EE_DP".parse().unwrap();
    let net = supernet(family);
    for (arch, exits) in population(family, 6) {
        let tree = Tree::new(net.channels(), &[(&arch, exits)]);
        assert_eq!(tree.saving().distinct, tree.saving().executions);
        let alone = lower(&net.layout, &arch, exits, 4, Mode::Inference, Precision::F32).0;
        let program = lower_tree(&net.layout, &tree, 4, Mode::Inference, Reads::Logits, Precision::F32).0;
        assert_eq!(program.calls, alone.calls);
        let scored = lower_tree(&net.layout, &tree, 4, Mode::Inference, Reads::Scores, Precision::F32).0;
        assert_eq!(scored.calls.len(), alone.calls.len() + exits.len());
    }
}

#[test]
fn a_stop_ends_it_and_nothing_to_do_is_done() {
    let family = Family::SE_B;
    let (test, labels) = images(7, "test");
    let test = Cropped::new(&test, &labels).unwrap();
    let engine = Engine::new(device::open("cpu").unwrap(), Arc::new(supernet(family))).unwrap();
    let networks = population(family, 5);
    let run = |networks: &[(Arch, Exits)], stop: &(dyn Fn() -> bool + Sync)| {
        engine.evaluate_population(networks, &test, Calibration::Stored, stop, &|_, _| ()).unwrap()
    };
    assert_eq!(run(&networks, &|| true), None);
    let asked = AtomicUsize::new(0);
    assert_eq!(run(&networks, &|| asked.fetch_add(1, Ordering::Relaxed) >= 1), None);
    assert!(run(&[], &|| false).unwrap().results.is_empty());
}
