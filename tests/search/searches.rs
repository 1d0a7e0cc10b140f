//! Whole small searches: same bytes for any number of threads and any interruption.

use natv2::config::{self, Config};
use natv2::device::Cpu;
use natv2::evaluator::{Evaluator, Options};
use natv2::run::{Output, RunDirectory, StopFlag};
use natv2::search::results::Summary;
use natv2::search::{Outcome, search};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static EVALUATOR: LazyLock<Evaluator> = LazyLock::new(|| {
    let options = Options { calibration_images: Some(50), ..Options::default() };
    Evaluator::open(&options, Arc::new(Cpu)).unwrap()
});

fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    config::load("search", None, &sets, Some(config::Profile::Tiny)).unwrap()
}

fn run(folder: &Path, config: &Config, threads: usize) -> Summary {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let run = RunDirectory::open(folder).unwrap();
    let outcome = pool.install(|| search(config, &EVALUATOR, &run, &StopFlag::new(), Output::Silent));
    match outcome.unwrap() {
        Outcome::Finished(summary, _) => summary,
        Outcome::Stopped => panic!("nobody asked for a stop"),
    }
}

fn files(folder: &Path) -> [Vec<u8>; 2] {
    ["archive.json", "front.json"].map(|name| std::fs::read(folder.join(name)).unwrap())
}

#[test]
fn one_and_two_threads_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folders = [folder.path().join("one"), folder.path().join("two")];
    let config = config(&[]);
    let summaries = [run(&folders[0], &config, 1), run(&folders[1], &config, 2)];
    assert_eq!(files(&folders[0]), files(&folders[1]));
    assert_eq!(summaries[0].front, summaries[1].front);
    assert_eq!(summaries[0].hypervolume.to_bits(), summaries[1].hypervolume.to_bits());
    // 12 times 2 to start with, and 3 in each of 2 iterations.
    assert_eq!(summaries[0].evaluations, 30);
}

#[test]
fn results_have_the_published_form() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&["search.objectives=[\"top1\",\"macs\",\"latency\"]"]);
    let summary = run(folder.path(), &config, 2);
    let [archive, front] = files(folder.path()).map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
    for (file, len) in [(&archive, 12), (&front, summary.front.len())] {
        assert_eq!(file["version"], 1);
        assert_eq!(file["objectives"], serde_json::json!(["top1", "macs", "latency"]));
        let networks = file["networks"].as_array().unwrap();
        assert_eq!(networks.len(), len);
        let genotypes: Vec<Vec<u64>> =
            networks.iter().map(|n| serde_json::from_value(n["genotype"].clone()).unwrap()).collect();
        assert!(genotypes.is_sorted());
        for network in networks {
            assert!(network["latency_ms"].as_f64().unwrap() > 0.0);
            assert!((0.0..=100.0).contains(&network["top1"].as_f64().unwrap()));
            let arch = natv2::space::Arch::from_json(EVALUATOR.space().family(), &network["arch"]).unwrap();
            let genotype: Vec<u64> = serde_json::from_value(network["genotype"].clone()).unwrap();
            let encoded: Vec<u64> =
                EVALUATOR.space().encode(&arch).unwrap().into_iter().map(u64::from).collect();
            assert_eq!(encoded, genotype);
        }
    }
    // Networks of the front have a number, by cost and then by genotype, wherever they are listed.
    let listed = |file: &Value| file["networks"].as_array().unwrap().clone();
    let mut by_cost = listed(&front);
    by_cost.sort_by_key(|n| {
        (n["macs"].as_u64(), serde_json::from_value::<Vec<u8>>(n["genotype"].clone()).unwrap())
    });
    let numbers: Vec<u64> = by_cost.iter().map(|n| n["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=by_cost.len() as u64).collect::<Vec<_>>());
    for network in listed(&archive) {
        let same = by_cost.iter().find(|n| n["genotype"] == network["genotype"]);
        assert_eq!(network["number"], same.map_or(Value::Null, |n| n["number"].clone()), "{network}");
    }
    for network in &summary.front {
        let same = by_cost.iter().find(|n| n["genotype"] == serde_json::json!(network.genotype)).unwrap();
        assert_eq!(same["number"].as_u64(), network.number.map(|number| number as u64));
    }
    assert!(front["networks"].as_array().unwrap().iter().all(|n| n["test_top1"].is_f64()));
    assert!(archive["networks"].as_array().unwrap().iter().all(|n| n.get("test_top1").is_none()));
    // A finished run gives its result again; measured latencies are part of it.
    assert_eq!(run(folder.path(), &config, 1), summary);
}

#[test]
fn both_bounds_start_in_the_archive_and_every_policy_keeps_its_size() {
    for (sets, size) in [
        (&["search.iterations=1", "search.method=random"][..], 12),
        (&["search.iterations=1", "search.method=nat"], 15),
        (&["search.iterations=1", "search.growth=nat"], 15),
        (&["search.iterations=1", "search.update=nat"], 12),
        (&["search.iterations=1", "search.objectives=[\"top1\"]"], 12),
        (&["search.iterations=1", "search.objectives=[\"top1\",\"params\"]", "predictor.kind=gbdt"], 12),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(sets);
        run(folder.path(), &config, 2);
        let checkpoint = natv2::run::latest_checkpoint(folder.path(), "search").unwrap().checkpoint.unwrap();
        let state =
            natv2::search::State::parse(&checkpoint.read("state.json").unwrap(), "state.json").unwrap();
        assert_eq!(state.archive.entries.len(), size, "{sets:?}");
        assert_eq!(state.history.len(), 2);
        let space = EVALUATOR.space();
        assert!(state.seen.binary_search(&space.upper().to_vec()).is_ok());
        assert!(natv2::search::initial::bounds(space).iter().all(|b| state.seen.binary_search(b).is_ok()));
    }
}

#[test]
fn an_archive_of_other_weights_is_not_mixed_with_these() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &config(&[]), 2);
    let run = RunDirectory::open(folder.path()).unwrap();
    let more = config(&["search.eval_images=20"]);
    let error = search(&more, &EVALUATOR, &run, &StopFlag::new(), Output::Silent).unwrap_err();
    assert!(error.to_string().contains("other weights, images or arithmetic"), "{error}");
}

