//! Whole commands leave on the stand-in driver what they leave on the emulated device, byte for byte: `natv2 run`, which
//! trains, searches with adaptation, fine-tunes and exports, and evaluations. Times and the name of the arithmetic differ,
//! and a run that began with one arithmetic does not go on with the other.
#![cfg(all(natv2_emulator, natv2_fatbin))]

use crate::common::newest;
use crate::common::stand_in::{natv2, text};
use natv2::space::{Arch, Family};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

/// A folder in which commands run on one device, with one interleaving of the driver's streams.
struct Place {
    folder: tempfile::TempDir,
    device: &'static str,
    seed: &'static str,
}

impl Place {
    fn new(device: &'static str, seed: &'static str) -> Place {
        Place { folder: tempfile::tempdir().expect("a folder"), device, seed }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command, given as one line, on a device; run directories are those of this folder.
    fn run_on(&self, device: &str, line: &str) -> Output {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let arguments: Vec<&str> = words.chain(["--device", device, "--json"]).collect();
        let report = self.path("report.json");
        let settings = [("SEED", self.seed), ("REPORT", report.to_str().expect("a path"))];
        let mut command = natv2(&arguments, &settings).expect("this build has the emulator");
        command.current_dir(self.folder.path()).output().expect("it runs")
    }

    /// A command that succeeds on this place's device: the JSON that it prints.
    #[track_caller]
    fn succeeds(&self, line: &str) -> Value {
        let output = self.run_on(self.device, line);
        assert!(output.status.success(), "{line} on {}: {}", self.device, text(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// How often the last command made the driver do that.
    fn count(&self, what: &str) -> u64 {
        let report: Value =
            serde_json::from_slice(&std::fs::read(self.path("report.json")).expect("a report"))
                .expect("a report in JSON");
        report["counts"][what].as_u64().unwrap_or(0)
    }

    /// What states call the device's arithmetic, without the precision.
    fn arithmetic(&self) -> &'static str {
        if self.device == "cuda" { "cuda 9.0" } else { self.device }
    }

    /// Every file of a run directory, without what may differ.
    fn left(&self, run: &str) -> BTreeMap<String, Left> {
        let (mut files, root) = (BTreeMap::new(), self.path(run));
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8").to_owned();
                // Names the process.
                if name != "lock" {
                    let left = self.left_in(&name, std::fs::read(&path).expect("a file"));
                    files.insert(name, left);
                }
            }
        }
        files
    }

    fn left_in(&self, name: &str, bytes: Vec<u8>) -> Left {
        if name.contains("tfevents") {
            return Left::Bytes(curves_without_times(&bytes));
        }
        if name == "report.html" {
            let text = String::from_utf8(bytes).expect("UTF-8");
            let row = format!("<dd>{}", self.arithmetic());
            assert_eq!(text.matches(&row).count(), 1, "the page names the arithmetic once");
            return Left::Bytes(text.replace(&row, "<dd>").into_bytes());
        }
        let journals = name.ends_with(".jsonl");
        if !journals && !["state.json", "manifest.json", "run.json"].iter().any(|end| name.ends_with(end)) {
            return Left::Bytes(bytes);
        }
        let here = self.folder.path().to_str().expect("UTF-8");
        let text = String::from_utf8(bytes).expect("UTF-8").replace(here, "HERE");
        let lines: Vec<&str> = if journals { text.lines().collect() } else { vec![&text] };
        let values = lines.into_iter().map(|line| without_names(serde_json::from_str(line).expect("JSON")));
        let mut values: Vec<Value> = values.collect();
        if name == "cache.jsonl" {
            // In the order in which groups of networks were done.
            values.sort_by_key(Value::to_string);
        }
        Left::Values(values)
    }
}

/// What a file holds beside what may differ.
#[derive(Debug, PartialEq)]
enum Left {
    Bytes(Vec<u8>),
    Values(Vec<Value>),
}

/// A state, a line of a journal or of a cache, or a manifest, without times and the arithmetic's name, and without the
/// hashes over these.
fn without_names(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        for name in ["time", "check", "fingerprint", "arithmetic"] {
            object.remove(name);
        }
        // A result in the cache is kept by the inputs' fingerprint and the genotype; test images are marked.
        if let Some((inputs, genotype)) =
            object.get("key").and_then(Value::as_str).and_then(|key| key.split_once(' '))
        {
            let marked = format!("{} {genotype}", if inputs.starts_with("test-") { "test" } else { "" });
            object.insert("key".into(), marked.into());
        }
        for file in object.get_mut("files").and_then(Value::as_array_mut).into_iter().flatten() {
            if file["name"] == "state.json" {
                file["sha256"] = Value::Null;
                file["size"] = Value::Null;
            }
        }
    }
    value
}

/// The records of a file of TensorBoard's: each has its length, a checksum, an event and a checksum, and an event
/// begins with its time.
fn curves_without_times(mut bytes: &[u8]) -> Vec<u8> {
    let mut events = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length) as usize;
        let event = &rest[4..4 + length];
        assert_eq!(event[0], 9, "a number of 64 bits, the first field");
        events.extend_from_slice(&event[9..]);
        bytes = &rest[length + 8..];
    }
    assert!(!events.is_empty(), "there are figures in it");
    events
}

