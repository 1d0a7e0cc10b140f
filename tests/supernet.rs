//! `natv2 supernet`, and exits and ensembles of `natv2 evaluate` and `natv2 logits`.

use natv2::space::{Arch, Family};
use natv2::supernet::{Checkpoint, Supernet};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits.safetensors");
const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ofav2_w025_inputs.safetensors");
const OFAV2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ofav2_w025.safetensors");

fn natv2(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = natv2(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"))
}

#[track_caller]
fn fails(arguments: &[&str], part: &str) {
    let (code, out, err) = natv2(arguments);
    assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
    assert!(err.contains(part), "{arguments:?}: {err}");
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().into()
}

#[test]
fn info_tells_what_a_file_holds() {
    let info = json(&["supernet", "info", "--weights", DIGITS, "--json"]);
    assert_eq!((&info["width"], &info["classes"]), (&0.25.into(), &10.into()));
    assert_eq!(info["families"], serde_json::json!(["SE_B", "SE_D"]));
    assert_eq!(info["card"]["data"], "digits");
    let all = json(&["supernet", "info", "--weights", OFAV2, "--json"]);
    assert_eq!(all["families"].as_array().unwrap().len(), 8);
    let (code, text, _) = natv2(&["supernet", "info"]);
    assert_eq!(code, 0);
    for part in ["SE_B (serves SE_B, SE_D)", "0.25, 10 classes", "plain head", "data: digits"] {
        assert!(text.contains(part), "no {part}: {text}");
    }
}

#[test]
fn init_writes_a_super_network_that_loads_and_is_the_same_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["a.safetensors", "b.safetensors", "c.safetensors"].map(|name| at(folder.path(), name));
    for (file, seed) in files.iter().zip(["1", "1", "2"]) {
        let arguments = ["supernet", "init", "--family", "EE_DP", "--width", "0.25", "--classes", "7"];
        let made = json(&[&arguments[..], &["--seed", seed, "--out", file, "--json"]].concat());
        assert_eq!(made["family"], "EE_DP");
    }
    let [a, b, c] = files.each_ref().map(|file| std::fs::read(file).unwrap());
    assert!(a == b && a != c);
    let net = Supernet::load(files[0].as_ref(), None).unwrap();
    assert_eq!((net.family.to_string(), net.classes()), ("EE_DP".into(), 7));
    assert!(net.card.trained.unwrap().contains("random"));
    let out = &files[0];
    fails(&["supernet", "init", "--family", "SE_B", "--classes", "0", "--out", out], "0 classes");
    fails(
        &["supernet", "init", "--family", "SE_B", "--width", "99", "--classes", "2", "--out", out],
        "width multiplier 99",
    );
    fails(&["supernet", "init", "--family", "XX", "--classes", "2", "--out", out], "XX");
}

#[test]
fn convert_keeps_what_both_families_have() {
    let folder = tempfile::tempdir().unwrap();
    let (early, back) = (at(folder.path(), "early.safetensors"), at(folder.path(), "back.safetensors"));
    let done = json(&["supernet", "convert", "--to-family", "EE_P", "--out", &early, "--json"]);
    assert!(done["new"].as_u64().unwrap() > 0 && done["kept"].as_u64().unwrap() > 400);
    json(&["supernet", "convert", "--weights", &early, "--to-family", "SE_B", "--out", &back, "--json"]);
    let [before, after] = [DIGITS, &back].map(|file| Checkpoint::read(file.as_ref()).unwrap());
    assert!(before.tensors().eq(after.tensors()));
    let (code, _, err) =
        natv2(&["supernet", "convert", "--to-family", "SE_B", "--out", "/nowhere/x.safetensors"]);
    assert_eq!(code, 1);
    assert!(err.contains("/nowhere/x.card.json"), "{err}");
}

#[test]
fn evaluate_measures_exits_and_their_ensemble_in_one_pass() {
    let folder = tempfile::tempdir().unwrap();
    let weights = at(folder.path(), "early.safetensors");
    json(&["supernet", "convert", "--to-family", "EE_B", "--out", &weights, "--json"]);
    let arch = serde_json::to_string(&Arch::largest("EE_B".parse().unwrap(), 32, None)).unwrap();
    let common = ["evaluate", "--weights", &weights, "--arch", &arch, "--images", "40", "--json"];
    let with = |more: &[&str]| json(&[&common[..], &["--calibration-images", "40"], more].concat());
    let (plain, listed) = (with(&[]), with(&["--exits", "1,5"]));
    let [plain, listed] = [&plain, &listed].map(|report| &report["results"][0]);
    assert!(plain.get("exits").is_none());
    assert_eq!(listed["exits"].as_array().unwrap().len(), 2);
    assert_eq!((&listed["exits"][1]["top1"], &listed["exits"][1]["loss"]), (&plain["top1"], &plain["loss"]));
    assert_eq!(listed["top1"], plain["top1"]);
    assert!(listed["params"].as_u64() > plain["params"].as_u64());
    let ensemble = with(&["--ensemble", "mix"]);
    let ensemble = &ensemble["results"][0];
    assert_eq!(ensemble["exits"].as_array().unwrap().len(), 5);
    assert_ne!(ensemble["loss"], ensemble["exits"][4]["loss"]);
    fails(&[&common[..], &["--exits", "6"]].concat(), "1 to 5");
    fails(&[&common[..], &["--ensemble", "best"]].concat(), "desc, asc, unif and mix");
    let plain = serde_json::to_string(&Arch::largest(Family::SE_B, 32, None)).unwrap();
    fails(&["evaluate", "--arch", &plain, "--ensemble", "asc"], "one plain head");
    // The table lists the exits below their network.
    let (code, text, _) = natv2(&[&common[..7], &["--calibration-images", "40", "--exits", "all"]].concat());
    assert_eq!((code, text.trim_end().lines().count()), (0, 9), "{text}");
}

#[test]
fn logits_of_an_ensemble_are_the_weighted_sum_of_those_of_the_exits() {
    let folder = tempfile::tempdir().unwrap();
    let arch = serde_json::to_string(&Arch::largest("EE_D".parse().unwrap(), 32, None)).unwrap();
    let run = |name: &str, more: &[&str]| {
        let out = at(folder.path(), name);
        let arguments = [
            "logits",
            "--weights",
            OFAV2,
            "--family",
            "EE_D",
            "--arch",
            &arch,
            "--inputs",
            INPUTS,
            "--calibrate",
        ];
        json(&[&arguments[..], &["--out", &out, "--json"], more].concat());
        Checkpoint::read(out.as_ref()).unwrap().tensor("logits").unwrap().clone()
    };
    let (listed, all) = (run("listed", &["--exits", "2,4,5"]), run("all", &["--all-exits"]));
    let (n, classes) = (all.shape[1], all.shape[2]);
    assert_eq!((listed.shape[0], all.shape[0]), (3, 5));
    assert_eq!(listed.data[..n * classes], all.data[n * classes..][..n * classes]);
    let ensemble = run("ensemble", &["--exits", "2,4,5", "--ensemble", "asc"]);
    assert_eq!(ensemble.shape, [n, classes]);
    let exit = |e: usize, i: usize| f64::from(listed.data[e * n * classes + i]);
    for (i, &found) in ensemble.data.iter().enumerate() {
        let expected = 0.1667 * exit(0, i) + 0.3333 * exit(1, i) + 0.5 * exit(2, i);
        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
    }
}
