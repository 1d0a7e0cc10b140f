//! The program itself: every subcommand, and every kind of bad input.

use super::program::*;
use crate::common;
use natv2::space::Arch;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

fn tensor_file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn images(shape: [usize; 4], value: f32) -> (Dtype, Vec<usize>, Vec<u8>) {
    let data = (0..shape.iter().product()).map(|i: usize| (value + (i % 7) as f32 / 7.0).to_le_bytes());
    (Dtype::F32, shape.to_vec(), data.flatten().collect())
}

fn inputs(shape: [usize; 4], names: &[&str]) -> Vec<u8> {
    let (dtype, shape, data) = images(shape, 0.1);
    tensor_file(&names.iter().map(|name| (*name, dtype, shape.clone(), data.clone())).collect::<Vec<_>>())
}
// ---- arch ----------------------------------------------------------------------------------

#[test]
fn encode_and_decode_are_inverse() {
    let scratch = Scratch::new();
    let genotype = "[1,0,2,9,9,9,1,1,1,0,0,3,4,5,0,0,0,0,0,0,0,0,0]";
    let arch = json_of(&["arch", "decode", "--family", "EE_D", genotype, "--json"]);
    assert_eq!(
        arch,
        json!({
            "r": 56, "w": 1.0, "nd": 3, "d": [4, 2, 3, 2, 2],
            "ks": [7, 7, 7, 3, 3, 3, 3, 3, 7, 3, 5, 3, 3, 3, 3, 3, 3, 3, 3, 3],
            "e": [6, 6, 6, 3, 3, 3, 3, 3, 3, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3],
        })
    );
    let file = scratch.write("arch.json", arch.to_string());
    let again = json_of(&["arch", "encode", "--family", "EE_D", "--arch", &format!("@{file}"), "--json"]);
    assert_eq!(again.to_string(), genotype);
    // Not canonical: genes behind the exit are read, and come back as zeros.
    let loose = "[1,0,2,9,9,9,1,1,1,0,0,3,4,5,0,1,2,0,0,3,4,5,6]";
    let file = scratch.write("genotype.json", loose);
    assert_eq!(json_of(&["arch", "decode", "--family", "EE_D", &format!("@{file}")]), arch);
}

#[test]
fn weights_give_the_space() {
    let arch = with(|a| a["r"] = json!(40));
    let genotype = json_of(&["arch", "encode", "--weights", WEIGHTS, "--arch", &arch]);
    assert_eq!(genotype.to_string(), "[1,0,1,1,0,0,1,1,0,0,1,1,0,0,1,1,0,0,1,1,0,0]");
    let decoded = json_of(&["arch", "decode", "--weights", WEIGHTS, &genotype.to_string()]);
    assert_eq!((&decoded["r"], &decoded["w"]), (&json!(40), &json!(0.25)));
    // A flag overrides the card.
    let genotype =
        json_of(&["arch", "encode", "--weights", WEIGHTS, "--arch", &arch, "--resolutions", "32:48:4"]);
    assert_eq!(genotype[0], 2);
    // The card lists 32, 40 and 48, and genotypes are bound to it.
    fails(
        2,
        &["arch", "encode", "--weights", WEIGHTS, "--arch", &with(|a| a["r"] = json!(36))],
        &["`r`", "36"],
    );
}

