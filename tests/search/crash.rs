//! Searches that are killed at any moment end as if nothing had happened.
#![cfg(unix)]

use crate::common::{ends_within, ignores_hangups, signal};
use rand::RngExt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// A search of a few seconds on the built-in digits.
fn command(folder: &Path) -> Command {
    with(folder, &["search.iterations=4"])
}

/// The same with these settings.
fn with(folder: &Path, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["search", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(folder);
    command.args(["--set", "search.calibration_images=50"]);
    for set in sets {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(folder: &Path) -> Output {
    finished(command(folder))
}

fn finished(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn killed_at_random_moments_the_results_are_those_of_an_undisturbed_run() {
    killed_at_random_moments(&["search.iterations=4"], &["archive.json", "front.json"]);
}

#[test]
fn killed_while_it_adapts_weights_and_results_are_those_of_an_undisturbed_run() {
    let sets = ["search.iterations=2", "adaptation.epochs=3", "adaptation.rate=0.05"];
    let weights = ["adapted.safetensors", "adapted.card.json"];
    killed_at_random_moments(&sets, &[&["archive.json", "front.json"], &weights[..]].concat());
}

fn killed_at_random_moments(sets: &[&str], names: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let start = Instant::now();
    let expected = finished(with(&whole, sets));
    let whole_run = start.elapsed();

    let mut rng = natv2::random::stream(1, "test/kills", 0, 0);
    let mut kills = 0;
    for _ in 0..8 {
        let mut child = with(&killed, sets).spawn().unwrap();
        let limit = whole_run.mul_f64(rng.random_range(0.05..0.5));
        if ends_within(&mut child, limit) {
            break;
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "no run was ever at work");
    let output = finished(with(&killed, sets));
    for name in names {
        let [killed, whole] = [&killed, &whole].map(|folder| std::fs::read(folder.join(name)).unwrap());
        assert!(killed == whole, "{name}");
    }
    let object = |bytes: &[u8]| -> serde_json::Value {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        value["run"].take();
        value["weights"].take();
        value
    };
    assert_eq!(object(&output.stdout), object(&expected.stdout));
}

#[test]
fn a_request_to_stop_exits_with_75_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for name in ["-TERM", "-USR1", "-INT"] {
        let mut child = command(&run).spawn().unwrap();
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
        if code == Some(0) {
            return;
        }
    }
    finish(&run);
}

#[test]
fn a_terminal_that_is_lost_stops_a_search_unless_it_was_told_to_ignore_that() {
    let folder = tempfile::tempdir().unwrap();
    for (run, shell) in [("stops", "exec \"$@\""), ("goes-on", "trap '' HUP; exec \"$@\"")] {
        let search = command(&folder.path().join(run));
        let mut child = Command::new("sh")
            .args(["-c", shell, "sh"])
            .arg(search.get_program())
            .args(search.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What follows finds nobody who reads it, as after the loss of a terminal.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("run directory")))
            .unwrap()
            .unwrap();
        drop(lines);
        signal(&child, "-HUP");
        let code = child.wait_with_output().unwrap().status.code();
        let stops = run == "stops" && !ignores_hangups();
        assert_eq!(code, Some(if stops { 75 } else { 0 }), "{run}");
    }
}

#[test]
fn another_configuration_or_a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let first = finish(&run);
    // Finished: the same again.
    assert_eq!(finish(&run).stdout, first.stdout);
    let output = command(&run).args(["--set", "search.candidates=4"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("search.candidates"), "{message}");
    assert!(output.stdout.is_empty());

    let held = natv2::run::RunDirectory::open(&run).unwrap();
    let output = command(&run).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    drop(held);
}
