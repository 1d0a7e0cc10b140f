//! A run in a process of its own: killed at random moments, locked, and asked to stop.
//!
//! The process is this test binary again, made to run the one test below that writes.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{ignores_hangups, signal};
use natv2::exit::Exit;
use natv2::run::{Checkpoint, RunDirectory, StopFlag};

const DIRECTORY: &str = "NATV2_TEST_RUN_DIRECTORY";
const SIZE: usize = 200_000;

/// Steps a run from where it stands to `end`, or until it is asked to stop.
fn write_run(path: &Path, end: u64, stop: &StopFlag) -> u64 {
    let run = RunDirectory::open(path).unwrap();
    let mut journal = run.journal().unwrap();
    let mut cache = run.cache("cache.jsonl").unwrap();
    let restored = run.latest_checkpoint("search").unwrap();
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    let done = restored.checkpoint.as_ref().map(Checkpoint::step);
    journal.rewind("search", done).unwrap();
    let mut step = done.map_or(0, |step| step + 1);
    while step < end && !stop.requested() {
        journal.append("search", step, "iteration", &step).unwrap();
        cache.insert(&format!("{step}"), &step).unwrap();
        let mut checkpoint = run.checkpoint("search", step).unwrap();
        checkpoint.add("state.json", format!("{step}").as_bytes()).unwrap();
        checkpoint.add("weights.safetensors", &vec![step as u8; SIZE]).unwrap();
        checkpoint.commit().unwrap();
        run.write_atomic("front.json", format!("{step} ").repeat(1000).as_bytes()).unwrap();
        step += 1;
    }
    step
}

/// On its own: a short run. Started by the tests below: a run without end, in their directory.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write_run(dir.path(), 3, &StopFlag::new()), 3);
        assert_eq!(check(dir.path()), 2);
        return;
    };
    let stop = StopFlag::install().unwrap();
    write_run(&path, u64::MAX, &stop);
    // A second SIGINT finds the process here.
    while stop.signal() == Some("SIGINT") && path.join("linger").exists() {
        sleep(Duration::from_millis(5));
    }
    std::process::exit(Exit::Stopped as i32);
}

/// Checks that a run is whole, and returns its newest checkpoint's step.
fn check(path: &Path) -> u64 {
    let run = RunDirectory::open(path).unwrap();
    let newest = run.latest_checkpoint("search").unwrap();
    assert!(newest.warnings.is_empty(), "{:?}", newest.warnings);
    let newest = newest.checkpoint.unwrap();
    let step = newest.step();
    assert_eq!(newest.read("state.json").unwrap(), format!("{step}").as_bytes());
    assert_eq!(newest.read("weights.safetensors").unwrap(), vec![step as u8; SIZE]);
    let front = String::from_utf8(run.read("front.json").unwrap().unwrap()).unwrap();
    let first = front.split(' ').next().unwrap();
    assert_eq!(front, format!("{first} ").repeat(1000));
    let mut journal = run.journal().unwrap();
    journal.rewind("search", Some(step)).unwrap();
    let steps: Vec<u64> = journal.events().iter().map(|event| event.step).collect();
    assert_eq!(steps, (0..=step).collect::<Vec<_>>());
    let cache = run.cache("cache.jsonl").unwrap();
    assert_eq!(cache.warning(), None);
    assert!((0..=step).all(|step| cache.get(&format!("{step}")) == Some(step)));
    step
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer"])
        .env(DIRECTORY, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long");
        sleep(Duration::from_millis(2));
    }
}

fn wait_for_front(path: &Path) {
    wait_until(|| path.join("front.json").exists());
}

#[test]
fn a_run_killed_at_random_moments_is_whole_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12u64 {
        let mut child = start(dir.path());
        let name = format!("process {}", child.id());
        wait_until(|| {
            fs::read_to_string(dir.path().join("lock"))
                .is_ok_and(|text| text.starts_with(&child.id().to_string()))
        });
        wait_for_front(dir.path());
        sleep(Duration::from_micros(round * 3_701 % 17_000));
        if round == 0 {
            let refused = RunDirectory::open(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(&name), "{refused}");
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let step = check(dir.path());
        assert!(step >= last, "{step} after {last}");
        last = step;
    }
}

#[test]
fn a_stop_signal_ends_the_step_and_leaves_with_the_code_for_requeuing() {
    for name in ["-TERM", "-HUP", "-USR1", "-USR2", "-INT"] {
        if name == "-HUP" && ignores_hangups() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(dir.path());
        wait_for_front(dir.path());
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(75), "{name}");
        check(dir.path());
    }
}

#[test]
fn a_second_interrupt_aborts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path());
    wait_for_front(dir.path());
    fs::write(dir.path().join("linger"), "").unwrap();
    signal(&child, "-INT");
    // The stages of stopping are seen from outside by the lock, which is free once the step is done.
    wait_until(|| natv2::run::holder(dir.path()).unwrap().is_none());
    assert_eq!(child.try_wait().unwrap(), None);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    check(dir.path());
}