#[test]
fn cost_matches_the_reference_and_takes_any_resolution() {
    let file = common::read("costs.json");
    let scaling = file["exit_scaling"].as_str().unwrap();
    for case in common::cases(&file).iter().step_by(7) {
        let exits = match &case["exits"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            list => Some(list.to_string().trim_matches(['[', ']']).to_string()),
        };
        let (arch, classes) = (case["arch"].to_string(), case["classes"].to_string());
        let family = case["family"].as_str().unwrap();
        let mut arguments = vec!["arch", "cost", "--family", family, "--classes", &classes, "--arch", &arch];
        arguments.extend(["--exit-scaling", scaling, "--json"]);
        if let Some(exits) = &exits {
            arguments.extend(["--exits", exits]);
        }
        let cost = json_of(&arguments);
        assert_eq!(cost, json!({"params": case["params"], "macs": case["macs"]}), "{case}");
    }
    let at = |r: u32| {
        json_of(&["arch", "cost", "--weights", WEIGHTS, "--arch", &with(|a| a["r"] = json!(r)), "--json"])
    };
    assert_eq!(at(32)["params"], at(1024)["params"]);
    assert!(at(1024)["macs"].as_u64() > at(33)["macs"].as_u64());
    let text = succeeds(&["arch", "cost", "--weights", WEIGHTS, "--arch", &small().to_string()]);
    assert!(text.contains(" parameters, ") && text.ends_with(" MACs\n"), "{text}");
    // Without --classes there must be weights.
    fails(2, &["arch", "cost", "--arch", &small().to_string()], &["--classes", "--weights"]);
    fails(
        2,
        &["arch", "cost", "--classes", "10", "--arch", &small().to_string(), "--exits", "2"],
        &["--exits 2", "one plain head"],
    );
}

#[test]
fn samples_are_networks_of_the_space_and_follow_the_seed() {
    let sample = |seed: &str, policy: &str| {
        succeeds(&["arch", "sample", "--family", "EE_DP", "-n", "20", "--seed", seed, "--policy", policy])
    };
    let lines = sample("1", "natv2");
    assert_eq!(lines, sample("1", "natv2"));
    assert_ne!(lines, sample("2", "natv2"));
    assert_ne!(lines, sample("1", "nat"));
    let archs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(archs.len(), 20);
    for arch in &archs {
        Arch::from_json("EE_DP".parse().unwrap(), arch).unwrap();
    }
    let list = json_of(&["arch", "sample", "--family", "EE_DP", "-n", "20", "--seed", "1", "--json"]);
    assert_eq!(list, Value::from(archs));
}

#[test]
fn a_drawing_shows_every_layer() {
    let text = succeeds(&["arch", "show", "--family", "EE_B", "--classes", "200", "--exits", "all"]);
    assert_eq!(text.matches("MBConv k7 e6").count(), 20, "{text}");
    assert_eq!(text.matches("exit ").count(), 5, "{text}");
    let text = succeeds(&["arch", "show", "--weights", WEIGHTS, "--arch", &small().to_string()]);
    assert!(text.starts_with("SE_B at width 0.25, 32 x 32 px, 10 classes"), "{text}");
    assert_eq!(text.matches("MBConv k3 e3").count(), 10, "{text}");
}

#[test]
fn bad_architectures_name_the_field() {
    let encode = |arch: &str, parts: &[&str]| {
        fails(2, &["arch", "encode", "--weights", WEIGHTS, "--arch", arch], parts);
        fails(2, &["evaluate", "--arch", arch, "--json"], parts);
    };
    encode(&with(|a| a["ks"][0] = json!(9)), &["entry 1 of field `ks`", "9", "[3, 5, 7]"]);
    encode(&with(|a| a["e"] = json!(vec![3; 19])), &["field `e`", "19", "20"]);
    encode(&with(|a| a["r"] = json!(-32)), &["field `r`", "-32", "32 to 1024"]);
    encode(&with(|a| a["r"] = json!(3_000_000)), &["field `r`", "3000000", "32 to 1024"]);
    encode(&with(|a| a["nd"] = json!(2)), &["field `nd`", "EE"]);
    encode(&with(|a| drop(a.as_object_mut().unwrap().remove("d"))), &["no field `d`"]);
    encode(&with(|a| a["w"] = json!(1.0)), &["1", "0.25"]);
    encode("{", &["--arch", "not valid JSON"]);
    encode("@/nowhere/arch.json", &["/nowhere/arch.json", "check the path"]);
    fails(2, &["arch", "encode", "--family", "XX_B", "--arch", "{}"], &["`XX_B`", "SE_B"]);
    fails(2, &["evaluate", "--family", "XX_B", "--arch", "{}"], &["`XX_B`", "SE_B"]);

    let decode = |genotype: &str, parts: &[&str]| fails(2, &["arch", "decode", genotype], parts);
    decode("[1,2]", &["2 genes", "22"]);
    decode(&format!("[0,0{}]", ",10".repeat(20)), &["gene 2", "10", "1 to 9"]);
    decode(&format!("[0,-1{}]", ",1".repeat(20)), &["gene 1", "-1"]);
    decode(&format!("[0,0,1,1,0,1{}]", ",1".repeat(16)), &["gene 5", "skipped"]);
    decode("[0,0.5]", &["gene 1 is 0.5", "whole numbers"]);
    decode("genes", &["JSON list"]);
    decode("@/nowhere/genotype", &["/nowhere/genotype"]);
    for (flag, value, part) in [
        ("--resolutions", "48,-32", "`-32`"),
        ("--resolutions", "3000000", "32 to 1024"),
        ("--resolutions", "64,48", "ascending"),
        ("--resolutions", "48:64:0", "step"),
        ("--widths", "0", "0.05 to 8"),
    ] {
        fails(2, &["arch", "decode", flag, value, "[]"], &[flag, part]);
    }
}

