//! `natv2 run`: the whole method in small, from random weights to ONNX files that are run, and runs
//! that are killed or stopped at any moment end as if nothing had happened.
#![cfg(unix)]

use crate::common::{ends_within, signal};
use crate::onnx;
use natv2::data::{self, Facts, Pixels, Spec, Split, Transform, Validation};
use natv2::run::events;
use natv2::supernet::{Checkpoint, Network, Tensor};
use rand::RngExt;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Every stage in seconds: an early-exit family whose networks end as pruned ensembles.
fn command(folder: &Path) -> Command {
    let mut command = plain(folder);
    command.arg("--json");
    command
}

/// The same without JSON.
fn plain(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["run", "--profile", "tiny", "--device", "cpu", "--run"]).arg(folder);
    for set in [
        "supernet.family=EE_D",
        "supernet.width=0.1",
        "train.checkpoint_steps=2",
        "finetune.exits=asc",
        "finetune.count=2",
    ] {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Every result in a run directory, by name.
fn results(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("json" | "safetensors" | "onnx"))
        })
        .map(|path| (path.file_name().unwrap().to_str().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The report without the name of its run directory.
fn report(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("report.html")).unwrap();
    text.replace(folder.to_str().unwrap(), "RUN")
}

#[track_caller]
fn same(a: &Path, b: &Path) {
    for ((name, first), (other, second)) in results(a).iter().zip(&results(b)) {
        assert!(name == other && first == second, "{name} and {other} differ");
    }
    assert_eq!(results(a).len(), results(b).len());
    assert_eq!(report(a), report(b));
}

/// The accuracy on the test images of an ONNX file, run by the interpreter, per cent.
fn accuracy(file: &Path, side: usize) -> f64 {
    let spec = Spec { name: "digits".into(), dir: None, validation: Validation::default(), side: None };
    let dataset = data::open(&spec).unwrap();
    let test = dataset.split(Split::Test);
    let Pixels { mean, std } = Facts::of("digits").unwrap().pixels;
    let transform = Transform::new(side, mean, std, dataset.scale()).unwrap();
    let mut nhwc = vec![0.0; test.len() * transform.output_len()];
    transform.apply(&dataset, test, &mut nhwc);
    let plane = |image: &[f32], channel| image.iter().skip(channel).step_by(3).copied().collect::<Vec<_>>();
    let images = nhwc.chunks_exact(3 * side * side);
    let data = images.flat_map(|image| (0..3).flat_map(move |channel| plane(image, channel))).collect();
    let images = Tensor { shape: vec![test.len(), 3, side, side], data };
    let model = onnx::Model::parse(&std::fs::read(file).unwrap());
    assert!(!model.operators().contains("BatchNormalization"), "batch norms are folded");
    let outputs = model.run("images", &images);
    let (_, logits) = outputs.iter().find(|(name, _)| name == "logits").unwrap();
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
    let correct =
        logits.chunks_exact(10).zip(test).filter(|(row, image)| best(row) == dataset.label(**image)).count();
    100.0 * correct as f64 / test.len() as f64
}

/// A network of a run in a file of its own: its bytes, and what the command says.
fn of_run(run: &Path, id: &Value, more: &[&str]) -> (Vec<u8>, Value) {
    let file = run.with_extension("onnx");
    let mut export = Command::new(env!("CARGO_BIN_EXE_natv2"));
    export.args(["export", "--json", "--force", "--network", &id.to_string(), "--run"]).arg(run);
    export.arg("--out").arg(&file).args(more);
    let said = serde_json::from_slice(&finish(export).stdout).unwrap();
    (std::fs::read(file).unwrap(), said)
}

/// Every file in a folder and below, with its bytes.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path))
        } else {
            files.push((path.clone(), std::fs::read(&path).unwrap()))
        }
    }
    files.sort();
    files
}

/// Makes a folder and all below readable for everyone and writable for nobody, or takes that back.
fn seal(folder: &Path, sealed: bool) {
    let (dirs, files) = if sealed { (0o555, 0o444) } else { (0o755, 0o644) };
    let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    if !sealed {
        set(folder, dirs);
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { seal(&path, sealed) } else { set(&path, files) }
    }
    set(folder, dirs);
}

