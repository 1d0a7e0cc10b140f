//! `natv2 supernet`, and exits and ensembles of `natv2 evaluate` and `natv2 logits`.

use half::{bf16, f16};
use natv2::space::{Arch, Family};
use natv2::supernet::{Checkpoint, Supernet};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
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
    assert!(err.contains("/nowhere/x.safetensors"), "{err}");
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

/// A file of the tensors of another, each as bytes of a type; and its card beside it, if it has one.
fn rewritten(from: &str, to: &str, stored: impl Fn(usize, &str, &[f32]) -> (Dtype, Vec<u8>)) {
    let checkpoint = Checkpoint::read(from.as_ref()).unwrap();
    let tensors: Vec<_> = checkpoint
        .tensors()
        .enumerate()
        .map(|(index, (name, tensor))| (name, &tensor.shape, stored(index, name, &tensor.data)))
        .collect();
    let views = tensors.iter().map(|(name, shape, (dtype, bytes))| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    let epoch = TensorView::new(Dtype::I64, vec![1], &[3, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    std::fs::write(to, safetensors::serialize(views.chain([("epoch", epoch)]), None).unwrap()).unwrap();
    let card = |file: &str| file.replace(".safetensors", ".card.json");
    if Path::new(&card(from)).exists() {
        std::fs::copy(card(from), card(to)).unwrap();
    }
}

fn plain(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Numbers as a type stores them.
fn bytes_of(dtype: Dtype, data: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F16 => data.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Dtype::BF16 => data.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F64 => data.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
        _ => plain(data),
    }
}

#[test]
fn weights_and_inputs_in_16_and_64_bits_are_read_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let arch = serde_json::json!({"r": 32, "ks": vec![3; 20], "e": vec![3; 20], "d": vec![2; 5]}).to_string();
    let logits = |weights: &str, inputs: &str| {
        let out = at(folder.path(), "y.safetensors");
        let arguments = ["logits", "--weights", weights, "--arch", &arch, "--inputs", inputs, "--out", &out];
        let (code, _, err) = natv2(&arguments);
        assert_eq!(code, 0, "{err}");
        (Checkpoint::read(out.as_ref()).unwrap().tensor("logits").unwrap().data.clone(), err)
    };
    let (exact, quiet) = logits(DIGITS, INPUTS);
    assert!(!quiet.contains("read as F32"), "{quiet}");
    let kinds = [Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::F32];
    let of = |dtype: Dtype| move |_: usize, _: &str, data: &[f32]| (dtype, bytes_of(dtype, data));
    for (dtype, farthest) in [(Dtype::F16, 0.05), (Dtype::BF16, 0.5), (Dtype::F64, 0.0)] {
        let file = at(folder.path(), &format!("{dtype:?}.safetensors"));
        rewritten(DIGITS, &file, of(dtype));
        let (code, _, err) = natv2(&["supernet", "info", "--weights", &file]);
        let note = format!("of 411 tensors 411 in {dtype:?} are read as F32");
        assert!(code == 0 && err.contains(&note) && err.contains("`epoch` (I64) passed over"), "{err}");
        assert_eq!(natv2(&["supernet", "info", "--weights", &file, "--quiet"]).2, "");
        let (found, err) = logits(&file, INPUTS);
        assert!(err.contains(&note), "{err}");
        let most = exact.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let far = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= farthest * most, "{dtype:?}: {far} of {most}");
        // Inputs of that type, too.
        let inputs = at(folder.path(), "x.safetensors");
        rewritten(INPUTS, &inputs, of(dtype));
        logits(DIGITS, &inputs);
    }
    // Each tensor in a type of its own: as good a network, converted and measured like any other.
    let mixed = at(folder.path(), "mixed.safetensors");
    rewritten(DIGITS, &mixed, |index, _, data| (kinds[index % 4], bytes_of(kinds[index % 4], data)));
    let converted = at(folder.path(), "converted.safetensors");
    let arguments = ["supernet", "convert", "--weights", &mixed, "--to-family", "EE_B", "--out", &converted];
    let (code, _, err) = natv2(&arguments);
    assert!(code == 0 && err.contains("in BF16, ") && err.contains(" are read as F32"), "{err}");
    let images = ["--images", "60", "--calibration-images", "60"];
    let evaluate = |weights: &str| {
        let arguments = ["evaluate", "--weights", weights, "--arch", &arch, "--json"];
        natv2(&[&arguments[..], &images].concat())
    };
    let (code, out, err) = evaluate(&mixed);
    assert!(code == 0 && err.contains(" are read as F32"), "{err}");
    let top1 =
        |out: &str| serde_json::from_str::<Value>(out).unwrap()["results"][0]["top1"].as_f64().unwrap();
    assert!((top1(&out) - top1(&evaluate(DIGITS).1)).abs() < 10.0, "{out}");
    // A network on its own, taken out and put back.
    let (alone, again) = (at(folder.path(), "alone.safetensors"), at(folder.path(), "again.safetensors"));
    let export = ["export", "--weights", DIGITS, "--arch", &arch, "--stored-statistics", "--out", &alone];
    assert_eq!(natv2(&export).0, 0);
    rewritten(&alone, &again, of(Dtype::F64));
    let out = at(folder.path(), "whole.safetensors");
    let insert = ["supernet", "insert", "--weights", &mixed, "--network", &again, "--out", &out];
    let (code, _, err) = natv2(&insert);
    assert!(code == 0 && err.contains("again.safetensors: of "), "{err}");
}

#[test]
fn what_is_no_number_is_refused_wherever_it_comes_up() {
    let folder = tempfile::tempdir().unwrap();
    let arch = serde_json::to_string(&Arch::largest(Family::SE_B, 32, None)).unwrap();
    let (weights, inputs) = (at(folder.path(), "w.safetensors"), at(folder.path(), "x.safetensors"));
    let (out, onnx) = (at(folder.path(), "y.safetensors"), at(folder.path(), "y.onnx"));
    let refused = |arguments: &[&str], parts: &[&str]| {
        let (code, stdout, err) = natv2(arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}: {err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{arguments:?}: {parts:?}: {err}");
        assert!(!Path::new(&out).exists() && !Path::new(&onnx).exists());
    };
    let common = ["--weights", &weights, "--arch", &arch, "--device", "cpu"];
    let logits = [&["logits"], &common[..], &["--inputs", &inputs, "--out", &out]].concat();
    let export = [&["export"], &common[..], &["--stored-statistics", "--out", &onnx]].concat();
    let images = ["--images", "20", "--calibration-images", "20"];
    let evaluate = [&["evaluate"], &common[..], &images].concat();
    let all = |images: f32| {
        let data = plain(&vec![images; 2 * 3 * 32 * 32]);
        let view = TensorView::new(Dtype::F32, vec![2, 3, 32, 32], &data).unwrap();
        std::fs::write(&inputs, safetensors::serialize([("images", view)], None).unwrap()).unwrap();
    };
    // A tensor with other numbers than the file's.
    let with = |name: &'static str, change: &dyn Fn(&mut [f32])| {
        rewritten(DIGITS, &weights, |_, found, data| {
            let mut data = data.to_vec();
            if found == name {
                change(&mut data);
            }
            (Dtype::F32, plain(&data))
        });
    };
    all(0.5);
    // A variance below zero, of which a folded batch norm would be no number.
    for name in ["first_conv.bn.running_var", "blocks.5.conv.depth_conv.bn.bn.running_var"] {
        with(name, &|data| data[1] = -1.0);
        for arguments in [&logits, &export, &evaluate] {
            refused(arguments, &["w.safetensors", name, "holds -1 at element 1"]);
        }
    }
    // Numbers that overflow inside, whatever the instruction set is.
    with("", &|_| ());
    all(3.4e38);
    for isa in ["portable", "avx2", "avx512"] {
        let arguments = [&logits[..], &["--isa", isa]].concat();
        let (code, _, err) = natv2(&arguments);
        // Not every processor has all of them.
        if err.contains("this processor has") {
            assert!(code == 1 && isa != "portable" && err.contains(isa), "{err}");
        } else {
            refused(&arguments, &["x.safetensors", "a logit is"]);
        }
    }
    all(0.5);
    with("blocks.3.conv.inverted_bottleneck.bn.bn.weight", &|data| data.fill(3e38));
    let named = "\"r\":32";
    refused(&logits, &["a logit is"]);
    refused(&evaluate, &["the loss of network", named, "is NaN"]);
    refused(&export, &["w.safetensors does not compute", named, "--stored-statistics"]);
}