// ---- evaluate ------------------------------------------------------------------------------

#[test]
fn evaluate_measures_what_the_table_says_in_the_order_asked_for() {
    let scratch = Scratch::new();
    let table = WEIGHTS.replace(".safetensors", ".accuracies.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(table).unwrap()).unwrap();
    let rows: Vec<&Value> = table["rows"].as_array().unwrap().iter().rev().take(3).collect();
    let lines: Vec<String> = rows.iter().map(|row| row["arch"].to_string()).collect();
    let file = scratch.write("archs.jsonl", lines.join("\n"));
    let report = json_of(&[
        "evaluate",
        "--weights",
        WEIGHTS,
        "--archs",
        &file,
        "--data",
        "digits",
        "--json",
        "--device",
        "cpu",
    ]);
    assert_eq!(report["version"], 1);
    assert_eq!((&report["images"], &report["calibration_images"]), (&json!(359), &json!(500)));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["device"].as_str().unwrap().starts_with("cpu"), "{report}");
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for (row, result) in rows.into_iter().zip(results) {
        let number = |value: &Value, name: &str| value[name].as_f64().unwrap();
        assert!(
            (number(row, "top1") - number(result, "top1")).abs() <= 100.0 / 359.0 + 0.01,
            "{row} {result}"
        );
        assert!((number(row, "loss") - number(result, "loss")).abs() <= 1e-3, "{row} {result}");
        assert_eq!((&row["params"], &row["macs"]), (&result["params"], &result["macs"]));
        let asked = Arch::from_json("SE_B".parse().unwrap(), &row["arch"]).unwrap();
        assert_eq!(Arch::from_json("SE_B".parse().unwrap(), &result["arch"]).unwrap(), asked);
    }
}