/// Checks that two places have the same files in their run directories, and that there are some.
#[track_caller]
fn same(place: &Place, wanted: &Place) {
    let (found, wanted) = (place.left("run"), wanted.left("run"));
    assert!(found.keys().eq(wanted.keys()), "{:?}, {:?}", found.keys(), wanted.keys());
    for (name, left) in &wanted {
        assert!(found[name] == *left, "{name} differs with seed {}", place.seed);
    }
    for name in [
        "front.json",
        "archive.json",
        "training.json",
        "finetuned.json",
        "supernet.safetensors",
        "adapted.safetensors",
        "network-1.safetensors",
        "network-1.onnx",
    ] {
        assert!(matches!(wanted.get(name), Some(Left::Bytes(_))), "{name} is compared: {:?}", wanted.keys());
    }
    let weights = |name: &&String| name.starts_with("checkpoints/") && name.ends_with(".safetensors");
    assert!(wanted.keys().filter(weights).count() > 2, "weights of checkpoints: {:?}", wanted.keys());
}

/// Every stage, each in a precision of its own, at sizes of seconds.
const RUN: &str = "run --profile tiny --run run --set supernet.width=0.1 --set train.resolutions=[32] \
     --set train.schedule=full --set train.precision=f32 --set search.precision=bf16 --set search.archive=4 \
     --set search.oversample=1 --set search.iterations=1 --set search.candidates=2 \
     --set adaptation.precision=bf16 --set finetune.precision=f16 --set finetune.count=1 \
     --set finetune.epochs=1 --set finetune.keep=always-train";

#[test]
fn runs_leave_the_bytes_of_the_emulated_device_and_go_on_with_their_arithmetic_alone() {
    let emulated = Place::new("emulated", "0");
    let wanted = emulated.succeeds(RUN);
    let cards = [Place::new("cuda", "0"), Place::new("cuda", "7")];
    for card in &cards {
        assert_eq!(card.succeeds(RUN), wanted);
        // It was the driver, and populations had a stream more.
        assert!(
            card.count("cuLaunchKernel") > 1000 && card.count("cuStreamCreate") >= 2,
            "seed {}",
            card.seed
        );
        same(card, &emulated);
    }

    // With other arithmetic nothing goes on, and nothing changes.
    for (place, other) in [(&emulated, &cards[0]), (&cards[0], &emulated)] {
        for (stage, precision) in [("train", ""), ("search", ", bf16"), ("finetune", ", f16")] {
            let (_, files) = newest(&place.path("run"), stage);
            let state: Value = serde_json::from_slice(&files["state.json"]).expect("JSON");
            assert_eq!(state["arithmetic"], format!("{}{precision}", place.arithmetic()));
        }
        let left = place.left("run");
        let refused = place.run_on(other.device, RUN);
        let (said, before, now) = (text(&refused), place.arithmetic(), other.arithmetic());
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("or arithmetic ({before}; now {now}): choose the device")), "{said}");
        assert!(place.left("run") == left, "a run that is refused changes nothing");
    }

    // Another interleaving of the streams is no other arithmetic: what was lost is computed again, and is the same.
    let [_, mut card] = cards;
    card.seed = "3";
    for name in ["network-1.safetensors", "checkpoints/finetune"] {
        let path = card.path("run").join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("it is there");
    }
    assert_eq!(card.succeeds(RUN), wanted);
    assert!(card.count("cuLaunchKernel") > 1000);
    assert_eq!(card.left("run")["network-1.safetensors"], emulated.left("run")["network-1.safetensors"]);
}

/// A report without times and the device's name.
fn without_times(mut value: Value) -> Value {
    const MEASURED: [&str; 14] = [
        "device",
        "launch",
        "seconds",
        "inference",
        "recalibration_share",
        "networks_per_second",
        "images_per_second",
        "planning",
        "launching",
        "recording",
        "starting",
        "copying",
        "waiting",
        "peak_bytes",
    ];
    match &mut value {
        Value::Object(object) => {
            object.retain(|name, _| !MEASURED.contains(&name.as_str()));
            object.values_mut().for_each(|value| *value = without_times(value.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = without_times(value.take())),
        _ => {}
    }
    value
}

#[test]
fn evaluations_print_what_they_print_on_the_emulated_device() {
    let places = [Place::new("emulated", "0"), Place::new("cuda", "0"), Place::new("cuda", "7")];
    let arch =
        serde_json::to_string(&Arch { d: [2; 5], ..Arch::middle(Family::SE_B, 32, None) }).expect("JSON");
    let commands = [
        format!("evaluate --arch {arch} --images 20 --calibration-images 50 --precision f16"),
        "bench evaluate --width 0.1 --resolution 32 --images 8 --calibration-images 8 --networks 2 --rounds 1 \
         --streams 1 --streams 2 --graphs never --graphs always --precision bf16"
            .to_owned(),
    ];
    for line in &commands {
        let [wanted, found @ ..] = places.each_ref().map(|place| without_times(place.succeeds(line)));
        assert!(found.iter().all(|found| *found == wanted), "{line}: {found:?}, {wanted}");
        // Whether a population gives what its networks give alone.
        assert!(!wanted.to_string().contains("\"equal\":false"), "{line}: {wanted}");
    }
    assert!(places[1].count("cuGraphLaunch") > 0, "the last was to use graphs");
}
