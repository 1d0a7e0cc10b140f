//! The program itself: every subcommand, and every kind of bad input.

mod common;

use natv2::space::Arch;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits.safetensors");

/// What the program left behind.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn natv2(arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome = Outcome {
        code: output.status.code().expect("the program was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!outcome.stderr.contains("panicked"), "{arguments:?}: {}", outcome.stderr);
    outcome
}

/// Standard output of a run that must succeed.
#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let outcome = natv2(arguments);
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

#[track_caller]
fn json_of(arguments: &[&str]) -> Value {
    let text = succeeds(arguments);
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))
}

/// A run that must fail with this code, nothing on standard output, and one error that contains
/// all `parts`.
#[track_caller]
fn fails(code: i32, arguments: &[&str], parts: &[&str]) {
    let outcome = natv2(arguments);
    assert_eq!(outcome.code, code, "{arguments:?}: {}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.stdout, "", "{arguments:?}");
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{arguments:?}: {}", outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{arguments:?}: no {part:?} in: {}", outcome.stderr);
    }
}

/// A folder that goes away with the test.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.path(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        self.path(name)
    }
}

/// A small network of the built-in super-network.
fn small() -> Value {
    json!({"r": 32, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2]})
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut arch = small();
    change(&mut arch);
    arch.to_string()
}

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

// ---- data ----------------------------------------------------------------------------------

/// A server that answers requests one after the other, each with the next of these bytes and then
/// silence or, after the last, an end. Gives its address.
#[cfg(feature = "fetch")]
fn server(answers: Vec<Vec<u8>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            std::io::Write::write_all(&mut stream, &answer).unwrap();
            open.push(stream);
        }
    });
    address
}

#[cfg(feature = "fetch")]
#[test]
fn fetching_fails_with_a_reason() {
    let scratch = Scratch::new();
    let folder = scratch.path("data");
    let refused = |code, name, url: &str, parts: &[&str]| {
        fails(code, &["data", "fetch", name, "--data-dir", &folder, "--url", url], parts);
    };
    refused(2, "digits", "http://127.0.0.1", &["`digits` cannot be fetched: it is built in"]);
    fails(2, &["data", "fetch", "cifar10"], &["--data-dir"]);
    let unreachable = "cannot reach http://127.0.0.1:1/cifar-100-binary.tar.gz";
    refused(1, "cifar100", "http://127.0.0.1:1/", &[unreachable]);
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    refused(1, "cifar10", &server(vec![missing]), &["answers 404", "--url"]);
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother".to_vec();
    let parts = ["c32a1d4ab5d03f1284b67883e8d87530", "795f3202b17cb6bc3d4b771d8c6c9eaf", "removed"];
    refused(1, "cifar10", &server(vec![other]), &parts);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
}

#[cfg(feature = "fetch")]
#[test]
fn an_interrupted_download_keeps_what_has_come() {
    let scratch = Scratch::new();
    let folder = scratch.path("data");
    // A megabyte of many, then silence.
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 170000000\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1_000_000, 7);
    let child = Command::new(env!("CARGO_BIN_EXE_natv2"))
        .args(["data", "fetch", "cifar10", "--data-dir", &folder, "--url", &server(vec![answer])])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = Path::new(&folder).join("cifar-10-binary.tar.gz.part");
    let size = || std::fs::metadata(&part).map_or(0, |data| data.len());
    while size() < 1_000_000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(
        stderr.contains("stopped; what is here of") && stderr.contains("cifar-10-binary.tar.gz"),
        "{stderr}"
    );
    assert_eq!(size(), 1_000_000);
}

#[test]
fn data_is_counted_and_checked() {
    let info = json_of(&["data", "info", "digits", "--json"]);
    assert_eq!((&info["version"], &info["name"], &info["side"]), (&json!(1), &json!("digits"), &json!(8)));
    assert_eq!(info["classes"].as_array().unwrap().len(), 10);
    let splits: Vec<u64> =
        info["splits"].as_array().unwrap().iter().map(|split| split["images"].as_u64().unwrap()).collect();
    assert_eq!(splits, [1079, 359, 359]);
    assert_eq!(info, json_of(&["data", "info", "--data", "digits", "--json"]));
    assert!(succeeds(&["data", "info", "digits"]).starts_with("digits: 1797 images"));
    let check = json_of(&["data", "check", "digits", "--json"]);
    assert_eq!(check, json!({"version": 1, "name": "digits", "images": 1797, "classes": 10, "warnings": []}));

    let scratch = Scratch::new();
    let record = |label: u8| [vec![label], vec![128; 3072]].concat();
    let batch: Vec<u8> = (0..10).flat_map(record).collect();
    scratch.write("cifar/data_batch_1.bin", &batch);
    let folder = scratch.path("cifar");
    let check = json_of(&["data", "check", "cifar10", "--data-dir", &folder, "--json"]);
    let warnings = check["warnings"].to_string();
    assert!(warnings.contains("test split has no images") && warnings.contains("10 of 50,000"), "{warnings}");
    assert!(succeeds(&["data", "check", "cifar10", "--data-dir", &folder]).contains("\nwarning: "));
}

#[test]
fn damaged_data_is_named() {
    let scratch = Scratch::new();
    let cifar = |name: &str, bytes: &[u8]| {
        scratch.write(&format!("{name}/data_batch_1.bin"), bytes);
        scratch.path(name)
    };
    let arch = small().to_string();
    let refused = |folder: &str, parts: &[&str]| {
        fails(1, &["data", "check", "cifar10", "--data-dir", folder, "--json"], parts);
        fails(1, &["evaluate", "--arch", &arch, "--data", "cifar10", "--data-dir", folder, "--json"], parts);
    };
    refused(&cifar("partial", &[1; 3073 + 100]), &["data_batch_1.bin", "3173 bytes", "3073", "Download"]);
    refused(&cifar("empty", &[]), &["data_batch_1.bin"]);
    refused(&cifar("label", &[77; 3073]), &["data_batch_1.bin", "label 77"]);
    refused(&scratch.path("absent"), &["absent", "--data-dir"]);
    std::fs::create_dir(scratch.path("bare")).unwrap();
    refused(&scratch.path("bare"), &["bare", "data_batch"]);
    fails(2, &["data", "info", "mnist"], &["mnist", "known data sets"]);
    fails(2, &["data", "info"], &["<NAME>"]);
    fails(2, &["data", "info", "digits", "--side", "64"], &["data.side"]);
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