#[test]
fn evaluate_takes_subsets_splits_and_resolutions_off_the_card_for_any_number_of_threads() {
    let arch = with(|a| a["r"] = json!(36));
    let run = |threads: &str| {
        let outcome = natv2(&[
            "evaluate",
            "--arch",
            &arch,
            "--split",
            "val",
            "--images",
            "40",
            "--calibration-images",
            "250",
            "--threads",
            threads,
            "--json",
        ]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("device: cpu"), "`auto` says what it took: {}", outcome.stderr);
        serde_json::from_str::<Value>(&outcome.stdout).unwrap()
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one["results"], two["results"]);
    assert_eq!((&one["images"], &one["calibration_images"]), (&json!(40), &json!(200)));
    assert_eq!(one["results"][0]["arch"]["r"], 36);

    let outcome =
        natv2(&["evaluate", "--arch", &arch, "--images", "40", "--calibration-images", "10", "--quiet"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains("40 test images of digits, recalibrated on 10"), "{}", outcome.stdout);
}

#[test]
fn weights_and_data_that_do_not_belong_together_are_refused() {
    let scratch = Scratch::new();
    let arch = small().to_string();
    for file in ["train.bin", "test.bin"] {
        scratch.write(&format!("cifar100/{file}"), vec![7; 3074 * 2]);
    }
    let folder = scratch.path("cifar100");
    let cifar100 = ["evaluate", "--arch", &arch, "--data", "cifar100", "--data-dir", &folder, "--json"];
    fails(2, &cifar100, &["cifar100", "100 classes", "ofa_mbv3_w025_digits", "10"]);
    fails(2, &["evaluate", "--arch", &arch, "--family", "EE_B"], &["EE_B", "exits", "--family"]);
    fails(2, &["evaluate", "--arch", &arch, "--data", "cifar1O"], &["cifar1O", "did you mean"]);
    fails(2, &["evaluate", "--arch", &arch, "--data", "cifar10"], &["--data-dir"]);
    fails(2, &["evaluate", "--arch", &arch, "--split", "tset"], &["tset", "test"]);
    fails(2, &["evaluate", "--archs", "[]"], &["--archs", "no architecture"]);
    let lines = scratch.write("archs.jsonl", format!("{arch}\n{}\n", with(|a| a["d"][4] = json!(7))));
    fails(2, &["evaluate", "--archs", &lines, "--json"], &["archs.jsonl, line 2", "entry 5 of field `d`"]);
    fails(2, &["evaluate", "--archs", &scratch.path("none")], &["none", "check the path"]);
}

#[test]
fn damaged_checkpoints_are_named() {
    let scratch = Scratch::new();
    let whole = std::fs::read(WEIGHTS).unwrap();
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let whole_numbers = tensor_file(&[("first_conv.conv.weight", Dtype::I32, vec![2], vec![0; 8])]);
    let other = tensor_file(&[("layer.weight", Dtype::F32, vec![1], vec![0; 4])]);
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("truncated.safetensors", &whole[..end / 2], &["not a whole safetensors file"]),
        ("empty.safetensors", b"", &["not a whole safetensors file"]),
        ("huge.safetensors", &huge, &["not a whole safetensors file"]),
        ("whole.safetensors", &whole_numbers, &["first_conv.conv.weight", "I32", "F32, F16, BF16 or F64"]),
        ("nan.safetensors", &nan, &["NaN", "tensor `"]),
        ("other.safetensors", &other, &["tensor `", "OFA"]),
    ];
    let input = scratch.write("x.safetensors", inputs([2, 3, 32, 32], &["images"]));
    let arch = small().to_string();
    for (name, bytes, parts) in cases {
        let file = scratch.write(name, bytes);
        let parts = [parts, &[name]].concat();
        fails(1, &["evaluate", "--weights", &file, "--arch", &arch, "--json"], &parts);
        fails(1, &["arch", "cost", "--weights", &file, "--arch", &arch], &parts);
        let out = scratch.path("y.safetensors");
        let logits =
            ["logits", "--weights", &file, "--arch", &arch, "--inputs", &input, "--out", &out, "--json"];
        fails(1, &logits, &parts);
        assert!(!Path::new(&out).exists());
    }
    fails(
        1,
        &["evaluate", "--weights", "/nowhere/net.safetensors", "--arch", &arch],
        &["/nowhere/net.safetensors"],
    );
    let file = scratch.write("net.safetensors", &whole);
    scratch.write("net.card.json", r#"{"family":"SE_B","resolutions":[64,48]}"#);
    fails(1, &["evaluate", "--weights", &file, "--arch", &arch], &["net.card.json", "`resolutions`"]);
}

// ---- logits --------------------------------------------------------------------------------

fn read_logits(file: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["logits"]);
    let view = file.tensor("logits").unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    let data = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (view.shape().to_vec(), data)
}

fn flatten(value: &Value, out: &mut Vec<f64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        number => out.push(number.as_f64().unwrap()),
    }
}

