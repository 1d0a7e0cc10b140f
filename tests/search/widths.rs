//! Two super-networks of different widths in one run: warmed up, searched and adapted side by side.
#![cfg(unix)]

use crate::common::{ends_within, signal};
use natv2::data::Split;
use natv2::device::Cpu;
use natv2::engine::Evaluation;
use natv2::evaluator::{Evaluator, Options};
use natv2::run::events;
use natv2::space::Arch;
use natv2::supernet::{Card, Network};
use rand::RngExt;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

const WIDTHS: [f64; 2] = [0.1, 0.2];

fn natv2() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.stdin(Stdio::null());
    command
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Super-networks of both widths for another data set, which has `classes`.
fn supernets(folder: &Path, classes: usize) -> [String; 2] {
    WIDTHS.map(|width| {
        let file = folder.join(format!("w{width}.safetensors")).display().to_string();
        let (width, classes) = (width.to_string(), classes.to_string());
        let mut init = natv2();
        init.args(["supernet", "init", "--family", "EE_D", "--width", &width, "--classes", &classes]);
        init.args(["--seed", "1", "--out", &file]);
        finish(init);
        file
    })
}

/// The whole method with two super-networks that come from elsewhere.
fn command(run: &Path, [narrow, wide]: &[String; 2]) -> Command {
    let mut command = natv2();
    command.args(["run", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(run);
    for set in [
        "data.name=digits".to_string(),
        format!("supernet.weights={narrow}"),
        format!("supernet.wide_weights={wide}"),
        "finetune.pick=front".into(),
    ] {
        command.args(["--set", &set]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending != "toml" && ending != "jsonl"))
        .filter(|path| path.extension().is_some_and(|ending| ending != "html"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The architectures of `archive.json` or `front.json`, with their accuracies.
fn networks(run: &Path, name: &str, evaluator: &Evaluator) -> Vec<(Arch, f64)> {
    let file: Value = serde_json::from_slice(&std::fs::read(run.join(name)).unwrap()).unwrap();
    let network = |network: &Value| {
        let arch = Arch::from_json(evaluator.space().family(), &network["arch"]).unwrap();
        (arch, network["top1"].as_f64().unwrap())
    };
    file["networks"].as_array().unwrap().iter().map(network).collect()
}

#[test]
fn both_warm_up_then_train_together_and_the_archive_has_networks_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let weights = supernets(folder.path(), 7);
    let mut command = command(&run, &weights);
    command.args(["--set", "warmup.schedule=target"]);
    let summary = json(&finish(command));

    let phases: Vec<&str> = {
        let epochs = summary["training"]["epochs"].as_array().unwrap();
        let mut names: Vec<&str> = epochs.iter().map(|epoch| epoch["phase"].as_str().unwrap()).collect();
        names.dedup();
        names
    };
    assert_eq!(phases, ["full-narrow", "full-wide", "uniform"]);
    assert_eq!(summary["training"]["smallest"]["arch"]["w"], WIDTHS[0]);
    assert_eq!(summary["training"]["largest"]["arch"]["w"], WIDTHS[1]);

    // The archive's accuracies are those of the adapted weights, of either width.
    let file = |name: &str| Some(run.join(name));
    let options = Options {
        weights: file("adapted.safetensors"),
        wide_weights: file("adapted-wide.safetensors"),
        calibration_images: Some(50),
        ..Options::default()
    };
    let adapted = Evaluator::open(&options, Arc::new(Cpu)).unwrap();
    assert_eq!(adapted.space().widths(), WIDTHS);
    let archive = networks(&run, "archive.json", &adapted);
    for width in WIDTHS {
        assert!(archive.iter().any(|(arch, _)| arch.w == Some(width)), "none of width {width}");
    }
    let archs: Vec<Arch> = archive.iter().map(|(arch, _)| arch.clone()).collect();
    let found = adapted.evaluate(&archs, Split::Val, Some(50), &|| false, &|_, _| ()).unwrap().unwrap();
    let found: Vec<f64> = found.iter().map(Evaluation::top1).collect();
    assert_eq!(found, archive.iter().map(|(_, top1)| *top1).collect::<Vec<_>>());
    // One by one, on the super-network of its width alone, a network is the same.
    for width in 0..2 {
        let name = ["adapted.safetensors", "adapted-wide.safetensors"][width];
        let alone = Options { weights: file(name), wide_weights: None, ..options.clone() };
        let alone = Evaluator::open(&alone, Arc::new(Cpu)).unwrap();
        for (arch, top1) in archive.iter().filter(|(arch, _)| arch.w == Some(WIDTHS[width])) {
            let result =
                alone.evaluate(std::slice::from_ref(arch), Split::Val, Some(50), &|| false, &|_, _| ());
            assert_eq!(result.unwrap().unwrap()[0].top1(), *top1);
        }
    }
    let mut evaluate = natv2();
    evaluate.args(["evaluate", "--json", "--weights"]).arg(run.join("adapted.safetensors"));
    evaluate.arg("--wide-weights").arg(run.join("adapted-wide.safetensors"));
    evaluate.arg("--archs").arg(run.join("front.json"));
    let rows = json(&finish(evaluate));
    let front = summary["front"].as_array().unwrap();
    for (row, network) in rows["results"].as_array().unwrap().iter().zip(front) {
        assert_eq!((&row["params"], &row["macs"]), (&network["params"], &network["macs"]));
    }

    // Every network of the front has become one of its own, with the channels of its width.
    for network in summary["networks"].as_array().unwrap() {
        let file = run.join(network["weights"].as_str().unwrap());
        let own = Network::load(&file).unwrap();
        assert_eq!(Some(own.weights().channels().width), network["arch"]["w"].as_f64());
        assert_eq!(Card::beside(&file).unwrap().width, network["arch"]["w"].as_f64());
    }
    let mut export = natv2();
    export.args(["export", "--network", "1", "--run"]).arg(&run);
    export.arg("--out").arg(folder.path().join("one.onnx"));
    finish(export);
}

/// All of it in f16, where each of the two has a scale of its losses for itself; the warm-up is a sandwich.
#[test]
fn kills_and_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let weights = supernets(folder.path(), 7);
    let command = |run: &Path, weights: &[String; 2]| {
        let mut command = command(run, weights);
        command.args(["--precision", "f16"]);
        command
    };
    let start = Instant::now();
    finish(command(&at("whole"), &weights));
    let whole_run = start.elapsed();
    let mut one = command(&at("one"), &weights);
    one.args(["--threads", "1"]);
    finish(one);
    assert!(files(&at("one")) == files(&at("whole")));
    let mut rng = natv2::random::stream(4, "test/kills", 0, 0);
    let mut kills = 0;
    for _ in 0..10 {
        let mut child = command(&at("killed"), &weights).spawn().unwrap();
        if ends_within(&mut child, whole_run.mul_f64(rng.random_range(0.08..0.25))) {
            break;
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 2, "{kills} kills");
    finish(command(&at("killed"), &weights));
    assert!(files(&at("killed")) == files(&at("whole")), "after {kills} kills");
}

#[test]
fn new_ones_go_through_the_phases_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = natv2();
    command.args(["train", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(&run);
    command.args(["--set", "supernet.width=0.1", "--set", "supernet.wide_width=0.2"]);
    command.args(["--set", "train.schedule=eps"]);
    let summary = json(&finish(command));
    let mut stages: Vec<String> = events(&run).unwrap().into_iter().map(|event| event.stage).collect();
    stages.dedup();
    assert_eq!(stages, ["train", "train-wide"]);
    let width = |of: &Value| of["largest"]["arch"]["w"].as_f64().unwrap();
    assert_eq!([width(&summary), width(&summary["wide"])], WIDTHS);

    // Each as if it had trained alone.
    let alone = folder.path().join("alone");
    let mut command = natv2();
    command.args(["train", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(&alone);
    command.args(["--set", "supernet.width=0.2", "--set", "train.schedule=eps"]);
    finish(command);
    let read = |run: &Path, name: &str| std::fs::read(run.join(name)).unwrap();
    assert!(read(&run, "supernet-wide.safetensors") == read(&alone, "supernet.safetensors"));

    // A search in the same directory has both.
    let mut search = natv2();
    search.args(["search", "--json"]).arg(run.join("config.toml")).arg("--run").arg(&run);
    let found = json(&finish(search));
    let widths: Vec<f64> = found["front"]
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["arch"]["w"].as_f64().unwrap())
        .collect();
    assert!(widths.iter().all(|width| WIDTHS.contains(width)));
    let archive: Value = serde_json::from_slice(&read(&run, "archive.json")).unwrap();
    let networks = archive["networks"].as_array().unwrap();
    assert!(WIDTHS.iter().all(|width| networks.iter().any(|network| network["arch"]["w"] == *width)));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [narrow, wide] = supernets(folder.path(), 10);
    let refused = |arguments: &[&str], part: &str| {
        let output = natv2().args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains(part), "{message}");
    };
    let arch = "{\"r\":32,\"w\":0.1}";
    refused(&["evaluate", "--weights", &narrow, "--wide-weights", &narrow, "--arch", arch], "same width");
    let other = folder.path().join("other.safetensors").display().to_string();
    let mut init = natv2();
    init.args(["supernet", "init", "--family", "EE_D", "--width", "0.3", "--classes", "5", "--out", &other]);
    finish(init);
    refused(
        &["evaluate", "--weights", &narrow, "--wide-weights", &other, "--arch", arch],
        "classes are 10 and 5",
    );
    refused(&["search", "--set", &format!("supernet.wide_weights={wide}")], "give the narrow one");
    refused(&["train", "--set", "supernet.wide_width=0.25"], "the second super-network is the wider one");
    let weights = format!("supernet.weights={narrow}");
    refused(&["train", "--set", &weights, "--set", "supernet.wide_width=0.5"], "supernet.wide_weights");
}
