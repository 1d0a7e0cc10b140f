//! `natv2 doctor` on the stand-in driver, and on drivers that do not do.

use crate::common::stand_in::{natv2, text};
use std::process::{Command, Output};

/// `natv2 doctor --json` with a driver of those settings: what it prints, and how it ends.
fn doctor(settings: &[(&str, &str)]) -> Option<Output> {
    Some(natv2(&["doctor", "--json"], settings)?.output().expect("it runs"))
}

/// State and text of a finding.
fn finding(output: &Output, section: &str, name: &str) -> (String, String) {
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)));
    let named = |list: &serde_json::Value, name: &str| {
        let list = list.as_array().expect("a list");
        list.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}")).clone()
    };
    let found = named(&named(&report["sections"], section)["findings"], name);
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("state"), format!("{} -> {}", text("value"), text("remedy")))
}

#[test]
fn a_card_of_the_stand_in_is_there_and_right() {
    let Some(output) = doctor(&[("TERMINATED", "1")]) else { return };
    let (state, said) = finding(&output, "devices", "cuda");
    if !cfg!(natv2_fatbin) && state == "missing" {
        // Nothing to run: no images, and no NVRTC on the library path.
        assert!(said.contains("built without nvcc"), "{said}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(state == "ok" && said.contains("stand-in driver"), "{state}: {said}");
    assert_eq!(finding(&output, "cuda", "driver").0, "ok");
    let (_, library) = finding(&output, "cuda", "driver library");
    assert!(library.contains("libcuda.so"), "{library}");
}

/// An A100 takes the code of sm_80, with less shared memory; a card that is newer than the build takes PTX.
#[test]
fn cards_of_other_generations_take_their_own_code() {
    for (compute, most) in [("8.0", "163"), ("10.0", "227")] {
        let Some(output) = doctor(&[("COMPUTE", compute)]) else { return };
        let (state, said) = finding(&output, "devices", "cuda");
        if !cfg!(natv2_fatbin) && state == "missing" {
            continue;
        }
        assert!(
            state == "ok" && said.contains(&format!("compute capability {compute}")),
            "{most}: {state}: {said}"
        );
    }
}

#[test]
fn the_emulated_device_does_not_pass_for_a_card() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
    let output = command.args(["doctor", "--json"]).env_remove("LD_LIBRARY_PATH").output().expect("it runs");
    let (state, said) = finding(&output, "devices", "cuda");
    assert!(!said.contains("stand-in"), "{said}");
    // Where this machine has a card, that is found.
    assert!(state != "ok" || finding(&output, "cuda", "driver").0 == "ok", "{state}: {said}");
}

#[test]
fn a_card_that_computes_wrong_results_is_broken() {
    // The tenth kernel is left out: what it was to write stays poison, and no call tells.
    if !cfg!(natv2_fatbin) {
        return;
    }
    let Some(output) = doctor(&[("SKIP", "10")]) else { return };
    let (state, said) = finding(&output, "devices", "cuda");
    assert_eq!(state, "broken", "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("is there and does not work: cuda"), "{}", text(&output));
}

#[test]
fn drivers_that_do_not_do_are_told_apart() {
    let cases = [
        ("cuInit:*:CUDA_ERROR_STUB_LIBRARY", "broken", "LD_LIBRARY_PATH"),
        ("cuInit:*:CUDA_ERROR_NO_DEVICE", "missing", "finds no card"),
    ];
    for (failure, wanted, part) in cases {
        let Some(output) = doctor(&[("FAIL", failure)]) else { return };
        let (state, said) = finding(&output, "cuda", "driver");
        assert!(state == wanted && said.contains(part), "{failure}: {said}");
        assert_eq!(output.status.code(), Some(0), "no card is no failure");
    }
    let mut cases = vec![
        (("CUDA", "10020"), "too old"),
        (("FAIL", "cuModuleLoadData:*:CUDA_ERROR_NO_BINARY_FOR_GPU"), "cannot be loaded"),
    ];
    if cfg!(natv2_fatbin) {
        cases.push((("COMPUTE", "7.5"), "has compute capability 7.5"));
        cases.push((("CUDA", "11080"), "supports CUDA 11.8, and the code in this program is of CUDA"));
    }
    for (setting, part) in cases {
        let Some(output) = doctor(&[setting]) else { return };
        let (state, said) = finding(&output, "devices", "cuda");
        assert!(state == "missing" && said.contains(part) && !said.contains('\n'), "{setting:?}: {said}");
        assert_eq!(output.status.code(), Some(0), "a card that cannot be used is not there");
    }
}

#[test]
fn settings_of_the_driver_that_are_wrong_are_named() {
    let cases = [
        ("SEED", "one", "NATV2_STAND_IN_SEED is \"one\", and has to be a number"),
        ("COMPUTE", "9", "NATV2_STAND_IN_COMPUTE is \"9\", and has to be two numbers, as 9.0"),
        ("FAIL", "cuInit:1", "\"cuInit:1\" is not SYMBOL:WHICH:CODE"),
        ("FAIL", "cuInit:0:CUDA_ERROR_UNKNOWN", "\"0\" is not N, N+, * or ?N, with N from 1 on"),
        ("FAIL", "cuInit:1:CUDA_ERROR", "\"CUDA_ERROR\" is no code that a call can return"),
    ];
    for (name, value, part) in cases {
        let Some(output) = doctor(&[(name, value)]) else { return };
        let said = text(&output);
        assert!(output.status.code() == Some(2) && said.contains(part), "{name}={value}: {said}");
    }
}

/// `?4` is one of the first four calls: which one, the seed says.
#[test]
fn which_call_fails_can_be_drawn_from_the_seed() {
    if !cfg!(natv2_fatbin) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report");
    let launches = |seed: &str| {
        let fail = ("FAIL", "cuLaunchKernel:?4:CUDA_ERROR_NOT_PERMITTED");
        let output = doctor(&[("SEED", seed), fail, ("REPORT", report.to_str().expect("UTF-8"))])?;
        let (state, said) = finding(&output, "devices", "cuda");
        assert!(state != "ok" && said.contains("CUDA_ERROR_NOT_PERMITTED"), "{state}: {said}");
        let counts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
        counts["counts"]["cuLaunchKernel"].as_u64()
    };
    let Some(first) = launches("1") else { return };
    assert_eq!(launches("1"), Some(first));
    let drawn: Vec<u64> = ["2", "3", "4", "5", "6", "7"].into_iter().filter_map(launches).collect();
    assert!(drawn.iter().all(|count| (1..=4).contains(count)), "{drawn:?}");
    assert!(drawn.iter().any(|count| *count != first), "{first} and {drawn:?}");
}
