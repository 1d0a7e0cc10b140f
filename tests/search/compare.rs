//! Searches set against each other by the command line: equal budgets, one reference point, the same
//! bytes however often it was interrupted.
#![cfg(unix)]

use crate::common::{ends_within, signal};
use natv2::moo::{Points, hypervolume::hypervolume};
use rand::RngExt;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// A comparison of seconds on the built-in digits.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["compare", "--profile", "tiny", "--device", "cpu", "--json", "--run"]).arg(folder);
    command.args(["--set", "search.calibration_images=50"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finished(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Standard error of a command that ends with `code` and prints nothing else.
fn refused(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(output.stdout.is_empty());
    message
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The minimised objectives of networks, whether of `archive.json` or of a comparison's front.
fn rows(networks: &Value) -> Vec<Vec<f64>> {
    let row = |n: &Value| {
        [100.0 - n["top1"].as_f64().unwrap(), n["params"].as_f64().unwrap(), n["macs"].as_f64().unwrap()]
    };
    list(networks).iter().map(|network| row(network).to_vec()).collect()
}

/// Two of the three methods, for what does not depend on their number.
const TWO: [&str; 4] = ["--methods", "natv2,nat", "--seeds", "0,1"];

#[test]
fn figures_are_those_of_the_searches() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let printed = finished(command(&run, &["--seeds", "3,4"]));
    let comparison = json(&run.join("comparison.json"));
    assert_eq!(comparison["version"], 1);
    let names: Vec<&str> =
        list(&comparison["variants"]).iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["natv2", "nat", "random"]);

    let reference: Vec<f64> = list(&comparison["reference"]).iter().map(|r| r.as_f64().unwrap()).collect();
    for variant in list(&comparison["variants"]) {
        let mut volumes = Vec::new();
        for (search, seed) in list(&variant["runs"]).iter().zip([3, 4]) {
            assert_eq!(search["seed"], seed);
            // 12 * 2 for the first archive and 3 in each of 2 rounds; NAT's counts were scaled to it.
            assert_eq!((&search["networks"], &search["evaluations"]), (&30.into(), &30.into()));
            let name = variant["name"].as_str().unwrap();
            let archive = json(&run.join(format!("{name}-{seed}/archive.json")));
            let archive = rows(&archive["networks"]);
            let scaled = archive.iter().map(|row| row.iter().zip(&reference).map(|(x, r)| x / r).collect());
            let volume = hypervolume(&Points::from_rows(3, scaled.collect::<Vec<Vec<f64>>>()), &[1.0; 3]);
            assert!((search["hypervolume"].as_f64().unwrap() - volume).abs() < 1e-12);
            volumes.push(volume);
            let steps = list(&search["steps"]);
            assert_eq!(steps.len(), 3);
            let last = steps[2]["hypervolume"].as_f64().unwrap();
            assert!((last - volume).abs() < 1e-12, "the journal's last front is the archive's");
            assert_eq!(search["tau"].is_null(), name == "random");

            let best = archive.iter().map(|row| 100.0 - row[0]).fold(0.0, f64::max);
            assert!((search["best"]["top1"].as_f64().unwrap() - best).abs() < 1e-9);
            assert!(list(&search["front"]).contains(&search["best"]));
            assert!(list(&search["front"]).is_sorted_by_key(|n| n["macs"].as_u64().unwrap()));
        }
        let spread = &variant["hypervolume"];
        let (mean, apart) = ((volumes[0] + volumes[1]) / 2.0, (volumes[0] - volumes[1]).abs());
        assert!((spread["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((spread["deviation"].as_f64().unwrap() - apart / 2f64.sqrt()).abs() < 1e-12);
    }
    let fronts = |variant: usize, seed: usize| rows(&comparison["variants"][variant]["runs"][seed]["front"]);
    for a in 0..3 {
        for b in (0..3).filter(|&b| b != a) {
            let share = |seed: usize| {
                let (a, b) = (fronts(a, seed), fronts(b, seed));
                let covers = |y: &&Vec<f64>| a.iter().any(|x| x.iter().zip(*y).all(|(x, y)| x <= y));
                b.iter().filter(covers).count() as f64 / b.len() as f64
            };
            let coverage = comparison["coverage"][a][b].as_f64().unwrap();
            assert!((coverage - (share(0) + share(1)) / 2.0).abs() < 1e-12);
        }
        assert!(comparison["coverage"][a][a].is_null());
    }

    let mut object: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(object["run"].take(), run.display().to_string());
    object.as_object_mut().unwrap().remove("run");
    assert_eq!(object, comparison);
    let text = String::from_utf8(std::fs::read(run.join("comparison.json")).unwrap()).unwrap();
    assert!(!text.contains(&*folder.path().to_string_lossy()));

    // The page is drawn from the file alone, and again the same.
    let page = std::fs::read(run.join("report.html")).unwrap();
    std::fs::remove_file(run.join("report.html")).unwrap();
    let natv2 = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).arg(&run).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    natv2(&["report"]);
    assert_eq!(std::fs::read(run.join("report.html")).unwrap(), page);
    assert!(String::from_utf8(page).unwrap().contains("seed 4, network 1"));
    assert!(natv2(&["status"]).contains("6 of 6 searches finished"));
    assert_eq!(
        list(&serde_json::from_str::<Value>(&natv2(&["status", "--json"])).unwrap()["searches"]).len(),
        6
    );
}

#[test]
fn each_search_is_one_of_its_own_and_more_can_be_added() {
    let folder = tempfile::tempdir().unwrap();
    let (run, alone) = (folder.path().join("run"), folder.path().join("alone"));
    finished(command(&run, &["--methods", "natv2,nat", "--seeds", "1"]));
    let first = json(&run.join("comparison.json"));
    let settings: Vec<&str> =
        list(&first["variants"][1]["settings"]).iter().map(|set| set.as_str().unwrap()).collect();
    let mut search = Command::new(env!("CARGO_BIN_EXE_natv2"));
    search.args(["search", "--profile", "tiny", "--device", "cpu", "--seed", "1", "--run"]).arg(&alone);
    search.args(["--set", "search.calibration_images=50"]);
    for set in settings {
        search.args(["--set", set]);
    }
    finished(search);
    for name in ["config.toml", "archive.json", "front.json"] {
        let [own, compared] =
            [&alone, &run.join("nat-1")].map(|folder| std::fs::read_to_string(folder.join(name)).unwrap());
        assert_eq!(own, compared, "{name}");
    }
    let marked = run.join("nat-1/cache.jsonl");
    let before = std::fs::metadata(&marked).unwrap().len();
    finished(command(&run, &["--methods", "natv2,nat,random", "--seeds", "1,2"]));
    assert_eq!(std::fs::metadata(&marked).unwrap().len(), before, "nothing was evaluated again");
    let second = json(&run.join("comparison.json"));
    assert_eq!(list(&second["variants"]).len(), 3);
    assert_eq!(second["variants"][1]["runs"][0]["front"], first["variants"][1]["runs"][0]["front"]);
}

#[test]
fn killed_at_random_moments_and_on_other_threads_the_bytes_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let sets = ["--set", "adaptation.epochs=1", "--set", "adaptation.epoch_images=128"];
    let arguments = [&TWO[..], &sets].concat();
    let start = Instant::now();
    finished(command(&whole, &[&arguments[..], &["--threads", "1"]].concat()));
    let whole_run = start.elapsed();
    let mut rng = natv2::random::stream(2, "test/kills", 0, 0);
    let mut kills = 0;
    for _ in 0..6 {
        let mut child = command(&killed, &arguments).spawn().unwrap();
        if ends_within(&mut child, whole_run.mul_f64(rng.random_range(0.05..0.4))) {
            break;
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "no comparison was ever at work");
    finished(command(&killed, &[&arguments[..], &["--threads", "2"]].concat()));
    let [whole_bytes, killed_bytes] =
        [&whole, &killed].map(|folder| std::fs::read(folder.join("comparison.json")).unwrap());
    assert!(whole_bytes == killed_bytes);

    // With adaptation, too, evaluations and steps are equal: repeated evaluations count.
    let comparison = json(&whole.join("comparison.json"));
    let run = |variant: usize| &comparison["variants"][variant]["runs"][0];
    let (natv2, nat) = (run(0), run(1));
    // 30 networks, and the archive of 12 again after each of two rounds.
    assert_eq!((&natv2["networks"], &natv2["evaluations"]), (&30.into(), &54.into()));
    let evaluations = nat["evaluations"].as_i64().unwrap();
    assert!((evaluations - 54).abs() <= 1, "{evaluations}");
    assert_eq!(natv2["adaptation_steps"], nat["adaptation_steps"]);
    assert!(natv2["adaptation_steps"].as_u64().unwrap() > 0);
}

#[test]
fn a_request_to_stop_exits_with_75_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut child = command(&run, &TWO).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("search 1 of 4"))).unwrap().unwrap();
    std::thread::spawn(move || lines.count());
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!run.join("comparison.json").exists());
    finished(command(&run, &TWO));
    assert!(run.join("comparison.json").exists());
}