/// Runs a command as a user whom permissions bind: the superuser may write anywhere.
fn as_anyone(mut command: Command, folder: &Path) -> Output {
    if std::fs::metadata(folder).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

#[test]
fn a_finished_run_that_cannot_be_written_prints_its_result_and_one_that_is_not_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    // Where everyone may run it: a build's folder may be its owner's alone.
    let program = folder.path().join("natv2");
    std::fs::copy(env!("CARGO_BIN_EXE_natv2"), &program).unwrap();
    let at = |name: &str| folder.path().join(name);
    let of = |subcommand: &str, name: &str, sets: &[&str]| {
        let mut command = Command::new(&program);
        command.args([subcommand, "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(at(name));
        for set in sets {
            command.args(["--set", set]);
        }
        command.stdin(Stdio::null());
        command
    };
    let from = format!("finetune.search={}", at("search").display());
    let compare = || {
        let mut command = of("compare", "compare", &["search.iterations=1"]);
        command.args(["--methods", "natv2", "--seeds", "0"]);
        command
    };
    let small = ["supernet.width=0.1", "finetune.count=1", "search.iterations=1"];
    type Again<'a> = &'a dyn Fn() -> Command;
    let commands: [(&str, Again<'_>); 5] = [
        ("search", &|| of("search", "search", &["search.iterations=1"])),
        ("finetune", &|| of("finetune", "finetune", &[&from, "finetune.count=1"])),
        ("train", &|| of("train", "train", &["supernet.width=0.1"])),
        ("run", &|| of("run", "run", &small)),
        ("compare", &compare),
    ];
    for (name, command) in commands {
        let first = finish(command());
        let before = tree(&at(name));
        seal(&at(name), true);
        let again = as_anyone(command(), folder.path());
        let message = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success(), "{name}: {message}");
        let value = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
        assert_eq!(value(&again), value(&first), "{name}");
        assert_eq!(tree(&at(name)), before, "{name}");
        seal(&at(name), false);
    }
    // One that has something left to do finds out before it works.
    let mut begun = of("search", "begun", &[]).spawn().unwrap();
    while !at("begun").join("lock").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.kill().unwrap();
    begun.wait().unwrap();
    seal(&at("begun"), true);
    let refused = as_anyone(of("search", "begun", &[]), folder.path());
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && message.contains("cannot be written"), "{message}");
    seal(&at("begun"), false);
}

#[test]
fn networks_and_cards_that_were_lost_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    finish(command(&run));
    let whole = results(&run);
    for (name, bytes) in &whole {
        let Some(rest) = name.strip_prefix("network-") else { continue };
        let id = rest.split('.').next().unwrap();
        for damage in [None, Some(&bytes[..bytes.len() / 2])] {
            match damage {
                Some(bytes) => std::fs::write(run.join(name), bytes).unwrap(),
                None => std::fs::remove_file(run.join(name)).unwrap(),
            }
            if !name.ends_with("onnx") {
                // Until then nothing else takes its place.
                let mut export = Command::new(env!("CARGO_BIN_EXE_natv2"));
                export.args(["export", "--network", id, "--run"]).arg(&run);
                let refused = export.arg("--out").arg(folder.path().join("x.onnx")).output().unwrap();
                let message = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert!(!refused.status.success() && message.contains("writes it anew"), "{message}");
            }
            finish(command(&run));
            assert!(results(&run) == whole, "{name}");
        }
    }
    // Weights that networks belong to are not replaced by others without a word.
    std::fs::remove_file(run.join("adapted.safetensors")).unwrap();
    let mut export = Command::new(env!("CARGO_BIN_EXE_natv2"));
    export.args(["export", "--inherited", "--network", "1", "--run"]).arg(&run);
    let refused = export.arg("--out").arg(folder.path().join("x.onnx")).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("adapted.safetensors"), "{message}");
    finish(command(&run));
    assert!(results(&run) == whole);
}