#[test]
fn a_stop_leaves_a_run_that_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let config = config(&[]);
    run(&whole, &config, 2);
    let directory = RunDirectory::open(&stopped).unwrap();
    let stop = StopFlag::new();
    stop.request();
    let outcome = search(&config, &EVALUATOR, &directory, &stop, Output::Silent).unwrap();
    assert!(matches!(outcome, Outcome::Stopped));
    drop(directory);
    run(&stopped, &config, 1);
    assert_eq!(files(&whole), files(&stopped));
}

/// The kernels of the GPU, on the emulator: the same search up to rounding in the accuracies.
#[cfg(natv2_emulator)]
#[test]
fn the_emulated_device_finds_the_same_networks_as_the_cpu() {
    let device = natv2::device::open("emulated").unwrap();
    let options = Options { calibration_images: Some(20), ..Options::default() };
    let config = config(&[
        "search.eval_images=20",
        "search.archive=6",
        "search.iterations=1",
        "search.candidates=1",
        "predictor.folds=3",
    ]);
    let summaries = [Arc::new(Cpu) as Arc<dyn natv2::device::Device>, device].map(|device| {
        let evaluator = Evaluator::open(&options, device).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path()).unwrap();
        match search(&config, &evaluator, &run, &StopFlag::new(), Output::Silent).unwrap() {
            Outcome::Finished(_, state) => state,
            Outcome::Stopped => panic!("nobody asked for a stop"),
        }
    });
    let [cpu, emulated] = summaries;
    assert_ne!(
        cpu.began_with.fingerprint, emulated.began_with.fingerprint,
        "results of two devices must not be mixed"
    );
    assert_eq!(cpu.seen, emulated.seen);
    for (a, b) in cpu.archive.entries.iter().zip(&emulated.archive.entries) {
        assert_eq!((&a.genotype, a.cost, a.images), (&b.genotype, b.cost, b.images));
        assert!(a.correct.abs_diff(b.correct) <= 1, "{} against {}", a.correct, b.correct);
        assert!((a.loss - b.loss).abs() < 1e-3, "{} against {}", a.loss, b.loss);
    }
}
