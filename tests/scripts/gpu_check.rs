//! `scripts/gpu-check.sh` and `scripts/card_table.py`, with programs that stand in for what they run: what comes out
//! of steps that pass, fail, hang, check nothing or cannot be made, and what is there when a run is cut off.

use crate::common;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An unpacked archive whose programs print what the true ones might.
struct Pack {
    folder: tempfile::TempDir,
}

const NATV2: &str = r#"#!/bin/sh
[ -z "$STUB_LOG" ] || echo "$*" >> "$STUB_LOG"
[ "$1" != "$STUB_HANGS" ] || sleep 60
if [ "$1" = "$STUB_FAILS" ]; then
    echo "error: a \"wrong\" result"
    exit 1
fi
case "$*" in
    *doctor*)
        finding() { echo "{\"name\":\"$1\",\"state\":\"${STUB_STATE:-ok}\",\"value\":\"all wrong\"}"; }
        echo "{\"sections\":[$(finding emulated),$(finding cuda)]}" ;;
    *kernels*)
        echo '{"copy_gigabytes_per_second":4000,"peak_product_gigaflops":700000,"kernels":[{"operator":"Mbconv","shape":"a","seconds":2e-4,"estimated_seconds":1e-4}]}' ;;
    *evaluate*)
        echo '{"ways":[{"work":"population","networks":100,"streams":2,"graphs":"always","networks_per_second":50,"launches":9,"seconds":{"median":2.0}}],"launch":{"host_us":2.5}}' ;;
    *) echo 'a table' && echo '{"version":1}' ;;
esac
"#;

/// Where the system's own tools are, and no compute-sanitizer of a toolkit.
const TOOLS: &str = "/usr/bin:/bin";

const CHECKS: &str = r#"#!/bin/sh
if [ "$1" = --list ]; then
    [ "$2" = "$STUB_EMPTY" ] || printf '%sone: test\n%stwo: test\n' "$2" "$2"
    exit
fi
[ "$1" = --test-threads ] || exit 1
if [ "$3" = "$STUB_EMPTY" ]; then
    echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s'
elif [ "$3" = "$STUB_WRONG" ]; then
    echo "thread 'one' (7) panicked at tests/device/ops/operators.rs:7:5:"
    echo 'the card: written outside'
    echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.10s'
    exit 101
else
    echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.10s'
fi
"#;

const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = -c ]; then
    [ "$STUB_NO_TORCH" = 1 ] || echo yes
    exit "$STUB_NO_TORCH"
fi
echo '{"graph_networks_per_second":8,"networks":20,"bf16_teraflops":780,"copy_gigabytes_per_second":4300}'
"#;