#[test]
fn several_processes_share_a_directory_and_its_bytes_are_those_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    finished(command(&alone, &TWO));
    // Two jobs of an array, a seed each, and one that wants everything, begun at once.
    let jobs = [vec!["--seeds", "0"], vec!["--seeds", "1"], vec!["--seeds", "0,1"]];
    let jobs: Vec<_> = jobs
        .iter()
        .map(|seeds| command(&shared, &[&TWO[..2], seeds].concat()).spawn().unwrap())
        .map(|child| std::thread::spawn(move || child.wait_with_output().unwrap()))
        .collect();
    for job in jobs {
        let output = job.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The command with all seeds makes the table from what is finished, and searches nothing.
    let output = finished(command(&shared, &TWO));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("initial archive"), "{said}");
    let [one, many] = [&alone, &shared].map(|run| std::fs::read(run.join("comparison.json")).unwrap());
    assert!(one == many);
}

#[test]
fn what_cannot_be_compared_is_refused_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for (arguments, expected) in [
        (&["--methods", "natv2,rnadom"][..], "did you mean \"random\""),
        (&["--methods", "nat", "--variant", "nat:seed=3"], "--seeds"),
        (&["--methods", "nat,nat"], "two variants are called nat"),
        (&["--variant", "a/b:search.archive=9"], "cannot be one of a folder"),
        (&["--variant", "a:archive"], "is no setting"),
        (&["--variant", "a:search.archiv=9"], "search.archive"),
        (&["--vary", "predictor.kind"], "KEY=A,B"),
        (&["--methods", "natv2", "--variant", "b:search.objectives=top1,macs"], "search.objectives"),
        (&["--vary", "search.eval_images=50,60"], "search.eval_images"),
        (&["--seeds", "1,2,1"], "given twice"),
        (&["--budget", "fair"], "equal and as-is"),
    ] {
        let message = refused(command(&run, arguments), 2);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!run.exists(), "{arguments:?}");
    }
    // Once it is there, neither the common configuration nor a variant may change under it.
    let arguments = ["--variant", "a:search.candidates=3", "--seeds", "0"];
    finished(command(&run, &arguments));
    let message = refused(command(&run, &[&arguments[..], &["--set", "search.archive=10"]].concat()), 2);
    assert!(message.contains("search.archive is 12"), "{message}");
    let message = refused(command(&run, &["--variant", "a:search.candidates=4", "--seeds", "0"]), 2);
    assert!(message.contains("search.candidates is 3"), "{message}");
}

#[test]
fn settings_are_varied_and_the_table_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    command.args(["compare", "--profile", "tiny", "--device", "cpu", "--quiet", "--run"]).arg(&run);
    command.args(["--vary", "predictor.kind=gbdt,cart", "--seeds", "0", "--budget", "as-is"]);
    let output = finished(command);
    assert!(output.stderr.is_empty());
    let table = String::from_utf8(output.stdout).unwrap();
    for text in ["kind-gbdt", "kind-cart", "one reference point", "C-metric", "comparison.json"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    let comparison = json(&run.join("comparison.json"));
    assert_eq!(comparison["variants"][0]["settings"][0], "predictor.kind=gbdt");
    assert_eq!(comparison["budget"], "as-is");
    // A single seed spreads over nothing.
    assert!(comparison["variants"][0]["top1"]["deviation"].is_null());
}