fn check_logits(stem: &str, case: &Value, shape: &[usize], extra: &[&str]) {
    let scratch = Scratch::new();
    let file = |suffix: &str| common::golden().join(format!("{stem}{suffix}")).to_str().unwrap().to_string();
    let (weights, input, out) =
        (file(".safetensors"), file("_inputs.safetensors"), scratch.path("y.safetensors"));
    let arch = scratch.write("arch.json", common::arch_fields(case).to_string());
    let arch = format!("@{arch}");
    let mut arguments =
        vec!["logits", "--weights", &weights, "--arch", &arch, "--inputs", &input, "--out", &out];
    arguments.extend(extra);
    let report = json_of(&[&arguments[..], &["--calibrate", "--json"]].concat());
    assert_eq!((&report["version"], &report["shape"]), (&json!(1), &json!(shape)));
    for (stored, tolerance) in [(false, 2e-4), (true, 5e-3)] {
        let expected = &case[if stored { "logits" } else { "logits_recalibrated" }];
        if stored {
            if expected.is_null() {
                continue;
            }
            assert_eq!(succeeds(&arguments), "");
        }
        let (found_shape, found) = read_logits(&out);
        assert_eq!(found_shape, shape);
        let mut numbers = Vec::new();
        flatten(expected, &mut numbers);
        assert_eq!(found.len(), numbers.len());
        let largest = numbers.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (found, expected) in found.iter().zip(&numbers) {
            assert!((f64::from(*found) - expected).abs() <= tolerance * largest, "{found} {expected}");
        }
    }
}

fn images_of(stem: &str) -> usize {
    let bytes = std::fs::read(common::golden().join(format!("{stem}_inputs.safetensors"))).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor("images").unwrap().shape()[0]
}

#[test]
fn golden_logits_come_out_of_the_program() {
    let stem = &common::stems("ofa_mbv3_w", |stem| !stem.ends_with("_step"))[0];
    let file = common::read(&format!("{stem}.json"));
    let classes = file["n_classes"].as_u64().unwrap() as usize;
    check_logits(stem, common::cases(&file).last().unwrap(), &[images_of(stem), classes], &[]);

    let stem = &common::stems("ofav2_w", |stem| !stem.ends_with("_step"))[0];
    let file = common::read(&format!("{stem}.json"));
    let classes = file["n_classes"].as_u64().unwrap() as usize;
    let every = |case: &&Value| {
        let exits = case["exits"].as_array().map_or(0, Vec::len);
        exits > 1 && case["nd"].as_u64() == Some(exits as u64)
    };
    let case = common::cases(&file).iter().find(every).expect("a case with every exit");
    let shape = [case["exits"].as_array().unwrap().len(), images_of(stem), classes];
    check_logits(stem, case, &shape, &["--family", case["family"].as_str().unwrap(), "--all-exits"]);
}

#[test]
fn bad_inputs_of_logits_are_named() {
    let scratch = Scratch::new();
    let (arch, out) = (small().to_string(), scratch.path("y.safetensors"));
    let larger = with(|a| a["r"] = json!(40));
    let run = |code: i32, file: &str, arch: &str, extra: &[&str], parts: &[&str]| {
        let arguments = ["logits", "--arch", arch, "--inputs", file, "--out", &out, "--json"];
        fails(code, &[&arguments[..], extra].concat(), parts);
        assert!(!Path::new(&out).exists());
    };
    let good = scratch.write("good.safetensors", inputs([2, 3, 32, 36], &["images"]));
    run(2, &good, &larger, &[], &["40 px", "`images`", "good.safetensors", "32 px"]);
    run(1, &good, &arch, &["--calibrate"], &["no tensor `calibration`", "good.safetensors"]);
    run(2, &good, &arch, &["--all-exits"], &["--all-exits", "SE_B"]);
    let flat = scratch.write("flat.safetensors", inputs([2, 1, 32, 32], &["images"]));
    run(1, &flat, &arch, &[], &["[2, 1, 32, 32]", "N x 3 x H x W"]);
    let none = scratch.write("none.safetensors", inputs([0, 3, 32, 32], &["images"]));
    run(1, &none, &arch, &[], &["no image"]);
    let (_, shape, data) = images([1, 3, 32, 32], f32::NAN);
    let nan = scratch.write("nan.safetensors", tensor_file(&[("images", Dtype::F32, shape, data)]));
    run(1, &nan, &arch, &[], &["NaN", "element 0"]);
    let whole = tensor_file(&[("images", Dtype::I64, vec![1, 3, 32, 32], vec![0; 3 * 32 * 32 * 8])]);
    run(1, &scratch.write("whole.safetensors", whole), &arch, &[], &["I64", "F32, F16, BF16 or F64"]);
    let far: Vec<u8> = [1e300f64; 3 * 32 * 32].iter().flat_map(|x| x.to_le_bytes()).collect();
    let far = tensor_file(&[("images", Dtype::F64, vec![1, 3, 32, 32], far)]);
    run(1, &scratch.write("far.safetensors", far), &arch, &[], &["1e300", "element 0", "F32"]);
    run(1, &scratch.write("text.safetensors", "text"), &arch, &[], &["not a whole safetensors file"]);
    run(1, &scratch.path("absent.safetensors"), &arch, &[], &["absent.safetensors", "--inputs"]);
    let nowhere = scratch.path("no/such/folder/y.safetensors");
    fails(
        1,
        &["logits", "--arch", &arch, "--inputs", &good, "--out", &nowhere],
        &["y.safetensors", "cannot be written"],
    );
}
// ---- the rest ------------------------------------------------------------------------------

