//! `natv2 train`: all phases in small, and trainings that are killed at any moment end as if nothing
//! had happened.
#![cfg(unix)]

use crate::common::{ends_within, newest, signal, stopped_before};
use natv2::config::{self, Config, Profile};
use natv2::device::{Cpu, Device};
use natv2::pipeline::training::{Stage, prepare};
use natv2::run::{Event, Output as Shown, RunDirectory, StopFlag, events};
use natv2::supernet::{Card, Checkpoint, Supernet};
use natv2::train::phase::phases;
use rand::RngExt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// A training of a few seconds on the built-in digits: every phase that `family` has, once.
fn command(folder: &Path, family: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["train", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(folder);
    command.args(["--set", "supernet.width=0.1", "--set", "train.resolutions=[32]"]);
    command.args(["--set", "train.schedule=eps"]);
    command.args(["--set", &format!("supernet.family={family}"), "--set", "train.checkpoint_steps=2"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a training leaves.
fn files(folder: &Path) -> [Vec<u8>; 3] {
    ["supernet.safetensors", "supernet.card.json", "training.json"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_phase_runs_and_the_result_is_a_super_network_of_the_family() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let result = json(&finish(command(&run, "EE_DP")));
    let phases: Vec<&str> = {
        let mut names: Vec<&str> =
            result["epochs"].as_array().unwrap().iter().map(|e| e["phase"].as_str().unwrap()).collect();
        names.dedup();
        names
    };
    let expected = [
        "full", "kernel", "level-1", "level-2", "exit-1", "exit-2", "exit-3", "exit-4", "depth-1", "depth-2",
        "width-1", "width-2",
    ];
    assert_eq!(phases, expected);
    assert!(result["epochs"].as_array().unwrap().iter().all(|e| e["loss"].as_f64().unwrap() > 0.0));
    assert_eq!(result["random"].as_array().unwrap().len(), 20);
    assert_eq!(result["smallest"]["arch"]["nd"], 1);
    assert_eq!((&result["split"], &result["version"]), (&"test".into(), &1.into()));

    let file = run.join("supernet.safetensors");
    let supernet = Supernet::load(&file, None).unwrap();
    let card = Card::beside(&file).unwrap();
    assert_eq!((supernet.family.to_string().as_str(), card.data.as_deref()), ("EE_DP", Some("digits")));
    assert!(card.trained.unwrap().contains("width-2"));
    assert!(run.join("tensorboard/train").is_dir());
    // The elastic phases have moved the kernel transform away from the identity.
    let tensors = supernet.layout.unpack(&supernet.packed);
    assert!(tensors["blocks.1.conv.depth_conv.conv.7to5_matrix"].data[1] != 0.0);
}

#[test]
fn the_result_does_not_depend_on_threads_or_kills() {
    threads_and_kills("EE_D", "f32", &[]);
}

/// Several epochs of all sub-networks at once.
const SANDWICH: [&str; 2] = ["train.schedule=sandwich", "train.epochs=8"];

#[test]
fn nor_does_it_where_the_largest_network_teaches() {
    threads_and_kills("EE_DP", "f32", &SANDWICH);
}

/// The scale of the losses is a part of what an interrupted training goes on with.
#[test]
fn nor_does_it_in_16_bits() {
    threads_and_kills("SE_B", "f16", &[]);
    threads_and_kills("SE_B", "bf16", &SANDWICH);
}

fn threads_and_kills(family: &str, precision: &str, sets: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let command = |folder: &Path| {
        let mut command = command(folder, family);
        command.args(["--precision", precision]);
        for set in sets {
            command.args(["--set", set]);
        }
        command
    };
    let start = Instant::now();
    finish(command(&at("whole")));
    let whole_run = start.elapsed();
    let mut one = command(&at("one"));
    one.args(["--threads", "1"]);
    finish(one);
    assert_eq!(files(&at("one")), files(&at("whole")));

    let mut rng = natv2::random::stream(2, "test/kills", 0, 0);
    let mut kills = 0;
    for _ in 0..8 {
        let mut child = command(&at("killed")).spawn().unwrap();
        if ends_within(&mut child, whole_run.mul_f64(rng.random_range(0.1..0.4))) {
            break;
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "no run was ever at work");
    finish(command(&at("killed")));
    assert_eq!(files(&at("killed")), files(&at("whole")), "after {kills} kills");
}

#[test]
fn a_request_to_stop_exits_with_75_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut stopped = 0;
    for name in ["-TERM", "-USR1", "-INT"] {
        let mut child = command(&run, "SE_B").spawn().unwrap();
        // Signals count once the program speaks: its handlers come first.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("run directory")))
            .unwrap()
            .unwrap();
        std::thread::spawn(move || lines.count());
        signal(&child, name);
        let code = child.wait().unwrap().code();
        assert!(code == Some(75) || code == Some(0), "{name}: {code:?}");
        stopped += u32::from(code == Some(75));
    }
    assert!(stopped > 0);
    finish(command(&run, "SE_B"));
    finish(command(&folder.path().join("whole"), "SE_B"));
    assert_eq!(files(&run), files(&folder.path().join("whole")));
}

#[test]
fn a_training_that_diverges_goes_back_with_a_smaller_rate_and_gives_up_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut wild = command(&folder.path().join("run"), "SE_B");
    wild.args(["--set", "train.rate_scale=100000"]);
    let output = wild.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("back to step"), "{message}");
    assert!(message.contains("diverged 6 times") && message.contains("train.rate_scale"), "{message}");
}

#[test]
fn training_goes_on_from_weights_of_other_classes_and_wrong_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let phases = "[{name='mine', epochs=1, rate=0.01, kernels=[3,5,7]}]";
    let mut own = command(&folder.path().join("run"), "EE_B");
    own.args(["--set", "supernet.weights=checkpoints/ofa_mbv3_w025_cifar10.safetensors"]);
    own.args(["--set", "data.name=digits", "--set", &format!("train.phases={phases}")]);
    let result = json(&finish(own));
    assert_eq!(result["family"], "EE_B");
    assert!(result["epochs"].as_array().unwrap().iter().all(|e| e["phase"] == "mine"));

    let refused = |sets: &[&str]| {
        let mut command = command(&folder.path().join("refused"), "SE_B");
        for set in sets {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, message) = refused(&["supernet.weights=missing.safetensors"]);
    assert!(code == Some(1) && message.contains("missing.safetensors"), "{code:?} {message}");
    let (code, message) = refused(&["train.phases=[{name='x', epochs=1}]"]);
    assert!(code == Some(2) && message.contains("train.phases[1]"), "{code:?} {message}");
    let (code, message) = refused(&["supernet.classes=3"]);
    assert!(code == Some(2) && message.contains("supernet.classes"), "{code:?} {message}");
    assert!(!folder.path().join("refused").exists());
}

/// The same training as settings, for what this process runs itself.
fn settings(sets: &[&str]) -> Config {
    let usual =
        ["supernet.width=0.1", "train.resolutions=[32]", "train.checkpoint_steps=2", "train.schedule=eps"];
    let sets: Vec<String> = usual.iter().chain(sets).map(|set| set.to_string()).collect();
    config::load("train", None, &sets, Some(Profile::Tiny)).unwrap()
}

/// Trains until `stop` says so: whether it ended, or why it did not.
fn train(folder: &Path, config: &Config, stop: &StopFlag) -> Result<bool, String> {
    let run = RunDirectory::open(folder).unwrap();
    let device: Arc<dyn Device> = Arc::new(Cpu);
    let done = prepare(config, Stage::Train).unwrap().run(&device, &run, stop, Shown::Silent);
    // Whatever came of it, what is there can be read again.
    for stage in std::fs::read_dir(folder.join("checkpoints")).unwrap() {
        for step in std::fs::read_dir(stage.unwrap().path()).unwrap() {
            for file in std::fs::read_dir(step.unwrap().path()).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|ending| ending == "safetensors") {
                    Checkpoint::read(&file).unwrap();
                }
            }
        }
    }
    done.map(|done| done.is_some()).map_err(|error| error.to_string())
}

/// The same, stopped before every single step, the first ones of phases among them.
fn step_by_step(folder: &Path, config: &Config) -> Result<bool, String> {
    for stops in 0.. {
        let done = train(folder, config, &StopFlag::at_look(1));
        if done != Ok(false) {
            assert!(stops > 5, "{stops}");
            return done;
        }
    }
    unreachable!()
}

/// The first and the last step of every phase of a training that told these events.
fn edges(told: &[Event]) -> Vec<u64> {
    let ends: Vec<u64> = told.iter().filter(|event| event.kind == "phase").map(|event| event.step).collect();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).flat_map(|(start, end)| [start, end - 1]).collect()
}

