//! What test programs share: where the reference values are and how they are read; programs that are killed.
#![allow(dead_code)]

pub mod devices;
pub mod stand_in;

use natv2::run::{StopFlag, latest_checkpoint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The folder of reference values: `NATV2_GOLDEN`, else `tests/golden`.
pub fn golden() -> PathBuf {
    std::env::var_os("NATV2_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// A JSON file of reference values.
pub fn read(name: &str) -> Value {
    let path = golden().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The stems of all JSON files that start with `prefix` and whose stem passes `accept`; at least one.
pub fn stems(prefix: &str, accept: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = golden();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut stems: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_string))
        .filter(|stem| stem.starts_with(prefix) && accept(stem))
        .collect();
    stems.sort();
    assert!(!stems.is_empty(), "{} holds no {prefix}*.json of this kind", folder.display());
    stems
}

/// An architecture of a case: only the fields that belong to one, whatever else the case holds.
pub fn arch_fields(case: &Value) -> Value {
    let keep = ["r", "w", "ks", "e", "d", "nw", "nd"];
    let object = case.as_object().expect("a case is an object");
    object
        .iter()
        .filter(|(key, _)| keep.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The cases of a file; at least one.
pub fn cases(file: &Value) -> &Vec<Value> {
    let cases = file["cases"].as_array().expect("a list of cases");
    assert!(!cases.is_empty(), "no cases");
    cases
}

/// Waits up to `limit`; whether the child has ended by then.
pub fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Sends a signal, such as `-KILL`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether this process ignores SIGHUP, as under `nohup`: the programs that it starts do then, too.
pub fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Every file of the newest checkpoint of a stage, by its name, and the checkpoint's step.
pub fn newest(run: &Path, stage: &str) -> (u64, BTreeMap<String, Vec<u8>>) {
    let checkpoint = latest_checkpoint(run, stage).unwrap().checkpoint.expect("a checkpoint");
    let file = |name: &str| (name.to_string(), checkpoint.read(name).unwrap());
    (checkpoint.step(), checkpoint.names().map(file).collect())
}

/// Takes a training in `run` to its end that is stopped before each of `steps`, which are ascending, and nowhere else.
/// `train` goes on with it until the flag rises, at which it looks once before every step.
pub fn stopped_before(
    (run, stage): (&Path, &str),
    steps: &[u64],
    train: impl Fn(&StopFlag) -> Result<bool, String>,
) -> Result<bool, String> {
    let mut at = 0;
    for &step in steps {
        assert_eq!(train(&StopFlag::at_look((step - at) as usize)), Ok(false), "before step {step}");
        assert_eq!(newest(run, stage).0, step);
        at = step;
    }
    train(&StopFlag::new())
}