impl Pack {
    fn new() -> Pack {
        let pack = Pack { folder: tempfile::tempdir().unwrap() };
        let script = fs::read_to_string(script("gpu-check.sh")).unwrap();
        for (name, text) in [
            ("gpu-check.sh", script.as_str()),
            ("natv2", NATV2),
            ("natv2-checks", CHECKS),
            ("python", PYTHON),
        ] {
            let path = pack.path(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(pack.path("about.json"), "{\"version\":\"0.1.0\",\"architecture\":\"sm_90\"}\n").unwrap();
        pack
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new("bash");
        command.arg(self.path("gpu-check.sh")).args(arguments).stdin(Stdio::null());
        command.env("NATV2_PYTHON", self.path("python")).env("OUT", self.path("out"));
        command.env("STUB_NO_TORCH", "0").envs(settings.iter().copied());
        command
    }

    fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        self.command(arguments, settings).output().unwrap()
    }

    /// The lines of the summary.
    fn steps(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("out/summary.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The files in the archive of results.
    fn kept(&self) -> Vec<String> {
        let output = Command::new("tar").arg("tf").arg(self.path("out/results.tar")).output().unwrap();
        assert!(output.status.success());
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().filter_map(|name| name.strip_prefix("results/")).map(str::to_string).collect()
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn step<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name} in {steps:?}"))
}

fn status<'a>(steps: &'a [Value], name: &str) -> &'a str {
    step(steps, name)["status"].as_str().unwrap()
}

#[test]
fn every_step_leaves_a_line_and_what_it_printed() {
    let pack = Pack::new();
    let output = pack.run(&["emulated"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let steps = pack.steps();
    let listed = text(&pack.run(&["emulated", "--list"], &[]).stdout);
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, listed.lines().collect::<Vec<_>>());
    for absent in ["card", "ncu", "memcheck", "racecheck"] {
        assert_eq!(status(&steps, absent), "absent");
        assert!(step(&steps, absent)["figures"].is_null());
    }
    let passed: Vec<&Value> = steps.iter().filter(|step| step["status"] == "ok").collect();
    assert_eq!(passed.len(), steps.len() - 4);
    for step in passed {
        assert!(
            step["exit"] == 0 && step["figures"].is_object() && step["seconds"].as_f64().is_some(),
            "{step}"
        );
        let kept = format!("{}.txt", step["name"].as_str().unwrap());
        assert!(pack.kept().contains(&kept), "{kept}");
    }
    assert_eq!(step(&steps, "fused")["figures"]["passed"], 2);
    assert_eq!(step(&steps, "pack")["figures"]["architecture"], "sm_90");
    assert!(pack.kept().contains(&"summary.jsonl".to_string()));
}

#[test]
fn small_sizes_are_for_any_device() {
    let pack = Pack::new();
    let asked = |arguments: &[&str], device: &str| {
        let log = pack.path("log");
        let settings = [("STUB_LOG", log.to_str().unwrap()), ("PATH", TOOLS)];
        assert_eq!(pack.run(arguments, &settings).status.code(), Some(0), "{arguments:?}");
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(log).unwrap();
        // Runs of training lie in a folder with a name of its own each time.
        let words = text.split_whitespace().filter(|word| !word.contains("/runs/"));
        words.map(|word| if word == device { "DEVICE" } else { word }.to_string()).collect::<Vec<_>>()
    };
    let emulated = asked(&["emulated"], "emulated");
    assert_eq!(asked(&["cuda", "--small"], "cuda"), emulated);
    assert_eq!(asked(&["--small", "cuda:0"], "cuda:0"), emulated);
    assert_eq!(asked(&["emulated", "--small"], "emulated"), emulated);
    let full = asked(&["cuda"], "cuda");
    let images = |words: &[String]| words.iter().any(|word| word == "1000");
    assert!(images(&full) && !images(&emulated), "{full:?}");
    // A card's tools are looked for all the same.
    let steps = pack.steps();
    let why = |device: &str| {
        let of = |step: &&Value| step["name"] == "memcheck" && step["device"] == device;
        steps.iter().find(of).unwrap()["why"].as_str().unwrap()
    };
    assert_eq!(why("emulated"), "there is no card on emulated");
    assert_eq!(why("cuda"), "compute-sanitizer is not on this machine");
}

#[test]
fn a_failure_is_named_and_the_other_steps_go_on() {
    let pack = Pack::new();
    let settings = [
        ("STUB_FAILS", "train"),
        ("STUB_EMPTY", "::golden_"),
        ("STUB_WRONG", "::engine_"),
        ("STUB_STATE", "broken"),
        ("STUB_NO_TORCH", "1"),
    ];
    let output = pack.run(&["emulated"], &settings);
    assert_eq!(output.status.code(), Some(1));
    let steps = pack.steps();
    assert_eq!(step(&steps, "train-f16")["why"], "error: a \"wrong\" result");
    assert_eq!(status(&steps, "train-f16"), "failed");
    // No check is no success.
    assert_eq!(status(&steps, "golden"), "failed");
    assert!(step(&steps, "golden")["why"].as_str().unwrap().contains("0 checks were to run"));
    assert_eq!(step(&steps, "doctor")["why"], "emulated does not work: all wrong");
    let wrong = step(&steps, "engine")["why"].as_str().unwrap();
    assert!(
        wrong.contains("tests/device/ops/operators.rs:7:5") && wrong.contains("the card: written outside"),
        "{wrong}"
    );
    assert_eq!(status(&steps, "torch-mbconv"), "absent");
    assert_eq!((status(&steps, "fused"), status(&steps, "search")), ("ok", "ok"));
    assert!(text(&output.stdout).contains("something failed"));
    let Some(table) = table_of(&pack.path("out/summary.jsonl"), &["--check"]) else { return };
    assert!(table.contains("| golden | failed |") && table.contains("golden: failed"), "{table}");
    assert!(table.ends_with("exit 1"), "{table}");
}

/// What the table's script prints of a summary, and how it ends; `None` on a machine without Python, where nobody
/// makes tables. CI has it.
fn table_of(summary: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("python3");
    let output = match command.arg(script("card_table.py")).arg(summary).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("no python3: tables are not checked");
            return None;
        }
        output => output.unwrap(),
    };
    let code = output.status.code().unwrap();
    Some(format!("{}{}exit {code}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn the_table_has_ratios_and_says_what_was_shown() {
    let pack = Pack::new();
    assert_eq!(pack.run(&["emulated"], &[]).status.code(), Some(0));
    let Some(table) = table_of(&pack.path("out/summary.jsonl"), &[]) else { return };
    assert_eq!(
        table.matches("| not measured |").count(),
        3,
        "times of the emulator are none of a card: {table}"
    );
    assert_eq!(pack.run(&["cuda:0"], &[("PATH", TOOLS)]).status.code(), Some(0));
    let Some(table) = table_of(&pack.path("out/summary.jsonl"), &[]) else { return };
    // 2e-4 seconds where 1e-4 were estimated; 50 networks a second beside 8.
    assert!(
        table.contains("| each fused MBConv within 3 times its estimate | 1 shapes, at most 2 times | yes |"),
        "{table}"
    );
    assert!(table.contains("| a population at 5 times PyTorch with graphs | 6.25 times | yes |"), "{table}");
    assert!(table.contains("| products in 16 bits, TFLOP/s | 700 | 780 | 0.897 |"), "{table}");
    // memcheck and racecheck were absent: not all of correctness was seen.
    assert!(table.contains("memcheck: absent, racecheck: absent | not measured |"), "{table}");
    let none = pack.path("nothing.jsonl");
    fs::write(&none, "").unwrap();
    let Some(refused) = table_of(&none, &[]) else { return };
    assert!(refused.contains("holds no step") && refused.ends_with("exit 1"), "{refused}");
}

#[test]
fn a_step_that_hangs_is_stopped_at_its_limit() {
    let pack = Pack::new();
    let output =
        pack.run(&["emulated", "--only", "search,fused", "--limit", "1"], &[("STUB_HANGS", "search")]);
    assert_eq!(output.status.code(), Some(1));
    let steps = pack.steps();
    assert_eq!(steps.len(), 2);
    assert_eq!(step(&steps, "search")["why"], "stopped after its limit of 1 seconds");
    assert_eq!(status(&steps, "fused"), "ok");
}

#[test]
fn a_run_that_is_cut_off_keeps_what_it_has() {
    let pack = Pack::new();
    let mut child = pack
        .command(&["emulated"], &[("STUB_HANGS", "train")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let summary = pack.path("out/summary.jsonl");
    let start = Instant::now();
    // The step before the training that hangs; it is absent here, so the training has begun soon after.
    while !fs::read_to_string(&summary).is_ok_and(|text| text.contains("\"racecheck\"")) {
        assert!(start.elapsed() < Duration::from_secs(60), "the steps before do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    common::signal(&child, "-TERM");
    assert!(common::ends_within(&mut child, Duration::from_secs(30)));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let steps = pack.steps();
    let last = steps.last().unwrap();
    assert_eq!((&last["name"], &last["why"]), (&"train-f32".into(), &"stopped by SIGTERM".into()));
    assert_eq!(status(&steps, "fused"), "ok");
    assert!(pack.kept().contains(&"doctor.txt".to_string()));
}

#[test]
fn parts_can_be_run_again_and_what_was_there_stays() {
    let pack = Pack::new();
    assert_eq!(pack.run(&["emulated", "--only", "doctor"], &[]).status.code(), Some(0));
    assert_eq!(pack.run(&["emulated", "--from", "train-bf16"], &[]).status.code(), Some(0));
    let names: Vec<Value> = pack.steps().into_iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["doctor", "train-bf16", "search"]);
    assert!(["doctor.txt", "search.txt"].iter().all(|name| pack.kept().contains(&name.to_string())));
    for (arguments, part) in [
        (&["--only", "doktor"][..], "there is no step doktor: give pack card doctor"),
        (&["--from", "nowhere"], "there is no step nowhere"),
        (&["gpu"], "gpu is not known: give cuda, cuda:N or emulated"),
        (&["--limit", "soon"], "whole seconds, not soon"),
    ] {
        let output = pack.run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_full_disk_and_a_folder_that_cannot_be_are_one_clear_line() {
    let pack = Pack::new();
    fs::create_dir(pack.path("out")).unwrap();
    std::os::unix::fs::symlink("/dev/full", pack.path("out/summary.jsonl")).unwrap();
    let output = pack.run(&["emulated", "--only", "pack,doctor"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is the disk full?"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("doctor"), "the steps behind it go on");
    let output = pack.run(&["emulated"], &[("OUT", "/dev/null/results")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("cannot write to /dev/null/results: set OUT"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn nothing_is_packed_without_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |settings: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new("bash");
        command.arg(script("gpu-check.sh")).arg("pack").args(arguments).arg(folder.path());
        command.envs(settings.iter().copied()).output().unwrap()
    };
    for (settings, arguments, code, part) in [
        (&[("NVCC", "none")][..], &[][..], 1, "NVCC=none packs no kernels"),
        (&[("NVCC", "/no/such/nvcc")], &[], 1, "no nvcc was found"),
        (&[("NVCC", "none")], &["--arch", "hopper"], 2, "--arch hopper is no architecture"),
        (&[("NVCC", "none")], &["--fast"], 2, "not --fast"),
    ] {
        let output = pack(settings, arguments);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    for (nvcc, arguments, code, part) in [
        ("none", &[folder.path().to_str().unwrap()][..], 1, "NVCC=none packs no kernels"),
        ("none", &["--fast"], 2, "lay-out knows a folder, not --fast"),
        ("none", &[], 2, "lay-out needs the folder that natv2-gpu-check goes to"),
        ("none", &["a", "b"], 2, "lay-out takes one folder"),
    ] {
        let mut command = Command::new("bash");
        command.arg(script("gpu-check.sh")).arg("lay-out").args(arguments).env("NVCC", nvcc);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
