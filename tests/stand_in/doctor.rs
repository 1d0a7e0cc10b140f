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
    let cases = [
        ([("CUDA", "10020"), ("FAIL", "")], "too old"),
        (
            [("CUDA", "13000"), ("FAIL", "cuModuleLoadData:*:CUDA_ERROR_NO_BINARY_FOR_GPU")],
            "cannot be loaded",
        ),
    ];
    for (settings, part) in cases {
        let Some(output) = doctor(&settings) else { return };
        let (state, said) = finding(&output, "devices", "cuda");
        assert!(state == "missing" && said.contains(part) && !said.contains('\n'), "{settings:?}: {said}");
        assert_eq!(output.status.code(), Some(0), "a card that cannot be used is not there");
    }
}