/// Trains straight on and step by step, which must come to the same; what it came to, and the straight one's events.
fn both(sets: &[&str]) -> (Result<bool, String>, Vec<Event>) {
    compared(sets, |folder, config, _| step_by_step(folder, config))
}

/// Trains straight on and with the stops of `stopping`, which knows the straight one's events; as [`both`].
fn compared(
    sets: &[&str],
    stopping: impl Fn(&Path, &Config, &[Event]) -> Result<bool, String>,
) -> (Result<bool, String>, Vec<Event>) {
    let folder = tempfile::tempdir().unwrap();
    let [straight, stopped] = ["straight", "stopped"].map(|name| folder.path().join(name));
    let config = settings(sets);
    let done = train(&straight, &config, &StopFlag::new());
    let told = events(&straight).unwrap();
    assert_eq!(done, stopping(&stopped, &config, &told));
    if done.is_ok() {
        assert_eq!(files(&straight), files(&stopped));
        assert_eq!(newest(&straight, "train"), newest(&stopped, "train"));
    }
    let what = |events: &[Event]| -> Vec<_> {
        events
            .iter()
            .map(|e| (e.step, e.kind.clone(), e.data.clone()))
            .filter(|e| e.1 != "rollback")
            .collect()
    };
    assert_eq!(what(&told), what(&events(&stopped).unwrap()));
    (done, told)
}