#[test]
fn doctor_reports_every_device() {
    let report = json_of(&["doctor", "--json"]);
    assert_eq!(report["version"], 1);
    let sections = report["sections"].as_array().unwrap();
    let finding = |section: &str, name: &str| {
        let section = sections.iter().find(|s| s["name"] == section).unwrap();
        let found = section["findings"].as_array().unwrap().iter().find(|f| f["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {section}")).clone()
    };
    assert_eq!(finding("devices", "cpu")["state"], "ok");
    for device in ["emulated", "cuda"] {
        assert!(!finding("devices", device)["value"].as_str().unwrap().is_empty());
    }
    assert_eq!(finding("natv2", "version")["value"], env!("CARGO_PKG_VERSION"));
    finding("processor", "instruction set");
    finding("memory", "memory");
    let text = succeeds(&["doctor"]);
    assert!(text.contains("\ndevices\n  ok cpu "), "{text}");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeeds(&["completions", shell]);
        assert!(script.contains("natv2") && script.contains("calibration-images"), "{shell}");
    }
}

#[test]
fn wrong_flags_suggest_the_right_one() {
    fails(2, &["evaluate", "--weight", "x", "--arch", "{}"], &["--weight", "'--weights'"]);
    fails(2, &["evalute"], &["evalute", "'evaluate'"]);
    fails(2, &["evaluate", "--arch", "{}", "--archs", "x"], &["cannot be used with"]);
    fails(2, &["evaluate"], &["--arch"]);
    fails(2, &["evaluate", "--arch", "{}", "--device", "cudda"], &["did you mean cuda?"]);
    fails(2, &["evaluate", "--arch", "{}", "--threads", "0"], &["--threads"]);
    fails(2, &["evaluate", "--arch", "{}", "--images", "0"], &["--images"]);
    fails(2, &["evaluate", "--arch", "{}", "--isa", "avx3"], &["avx3", "avx512"]);
    fails(2, &["arch", "sample", "--policy", "nta"], &["nta", "nat"]);
}

#[test]
fn every_help_text_has_examples() {
    let commands: &[&[&str]] = &[
        &[],
        &["evaluate"],
        &["logits"],
        &["arch", "encode"],
        &["arch", "decode"],
        &["arch", "cost"],
        &["arch", "sample"],
        &["arch", "show"],
        #[cfg(feature = "fetch")]
        &["data", "fetch"],
        &["data", "info"],
        &["compare"],
        &["doctor"],
        &["completions"],
    ];
    for command in commands {
        let text = succeeds(&[*command, &["--help"]].concat());
        assert!(text.contains("Examples:\n  natv2 "), "{command:?}: {text}");
    }
    let version = succeeds(&["--version"]);
    assert_eq!(version.trim(), format!("natv2 {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_natv2"))
        .args(["arch", "sample", "-n", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(&first[..5], b"{\"r\":");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