#[test]
fn a_run_goes_from_random_weights_to_networks_for_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let summary: Value = serde_json::from_slice(&finish(command(&run)).stdout).unwrap();
    assert_eq!(summary["version"], 1);
    assert_eq!(summary["training"]["family"], "EE_D");
    assert!(!summary["front"].as_array().unwrap().is_empty() && summary["evaluations"] == 30);
    assert!(summary["weights"].as_str().unwrap().ends_with("adapted.safetensors"));

    let (networks, exported) = (&summary["networks"], summary["exported"].as_array().unwrap());
    assert_eq!(networks.as_array().unwrap().len(), exported.len());
    for (network, file) in networks.as_array().unwrap().iter().zip(exported) {
        let file = run.join(file.as_str().unwrap());
        let own = Network::load(&run.join(network["weights"].as_str().unwrap())).unwrap();
        assert_eq!(network["exits"].as_array().unwrap().len(), own.exits().len());
        // The file elsewhere has the accuracy that was measured here.
        let found = accuracy(&file, own.arch().r as usize);
        let one_image = 100.0 / 359.0;
        assert!((found - network["after"]["top1"].as_f64().unwrap()).abs() <= one_image, "{found}");
        // And `natv2 export` writes the very file, from the card alone.
        let again = folder.path().join("again.onnx");
        let weights = run.join(network["weights"].as_str().unwrap());
        let mut export = Command::new(env!("CARGO_BIN_EXE_natv2"));
        export.args(["export", "--force", "--weights"]).arg(&weights).arg("--out").arg(&again);
        finish(export);
        assert!(std::fs::read(&again).unwrap() == std::fs::read(&file).unwrap());
        let beta: f64 = network["beta"].as_array().unwrap().iter().map(|beta| beta.as_f64().unwrap()).sum();
        assert!((beta - 1.0).abs() < 1e-9, "{network}");
        // So does the run's own number: its best state, whichever that is; and its genotype.
        let bytes = std::fs::read(&file).unwrap();
        for id in [&network["number"], &network["genotype"]] {
            let (best, said) = of_run(&run, id, &[]);
            assert_eq!((&said["state"], &said["number"]), (&network["state"], &network["number"]));
            assert!(best == bytes, "network {id} of the run is another");
        }
        let (_, inherited) = of_run(&run, &network["number"], &["--inherited"]);
        assert_eq!((&inherited["state"], &inherited["arch"]), (&json!("inherited"), &network["picked"]));
        assert_eq!(inherited["params"], network["before"]["params"]);
    }
    // The most accurate is among those that were picked, and what was not picked is as it was found.
    let front: Value = serde_json::from_slice(&std::fs::read(run.join("front.json")).unwrap()).unwrap();
    let front = front["networks"].as_array().unwrap();
    let best = front.iter().map(|network| network["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    let tuned = networks.as_array().unwrap();
    let is_best = |network: &&Value| network["search_top1"].as_f64() == Some(best);
    let most = tuned.iter().find(is_best).expect("the most accurate network is picked");
    assert!(most["picked_for"].as_array().unwrap().contains(&json!("most-accurate")), "{most}");
    let others = front.iter().filter(|network| tuned.iter().all(|t| t["number"] != network["number"]));
    for other in others {
        assert_eq!(of_run(&run, &other["number"], &[]).1["state"], "inherited");
    }
    // A finished run says what was picked and why.
    let text = finish(plain(&run));
    let text = String::from_utf8(text.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("picked by finetune.pick = trade-off")).unwrap();
    assert!(line.contains("most accurate") && text.contains("finetune.number"), "{text}");
    // And how another one is, with the exits of these.
    let other = front.iter().filter_map(|network| network["number"].as_u64());
    let other = other.filter(|number| tuned.iter().all(|t| t["number"].as_u64() != Some(*number))).min();
    let shown = text.lines().find(|line| line.trim_start().starts_with("natv2 finetune "));
    assert_eq!(shown.is_some(), other.is_some(), "{text}");
    if let (Some(shown), Some(other)) = (shown, other) {
        let end = format!(" --set finetune.number={other} --set finetune.exits=asc");
        assert!(shown.ends_with(&end) && shown.contains("--profile tiny"), "{shown}");
    }
    let trained = Checkpoint::read(&run.join("supernet.safetensors")).unwrap();
    let adapted = Checkpoint::read(&run.join("adapted.safetensors")).unwrap();
    assert!(trained.names().eq(adapted.names()));
    assert!(trained.names().any(|name| trained.tensor(name) != adapted.tensor(name)));

    let stages: Vec<String> = {
        let mut stages: Vec<String> = events(&run).unwrap().into_iter().map(|event| event.stage).collect();
        stages.dedup();
        stages
    };
    assert_eq!(stages, ["train", "search", "finetune"]);
    let mut status = Command::new(env!("CARGO_BIN_EXE_natv2"));
    status.args(["status", "--json"]).arg(&run);
    let status: Value = serde_json::from_slice(&finish(status).stdout).unwrap();
    let last: Vec<&str> =
        status["stages"].as_array().unwrap().iter().map(|stage| stage["last"].as_str().unwrap()).collect();
    assert_eq!(last[..2], ["phase sandwich done", "front tested"]);
    assert!(last[2].starts_with("network ") && last[2].ends_with(" done"), "{last:?}");
    assert_eq!((&status["finished"], &status["iteration"]), (&true.into(), &2.into()));
    let figures = folder.path().join("figures");
    let mut pictures = Command::new(env!("CARGO_BIN_EXE_natv2"));
    pictures.args(["report", "--json"]).arg(&run).arg("--charts").arg(&figures);
    let page: Value = serde_json::from_slice(&finish(pictures).stdout).unwrap();
    let charts = page["charts"].as_array().unwrap();
    // Three pairs of objectives now and over time, fine-tuning, and the curves over iterations.
    assert!(charts.len() > 10 && charts.iter().all(|file| Path::new(file.as_str().unwrap()).exists()));
    // A stage called by itself with the same settings finds its result.
    for stage in ["train", "search", "finetune"] {
        let mut again = Command::new(env!("CARGO_BIN_EXE_natv2"));
        again.args([stage, "--device", "cpu", "--json"]).arg(run.join("config.toml")).arg("--run").arg(&run);
        let result: Value = serde_json::from_slice(&finish(again).stdout).unwrap();
        let (key, whole) = match stage {
            "train" => ("epochs", &summary["training"]["epochs"]),
            "search" => ("front", &summary["front"]),
            _ => ("networks", &summary["networks"]),
        };
        assert_eq!(&result[key], whole, "{stage}");
    }
}

#[test]
fn a_run_ends_the_same_whatever_kills_it_and_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let start = Instant::now();
    finish(command(&at("whole")));
    let whole_run = start.elapsed();
    let mut one = command(&at("one"));
    one.args(["--threads", "1"]);
    finish(one);
    same(&at("one"), &at("whole"));

    // Long enough to get somewhere on the way, short enough for many on one run.
    let mut rng = natv2::random::stream(3, "test/kills", 0, 0);
    let (mut kills, mut runs) = (0, vec![0]);
    while kills < 20 {
        let run = at(&format!("killed-{}", runs.len()));
        let mut child = command(&run).spawn().unwrap();
        if ends_within(&mut child, whole_run.mul_f64(rng.random_range(0.05..0.15))) {
            runs.push(kills);
            continue;
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
    }
    for number in 1..=runs.len() {
        let run = at(&format!("killed-{number}"));
        finish(command(&run));
        same(&run, &at("whole"));
    }
    assert!(runs.len() < 6, "runs ended after {runs:?} of {kills} kills: too few in each");
}

#[test]
fn every_stage_stops_on_request_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut stopped = 0;
    for (name, place) in
        [("-TERM", "training"), ("-USR1", "iteration  0"), ("-INT", "iteration  1"), ("-TERM", "fine-tuning")]
    {
        let mut child = command(&run).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with(place)));
        std::thread::spawn(move || lines.count());
        if found.is_some() {
            signal(&child, name);
        }
        let code = child.wait().unwrap().code();
        assert!(code == Some(75) || code == Some(0), "{name} at {place}: {code:?}");
        stopped += u32::from(code == Some(75));
    }
    assert!(stopped > 1, "{stopped} stops");
    finish(command(&run));
    finish(command(&folder.path().join("whole")));
    same(&run, &folder.path().join("whole"));
}