/// The divergences that the events tell of.
fn rollbacks(events: &[Event]) -> Vec<String> {
    let back = events.iter().filter(|event| event.kind == "rollback");
    back.map(|event| event.data.as_str().unwrap().to_string()).collect()
}

#[test]
fn stops_before_every_step_and_phase_change_nothing() {
    let (done, events) = both(&["train.epoch_images=32", "supernet.family=EE_D"]);
    assert_eq!((done, rollbacks(&events).len()), (Ok(true), 0));
    // A teacher's term is said to be in the loss.
    let epochs = events.iter().filter(|event| event.kind == "epoch");
    for (number, epoch) in epochs.enumerate() {
        assert_eq!(epoch.data["kd_ratio"].as_f64(), (number > 0).then_some(1.0), "{:?}", epoch.data);
    }
}

/// Small trainings of `families` that are stopped before the first and before the last step of every phase.
fn stops_at_the_edges_of_phases(families: [&str; 4]) {
    for family in families {
        let names: Vec<String> = phases(&settings(&[]).train, family.parse().unwrap(), false)
            .into_iter()
            .map(|phase| phase.name)
            .collect();
        let family = format!("supernet.family={family}");
        let small = ["train.batch=8", "train.epoch_images=24", "train.validation_images=20"];
        let sets = [&[family.as_str(), "train.calibration_images=20"], &small[..]].concat();
        let (done, told) = compared(&sets, |folder, config, told| {
            stopped_before((folder, "train"), &edges(told), |stop| train(folder, config, stop))
        });
        assert_eq!((done, rollbacks(&told).len()), (Ok(true), 0));
        let ended = told.iter().filter(|event| event.kind == "phase");
        assert!(ended.map(|event| event.data["phase"].as_str().unwrap()).eq(names), "{family}");
        assert!(edges(&told).is_sorted_by(|a, b| a < b), "{family}: {:?}", edges(&told));
    }
}

