//! What the default schedules rest on: with little time, all sub-networks at once reach more than phase by phase.
//!
//! Six seeds each on a part of the digits, compared seed by seed. `docs/training.md` has the figures of longer
//! trainings.

use serde_json::Value;
use std::process::{Command, Stdio};

/// So that a training takes a second or two.
const SMALL: [&str; 4] = [
    "train.resolutions=[32]",
    "train.epoch_images=384",
    "train.calibration_images=200",
    "train.validation_networks=2",
];

/// Accuracies on the test images, in per cent: the smallest network, the largest, and 20 random ones on average.
fn trained(seed: u64, set: &[&str]) -> [f64; 3] {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["train", "--json", "-q", "--device", "cpu", "--seed", &seed.to_string(), "--run"]);
    command.arg(folder.path().join("run")).args(SMALL.iter().chain(set).flat_map(|set| ["--set", set]));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let top1 = |row: &Value| row["top1"].as_f64().unwrap();
    let random = report["random"].as_array().unwrap();
    let mean = random.iter().map(top1).sum::<f64>() / random.len() as f64;
    [top1(&report["smallest"]), top1(&report["largest"]), mean]
}

/// Of every seed, each accuracy of `better` is above that of `other`.
fn all_seeds(better: &[&str], other: &[&str]) {
    for seed in 0..6 {
        let [more, less] = [better, other].map(|set| trained(seed, set));
        assert!(more.iter().zip(less).all(|(more, less)| *more > less), "{seed}: {more:?}, {less:?}");
    }
}

/// An epoch of progressive shrinking takes longer than one of a sandwich, if anything.
#[test]
fn from_random_weights_a_sandwich_reaches_more_than_progressive_shrinking() {
    let by = |schedule| ["supernet.width=0.1", "train.epochs=6", schedule];
    all_seeds(&by("train.schedule=sandwich"), &by("train.schedule=eps"));
}

/// Two epochs of the warm-up, its fewest, against one of a sandwich.
#[test]
fn trained_weights_fit_another_data_set_sooner_with_a_sandwich() {
    let weights = concat!(
        "supernet.weights=",
        env!("CARGO_MANIFEST_DIR"),
        "/checkpoints/ofa_mbv3_w025_cifar10.safetensors"
    );
    let by = |schedule, epochs| [weights, "data.name=digits", schedule, epochs];
    all_seeds(
        &by("train.schedule=sandwich", "train.epochs=1"),
        &by("train.schedule=target", "train.epochs=2"),
    );
}