#[test]
fn given_weights_are_warmed_up_where_they_come_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.safetensors");
    let mut init = Command::new(env!("CARGO_BIN_EXE_natv2"));
    init.args(["supernet", "init", "--family", "SE_B", "--width", "0.1", "--classes", "7", "--out"])
        .arg(&source);
    finish(init);
    let with = |name: &str, warmup: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
        command.args(["run", "--profile", "tiny", "--device", "cpu", "--json", "--run"]);
        command.arg(folder.path().join(name)).args([
            "--set",
            "finetune.count=1",
            "--set",
            "data.name=digits",
        ]);
        command.args(["--set", &format!("run.warmup={warmup}"), "--set", "search.iterations=1"]);
        command.arg("--set").arg(format!("supernet.weights={}", source.display()));
        command.stdin(Stdio::null());
        command
    };
    let summary: Value = serde_json::from_slice(&finish(with("auto", "auto")).stdout).unwrap();
    let mut phases: Vec<&str> = summary["training"]["epochs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|epoch| epoch["phase"].as_str().unwrap())
        .collect();
    phases.dedup();
    assert_eq!(phases, ["sandwich"]);
    assert_eq!(events(&folder.path().join("auto")).unwrap()[0].stage, "warmup");
    // Without the warm-up the classes do not fit, and no directory is made.
    let refused = with("never", "never").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("10 classes") && message.contains("7"), "{message}");
    assert!(!folder.path().join("never").exists());
}
