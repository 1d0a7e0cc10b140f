//! Populations on two streams, and searches, give the same whatever the order in which a card comes to its work, and
//! whether it makes graphs of launches or not.
//!
//! Six interleavings of each are tried here, and 200 with `NATV2_STAND_IN_LONG=1`.
#![cfg(all(natv2_emulator, natv2_fatbin))]

use crate::common::stand_in::alone;
use crate::jobs::{Job, is_long, side_by_side};
use natv2::device::{self, Device};
use natv2::engine::{Calibration, Cropped, Engine, Evaluation, Graphs, Precision};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;

/// Interleavings that are tried.
fn seeds() -> Vec<u64> {
    (1..=if is_long() { 200 } else { 6 }).collect()
}

/// Images of noise, 32 pixels wide.
fn images(count: usize) -> Tensor {
    let mut random = stream(3, "populations", 0, 0);
    let data = (0..count * 3 * 32 * 32).map(|_| random.random::<f32>() * 4.0 - 2.0).collect();
    Tensor { shape: vec![count, 3, 32, 32], data }
}

/// A population on a device, in groups that two streams take in turn; each call of what is given gives right answers
/// and losses of its networks.
fn population(
    device: Arc<dyn Device>,
    precision: Precision,
    graphs: Graphs,
) -> impl Fn() -> Vec<(usize, u64)> {
    let blank = Blank::new(Family::SE_B, 0.1, 10);
    let supernet = Arc::new(Supernet::random(&blank, 1).expect("a super-network"));
    let engine = Engine::in_precision(device, supernet, precision).expect("an engine");
    // Little, so that there are several groups.
    let engine = engine.with_budget(1 << 14).with_graphs(graphs);
    let network = |index: usize| {
        let mut arch = Arch { d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
        (arch.ks, arch.e) = ([3; 20], [3; 20]);
        arch.ks[4 * index] = 5;
        (arch.clone(), Exits::single(&arch))
    };
    let networks: Vec<(Arch, Exits)> = (0..4).map(network).collect();
    let (test, train) = (images(3), images(4));
    move || {
        let (test, train) = (Cropped::new(&test, &[1, 2, 3]), Cropped::new(&train, &[]));
        let (test, train) = (test.expect("images"), train.expect("images"));
        let calibration = Calibration::Batches { images: &train, count: 4, batch: 2 };
        let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ());
        let results = found.expect("it runs").expect("nobody stops it").results;
        let one = |e: &Evaluation| (e.correct, e.loss.to_bits());
        results.iter().flatten().map(one).collect()
    }
}

fn emulated(precision: Precision) -> Vec<(usize, u64)> {
    population(device::open("emulated").expect("the emulator"), precision, Graphs::Never)()
}

#[test]
fn a_population_on_two_streams_is_the_same_in_other_interleavings() {
    // The other process has no variables of the driver but these.
    let Some(driver) = alone!(&[("LONG", if is_long() { "1" } else { "0" })]) else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        driver.set_seed(0);
        let wanted = emulated(precision);
        let (before, graphs) = (driver.count("cuStreamCreate"), driver.count("cuGraphLaunch"));
        let evaluate = population(device::open("cuda").expect("the card"), precision, Graphs::Auto);
        assert!(evaluate() == wanted && driver.count("cuStreamCreate") == before + 2, "two streams");
        for seed in seeds() {
            driver.set_seed(seed);
            assert_eq!(evaluate(), wanted, "{precision}, seed {seed}");
        }
        assert!(driver.count("cuGraphLaunch") > graphs);
    }
}

#[test]
fn a_search_is_the_same_in_other_interleavings() {
    let (job, folder) = (Job::search(), tempfile::tempdir().expect("a folder"));
    let Some(wanted) = job.run(folder.path(), &[]) else { return };
    assert!(wanted.code == Some(0) && wanted.results.len() == 4, "{}", wanted.said);
    let complaints = side_by_side(&seeds(), |seed| {
        let folder = tempfile::tempdir().expect("a folder");
        let found = job.run(folder.path(), &[("SEED", &seed.to_string())])?;
        let same = found.code == Some(0) && found.results == wanted.results;
        (!same).then(|| format!("seed {seed}: {:?}, {}", found.code, found.said))
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The rest of a test in which graphs cannot be had: two populations one after the other.
fn runs_without_graphs(launched: impl Fn() -> u64) {
    let evaluate = population(device::open("cuda").expect("the card"), Precision::F32, Graphs::Always);
    let wanted = emulated(Precision::F32);
    for round in 0..2 {
        let before = launched();
        assert_eq!(evaluate(), wanted, "round {round}");
        assert!(launched() > before + 100, "launches go one by one");
    }
}

#[test]
fn no_room_for_graphs_makes_them_launches() {
    let fail = "cuGraphInstantiateWithFlags:*:CUDA_ERROR_OUT_OF_MEMORY";
    let Some(driver) = alone!(&[("FAIL", fail)]) else { return };
    runs_without_graphs(|| driver.count("cuLaunchKernel"));
    assert_eq!(driver.count("cuGraphLaunch"), 0);
}

#[test]
fn no_room_for_a_launch_of_a_graph_makes_it_launches() {
    let Some(driver) = alone!(&[("FAIL", "cuGraphAddKernelNode_v2:40+:CUDA_ERROR_OUT_OF_MEMORY")]) else {
        return;
    };
    runs_without_graphs(|| driver.count("cuLaunchKernel"));
    assert_eq!(driver.count("cuGraphLaunch"), 0);
}

#[test]
fn cards_that_know_no_graphs_get_launches() {
    let Some(driver) = alone!(&[("FAIL", "cuGraphCreate:*:CUDA_ERROR_NOT_SUPPORTED")]) else { return };
    runs_without_graphs(|| driver.count("cuLaunchKernel"));
    assert!((1..=2).contains(&driver.count("cuGraphCreate")), "each stream asks once");
}

#[test]
fn graphs_that_do_not_start_for_want_of_room_are_launches() {
    // The first two start.
    let Some(driver) = alone!(&[("FAIL", "cuGraphLaunch:3+:CUDA_ERROR_OUT_OF_MEMORY")]) else { return };
    runs_without_graphs(|| driver.count("cuLaunchKernel"));
    assert!(driver.count("cuGraphLaunch") > 3);
}