#[test]
fn stops_before_the_first_and_the_last_step_of_every_phase_change_nothing() {
    stops_at_the_edges_of_phases(["SE_B", "SE_D", "SE_P", "SE_DP"]);
}

#[test]
fn nor_do_they_with_early_exits() {
    stops_at_the_edges_of_phases(["EE_B", "EE_D", "EE_P", "EE_DP"]);
}

#[test]
fn nor_do_they_where_the_largest_network_teaches() {
    let sets = |family: &'static str| [&["train.epoch_images=32", family][..], &SANDWICH].concat();
    for family in ["supernet.family=EE_DP", "supernet.family=SE_B"] {
        let (done, events) = both(&sets(family));
        assert_eq!((done, rollbacks(&events).len()), (Ok(true), 0));
        let losses: Vec<f64> = events.iter().filter_map(|event| event.data["loss"].as_f64()).collect();
        assert_eq!(losses.len(), 8, "{events:?}");
        assert!(losses.iter().all(|loss| *loss > 0.0), "{losses:?}");
    }
    let wild = [&sets("supernet.family=EE_B")[..], &["train.rate_scale=200"]].concat();
    let (_, events) = both(&wild);
    assert!(!rollbacks(&events).is_empty(), "{events:?}");
}

/// Two super-networks train side by side, the wider one's largest network as the teacher of both.
#[test]
fn nor_do_they_with_two_widths() {
    let sets = ["train.epoch_images=32", "supernet.wide_width=0.15", "supernet.family=EE_D"];
    let (done, events) = both(&[&sets[..], &SANDWICH].concat());
    assert_eq!((done, rollbacks(&events).len()), (Ok(true), 0));
}

#[test]
fn divergence_keeps_the_lowered_rate_whether_a_step_or_a_validation_sees_it_first() {
    let rates = |sets: &[&str]| {
        let (done, events) = both(sets);
        // The rate of each phase's epoch, and how often the phase had gone back before it.
        let (mut back, mut rates) = (0, Vec::new());
        for event in &events {
            match event.kind.as_str() {
                "rollback" => back += 1,
                "phase" => back = 0,
                _ => rates.push((event.data["rate"].as_f64().unwrap(), back)),
            }
        }
        (done, rates, rollbacks(&events))
    };
    let (done, usual, none) = rates(&[]);
    assert_eq!((done, none.len()), (Ok(true), 0));
    // Measured on every instruction set: some of both kinds.
    let (done, wild, back) = rates(&["train.rate_scale=50"]);
    assert!(back.iter().any(|reason| reason.contains("the loss of a validation is")), "{back:?}");
    assert!(back.iter().any(|reason| reason.starts_with("the loss is")), "{back:?}");
    assert!(wild.len() > 1, "{done:?} {wild:?}");
    for ((wild, back), (usual, _)) in wild.iter().zip(&usual) {
        let wanted = usual * 50.0 * 0.5f64.powi(*back);
        assert!((wild / wanted - 1.0).abs() < 1e-9, "{wild} after {back}, {wanted}");
    }
}

#[test]
fn a_training_that_is_hopeless_says_what_to_change() {
    let (done, events) = both(&["train.epoch_images=16", "train.rate_scale=100000"]);
    assert_eq!(rollbacks(&events).len(), 5);
    let message = done.unwrap_err();
    assert!(message.contains("diverged 6 times") && message.contains("lower train.rate_scale"), "{message}");
    let small = settings(&["train.epoch_images=16", "train.rate_scale=100000", "train.batch=2"]);
    let folder = tempfile::tempdir().unwrap();
    let message = train(folder.path(), &small, &StopFlag::new()).unwrap_err();
    assert!(message.contains("give train.batch more images (it is 2"), "{message}");
}
