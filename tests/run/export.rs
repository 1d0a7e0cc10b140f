//! Exported networks: ONNX files run elsewhere with the same logits, stand-alone files load again as
//! the same network, and networks go back into super-networks.
//!
//! Every ONNX file is read by `onnx::run` here, a reader and an f64 interpreter that share nothing
//! with the writer. Where there is a Python with onnxruntime (`NATV2_PYTHON`, which then must work,
//! or else `python3` if it has it), `scripts/check_onnx.py` runs all of them there as well.

use crate::onnx;
use natv2::device;
use natv2::engine::ensemble::{Strategy, combine};
use natv2::engine::{Calibration, Cropped, Engine};
use natv2::export::onnx::{Options, model};
use natv2::export::{self, Accuracies, metadata, statistics};
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family, Space};
use natv2::supernet::{Blank, Card, Checkpoint, Network, Supernet, Tensor};
use rand::RngExt;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const WIDTH: f64 = 0.25;
const CLASSES: usize = 10;
/// Images that statistics come from, in two batches: the last maps of a small network are one pixel, so
/// with few of them variances are near zero and random networks amplify rounding.
const CALIBRATION: usize = 48;
/// Networks of each family that are exported.
const NETWORKS: usize = 20;

/// A super-network whose numbers all differ from fresh ones, as those of a trained one do.
fn supernet(family: Family, seed: u64) -> Supernet {
    let blank = Blank::new(family, WIDTH, CLASSES);
    let mut net = Supernet::random(&blank, seed).unwrap();
    let mut rng = stream(seed, "perturb", 0, 0);
    let mut tensors: std::collections::BTreeMap<String, Tensor> = net.layout.unpack(&net.packed);
    for (name, tensor) in &mut tensors {
        for value in &mut tensor.data {
            let change = rng.random::<f32>() - 0.5;
            match tensor.shape.len() {
                _ if name.ends_with("running_var") => *value += change,
                1 => *value += 0.2 * change,
                _ if name.ends_with("_matrix") => *value += 0.02 * change,
                _ => *value *= 1.0 + 0.2 * change,
            }
        }
    }
    net.packed = net.layout.pack(&Checkpoint::from_tensors("perturbed", tensors)).unwrap();
    net
}

fn archs(family: Family, count: usize) -> Vec<Arch> {
    let space = Space::new(family, &[32, 40, 48], &[WIDTH], ExitScaling::Once).unwrap();
    let mut rng = stream(21, "export", 0, 0);
    let policy = |i| if i % 4 == 0 { Policy::Nat } else { Policy::NatV2 };
    (0..count).map(|i| space.decode(&sample(&space, policy(i), &mut rng)).unwrap()).collect()
}

fn images(count: usize, purpose: &str) -> Tensor {
    let mut rng = stream(22, purpose, 0, 0);
    let data = (0..count * 3 * 48 * 48).map(|_| rng.random::<f32>() * 3.0 - 1.5).collect();
    Tensor { shape: vec![count, 3, 48, 48], data }
}

/// The top-left corners of images `[n, 3, 48, 48]`, still NCHW.
fn crop(images: &Tensor, side: usize) -> Tensor {
    let data = images.data.chunks_exact(48 * 48);
    let data = data.flat_map(|plane| plane.chunks_exact(48).take(side).flat_map(|row| row[..side].to_vec()));
    Tensor { shape: vec![images.shape[0], 3, side, side], data: data.collect() }
}

fn engine(net: &Supernet) -> Engine {
    Engine::new(device::open("cpu").unwrap(), Arc::new(net.clone())).unwrap()
}

fn bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits.iter().map(|exit| exit.iter().map(|v| v.to_bits()).collect()).collect()
}

/// A network with statistics recalibrated on `train`.
fn recalibrated(net: &Supernet, arch: &Arch, exits: Exits, train: &Cropped<'_>) -> Network {
    let mut network = Network::extract(net, arch, exits).unwrap();
    statistics::recalibrate(&mut network, device::open("cpu").unwrap(), train, CALIBRATION, CALIBRATION / 2)
        .unwrap();
    network
}

/// An exported file and what it must give.
struct Case {
    name: String,
    bytes: Vec<u8>,
    images: Tensor,
    /// Name and `[images, classes]`.
    outputs: Vec<(String, Vec<f32>)>,
}

/// The files of one network: folded and not, and for networks of several exits as an ensemble.
fn cases(net: &Supernet, index: usize, arch: &Arch) -> Vec<Case> {
    let (test, train) = (images(2, "test"), images(CALIBRATION, "train"));
    let (crops, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    let several = arch.family.early_exits && index.is_multiple_of(2);
    let exits = if several { Exits::up_to(arch) } else { Exits::single(arch) };
    let strategies = [Strategy::Asc, Strategy::Desc, Strategy::Unif, Strategy::Mix];
    let strategy = strategies[index / 2 % 4];
    let recalibrate = Calibration::Batches { images: &train, count: CALIBRATION, batch: CALIBRATION / 2 };
    // Inside the super-network, which is what everything is compared with.
    let logits = engine(net).logits(arch, exits, &crops, recalibrate).unwrap();
    let network = recalibrated(net, arch, exits, &train);
    let stored = engine(network.weights()).logits(arch, exits, &crops, Calibration::Stored).unwrap();
    assert_eq!(bits(&stored), bits(&logits), "{} {arch:?}", arch.family);

    let variants = [(true, several), (false, several), (true, false)];
    let count = if several { 3 } else { 2 };
    variants[..count]
        .iter()
        .enumerate()
        .map(|(variant, &(fold, ensemble))| {
            let weights = (ensemble || variant == 2).then(|| strategy.weights(exits.len()).beta);
            let whole = match &weights {
                Some(beta) => combine(&logits, beta),
                None => logits[exits.len() - 1].clone(),
            };
            // The third variant has the exits' own outputs too, the second the last exit's alone.
            let weights = weights.filter(|_| variant != 1);
            let whole = if variant == 1 { logits[exits.len() - 1].clone() } else { whole };
            let options = Options { fold, weights, each_exit: variant == 2 };
            let mut outputs = vec![("logits".to_string(), whole)];
            if options.each_exit {
                let each = exits.iter().zip(&logits);
                outputs.extend(each.map(|(exit, logits)| (format!("exit_{}", exit + 1), logits.clone())));
            }
            let bytes = model(&network, &options, &metadata(&network)).unwrap();
            assert_eq!(bytes, model(&network, &options, &metadata(&network)).unwrap());
            let fold = if fold { "folded" } else { "apart" };
            let name = format!("{}_{index}_{fold}_{variant}.onnx", arch.family);
            Case { name, bytes, images: crop(&test, arch.r as usize), outputs }
        })
        .collect()
}

/// The largest error, in units of the largest expected value if that is above 1; at most 1e-4.
#[track_caller]
fn close(found: &[f64], expected: &[f32], what: &str) -> f64 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0, |scale: f64, v| scale.max(f64::from(v.abs())));
    let errors =
        found.iter().zip(expected).map(|(found, expected)| (found - f64::from(*expected)).abs() / scale);
    errors.fold(0.0, |worst, error| {
        assert!(error <= 1e-4, "{what}: {error} of {scale}");
        worst.max(error)
    })
}

/// A Python with onnxruntime: that of `NATV2_PYTHON`, or else `python3` if it has it.
fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("NATV2_PYTHON") {
        return Some(python.into());
    }
    let import = Command::new("python3").args(["-c", "import onnxruntime, onnx, numpy"]).output();
    import.is_ok_and(|output| output.status.success()).then(|| "python3".into())
}

fn floats(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}

/// Runs all cases in onnxruntime.
fn run_elsewhere(python: &Path, cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let list: Vec<Value> = cases
        .iter()
        .map(|case| {
            let (name, images) = (&case.name, format!("{}.images", case.name));
            std::fs::write(at(name), &case.bytes).unwrap();
            floats(&at(&images), &case.images.data);
            let outputs: Vec<Value> = case
                .outputs
                .iter()
                .map(|(output, values)| {
                    let file = format!("{name}.{output}");
                    floats(&at(&file), values);
                    json!({"name": output, "shape": [case.images.shape[0], CLASSES], "file": file})
                })
                .collect();
            json!({"model": name, "images": images, "shape": case.images.shape, "outputs": outputs})
        })
        .collect();
    std::fs::write(at("cases.json"), serde_json::to_string(&list).unwrap()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check_onnx.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["models"], cases.len(), "{text}");
    println!("onnxruntime: {}", text.trim());
}

#[test]
fn onnx_files_of_every_family_give_the_same_logits() {
    let all: Vec<Case> = Family::all()
        .flat_map(|family| {
            let net = supernet(family, 3);
            let archs = archs(family, NETWORKS);
            let cases: Vec<Vec<Case>> =
                archs.par_iter().enumerate().map(|(index, arch)| cases(&net, index, arch)).collect();
            cases.into_iter().flatten()
        })
        .collect();
    assert!(all.len() >= 2 * 8 * NETWORKS);
    let check = |case: &Case| {
        let model = onnx::Model::parse(&case.bytes);
        assert_eq!(model.opset, 17);
        let folded = !model.operators().contains("BatchNormalization");
        assert_eq!(folded, case.name.contains("folded"), "{}", case.name);
        let found = model.run("images", &case.images);
        let names: Vec<&String> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names, case.outputs.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let outputs = found.iter().zip(&case.outputs);
        outputs
            .map(|((name, values), (_, expected))| close(values, expected, &format!("{} {name}", case.name)))
            .fold(0.0, f64::max)
    };
    let worst = all.par_iter().map(check).reduce(|| 0.0, f64::max);
    println!("interpreter: {} files, worst error {worst:.1e}", all.len());
    match python() {
        Some(python) => run_elsewhere(&python, &all),
        None => println!(
            "onnxruntime is not there: {} files were run by the tests' own interpreter only. \
             `.ci/install-onnxruntime` installs it; give the path that it prints in NATV2_PYTHON",
            all.len()
        ),
    }
}

#[test]
fn trained_networks_give_the_same_logits() {
    // The digits' super-network: real weights, whose statistics are those of training.
    let net = natv2::supernet::Supernet::open(None, None).unwrap();
    let all: Vec<Case> = archs(Family::SE_B, 4)
        .iter()
        .enumerate()
        .flat_map(|(index, arch)| cases(&net, index, arch))
        .collect();
    for case in &all {
        let found = onnx::Model::parse(&case.bytes).run("images", &case.images);
        close(&found[0].1, &case.outputs[0].1, &case.name);
    }
    if let Some(python) = python() {
        run_elsewhere(&python, &all);
    }
}

#[test]
fn onnx_metadata_says_what_the_file_is() {
    let (family, arch) = (Family::SE_B, archs(Family::SE_B, 1).remove(0));
    let mut network = Network::extract(&supernet(family, 3), &arch, Exits::single(&arch)).unwrap();
    export::describe(&mut network, None, Accuracies { validation: None, test: Some(91.25) });
    let options = Options { fold: true, weights: None, each_exit: false };
    let model = onnx::Model::parse(&model(&network, &options, &metadata(&network)).unwrap());
    let value = |key: &str| model.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!(value("natv2_version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(value("family"), Some("SE_B"));
    assert_eq!(value("classes"), Some("10"));
    assert_eq!(value("top1"), Some(r#"{"test":91.25}"#));
    assert_eq!(Arch::parse(family, value("arch").unwrap()).unwrap(), arch.canonical());
    assert_eq!(
        model.inputs,
        [("images".to_string(), vec![None, Some(3), Some(arch.r as i64), Some(arch.r as i64)])]
    );
    assert_eq!(model.outputs, [("logits".to_string(), vec![None, Some(10)])]);
    let wrong = Options { weights: Some(vec![0.5, 0.5]), ..options };
    let error = natv2::export::onnx::model(&network, &wrong, &[]).unwrap_err();
    assert!(error.to_string().contains("2 weights for 1 exits"), "{error}");
}

#[test]
fn stand_alone_files_load_again_as_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let (test, train) = (images(3, "test"), images(CALIBRATION, "train"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    for family in Family::all() {
        let net = supernet(family, 3);
        for (index, arch) in archs(family, 4).iter().enumerate() {
            let exits = if index % 2 == 0 { Exits::up_to(arch) } else { Exits::single(arch) };
            let recalibrate =
                Calibration::Batches { images: &train, count: CALIBRATION, batch: CALIBRATION / 2 };
            let inside = engine(&net).logits(arch, exits, &test, recalibrate).unwrap();
            let mut network = recalibrated(&net, arch, exits, &train);
            export::describe(&mut network, None, Accuracies::default());
            let file = folder.path().join(format!("{family}{index}.safetensors"));
            std::fs::write(&file, network.checkpoint().to_bytes().unwrap()).unwrap();
            std::fs::write(Card::path(&file), network.weights().card.to_json()).unwrap();

            let read = Network::load(&file).unwrap();
            assert_eq!((read.arch(), read.exits()), (network.arch(), network.exits()));
            assert_eq!(read.tensors(), network.tensors());
            assert_eq!(read.weights().card, network.weights().card);
            let alone = engine(read.weights());
            for calibration in [Calibration::Stored, recalibrate] {
                assert_eq!(bits(&alone.logits(arch, exits, &test, calibration).unwrap()), bits(&inside));
            }
            // Fewer exits of it, taken out of the network itself.
            let last = Network::extract(read.weights(), arch, Exits::single(arch)).unwrap();
            assert_eq!(
                last.tensors(),
                Network::extract(network.weights(), arch, Exits::single(arch)).unwrap().tensors()
            );
            let found = engine(last.weights()).logits(arch, Exits::single(arch), &test, Calibration::Stored);
            assert_eq!(bits(&found.unwrap())[0], *bits(&inside).last().unwrap());
        }
    }
}

#[test]
fn a_network_goes_back_into_a_super_network() {
    let (test, train) = (images(3, "test"), images(CALIBRATION, "train"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    for family in Family::all() {
        let (from, to) = (supernet(family, 3), supernet(family, 4));
        let smallest = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(family, 40, None) };
        for arch in archs(family, 3).iter().chain([&Arch::largest(family, 40, None), &smallest]) {
            let exits = Exits::up_to(arch);
            let plain = Network::extract(&from, arch, exits).unwrap();
            // Where it came from it changes nothing.
            let same = plain.insert(&from).unwrap();
            assert_eq!((same.changed, same.reset.len()), (0, 0), "{family}");
            assert_eq!(same.supernet.packed, from.packed);

            let network = recalibrated(&from, arch, exits, &train);
            let done = network.insert(&to).unwrap();
            let again = Network::extract(&done.supernet, arch, exits).unwrap();
            assert_eq!(again.tensors(), network.tensors(), "{family} {arch:?}");
            let small = (0..20).any(|i| arch.is_active(i) && arch.nw[i] & 4 != 0 && arch.ks[i] < 7);
            assert_eq!(!done.reset.is_empty(), small, "{family} {arch:?}");
            let logits =
                |net: &Supernet| engine(net).logits(arch, exits, &test, Calibration::Stored).unwrap();
            assert_eq!(bits(&logits(&done.supernet)), bits(&logits(network.weights())));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let net = supernet(Family::SE_B, 3);
    let arch = Arch::largest(Family::SE_B, 32, None);
    let network = Network::extract(&net, &arch, Exits::single(&arch)).unwrap();
    let message = |net: &Supernet| network.insert(net).unwrap_err().to_string();
    assert!(message(network.weights()).contains("holds one network"));
    assert!(message(&supernet("EE_B".parse().unwrap(), 3)).contains("plain head"));
    let blank = Blank::new(Family::SE_B, 0.5, CLASSES);
    assert!(message(&Supernet::random(&blank, 0).unwrap()).contains("width"));
    let blank = Blank { classes: 7, width: WIDTH, ..blank };
    assert!(message(&Supernet::random(&blank, 0).unwrap()).contains("classifier.linear"));
    assert!(Network::of(net.clone()).unwrap_err().to_string().contains("super-network"));
    let other = Arch { ks: [3; 20], ..arch.clone() };
    let error = Network::extract(network.weights(), &other, Exits::single(&arch)).unwrap_err();
    assert!(error.to_string().contains("use the super-network"), "{error}");

    let load = |change: &dyn Fn(&mut Card)| {
        let mut card = network.weights().card.clone();
        change(&mut card);
        Supernet::from_checkpoint(&network.checkpoint(), card, None).unwrap_err().to_string()
    };
    assert!(load(&|card| card.network = None).contains("put the card beside it"));
    assert!(load(&|card| card.width = None).contains("`width`"));
    assert!(load(&|card| card.width = Some(1.0)).contains("has shape"));
    assert!(load(&|card| card.network.as_mut().unwrap().arch.d = [2; 5]).contains("blocks.3."));
    let family = Some("SE_D".parse().unwrap());
    let card = network.weights().card.clone();
    let error = Supernet::from_checkpoint(&network.checkpoint(), card, family).unwrap_err();
    assert!(error.to_string().contains("leave --family out"), "{error}");
}

fn natv2(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    (output.status.code().expect("not killed"), stdout, stderr)
}

#[track_caller]
fn json_of(arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = natv2(&[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], part: &str) {
    let (code, stdout, stderr) = natv2(arguments);
    assert_eq!((code, &*stdout), (2, ""), "{arguments:?}: {stderr}");
    assert!(stderr.contains(part), "{arguments:?}: no {part:?} in {stderr}");
}

#[test]
fn the_program_exports_networks_of_a_run_and_runs_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let run = at("run");
    let search = json_of(&["search", "--profile", "tiny", "--run", &run]);
    // The first of the printed table has the fewest multiply-accumulates.
    let mut front = search["front"].as_array().unwrap().clone();
    front.sort_by_key(|n| (n["macs"].as_u64(), n["genotype"].to_string()));
    let first = &front[0];

    let net = at("net.safetensors");
    let done = json_of(&["export", "--run", &run, "--network", "1", "--out", &net]);
    assert_eq!((&done["arch"], &done["macs"]), (&first["arch"], &first["macs"]));
    assert_eq!((&done["number"], &done["state"]), (&json!(1), &json!("inherited")));
    // Numbers are those of the files, of `evaluate` and of the table.
    let listed = json_of(&["evaluate", "--archs", &format!("{run}/front.json")]);
    let (_, table, _) = natv2(&["search", "--profile", "tiny", "--run", &run]);
    for network in &front {
        let (number, test) = (&network["number"], network["test_top1"].as_f64().unwrap());
        let row = listed["results"].as_array().unwrap().iter().find(|row| row["number"] == *number).unwrap();
        assert_eq!((&row["arch"], row["macs"].as_u64()), (&network["arch"], network["macs"].as_u64()));
        let (number, val) = (number.as_u64().unwrap(), network["top1"].as_f64().unwrap());
        let start = format!("{number:>3}  {val:>7.2}  {test:>7.2}");
        assert!(table.lines().any(|line| line.starts_with(&start)), "{start}: {table}");
    }
    let (_, archive, _) = natv2(&["evaluate", "--images", "9", "--archs", &format!("{run}/archive.json")]);
    let dashes = archive.lines().filter(|line| line.trim_start().starts_with('-')).count();
    assert_eq!(dashes, 12 - front.len(), "{archive}");
    assert_eq!(done["top1"], json!({"validation": first["top1"], "test": first["test_top1"]}));
    assert!(done["statistics"].as_str().unwrap().contains("of digits"), "{done}");
    // The same accuracy from the file alone.
    let measured = json_of(&["evaluate", "--weights", &net]);
    assert_eq!(measured["results"][0]["top1"], first["test_top1"]);
    assert_eq!(measured["results"][0]["params"], first["params"]);

    // ONNX from the run and from the file are the same bytes.
    let genotype = first["genotype"].to_string();
    let [a, b, c] = ["a.onnx", "b.onnx", "c.onnx"].map(at);
    json_of(&["export", "--run", &run, "--network", &genotype, "--out", &a]);
    json_of(&["export", "--weights", &net, "--out", &b]);
    let unfolded = json_of(&["export", "--weights", &net, "--out", &c, "--no-fold"]);
    assert_eq!((&unfolded["folded"], &unfolded["outputs"]), (&json!(false), &json!(["logits"])));
    let [bytes, again, apart] = [&a, &b, &c].map(|file| std::fs::read(file).unwrap());
    assert!(bytes == again && bytes != apart);
    let model = onnx::Model::parse(&bytes);
    assert!(model.metadata.iter().any(|(key, value)| key == "mean" && value.starts_with("[0.3053")));

    // A file that is there is replaced, a folder is not, and nothing wrong gets that far.
    json_of(&["export", "--weights", &net, "--out", &b, "--no-fold"]);
    assert_eq!(std::fs::read(&b).unwrap(), apart);
    json_of(&["export", "--weights", &net, "--out", &b, "--force"]);
    assert_eq!(std::fs::read(&b).unwrap(), bytes);
    fails(&["export", "--weights", &net, "--out", &at(""), "--format", "onnx"], "is a folder");
    fails(
        &["export", "--run", &run, "--network", "99", "--out", &at("x.onnx")],
        "the front has networks 1 to",
    );
    fails(&["export", "--run", &run, "--network", "best", "--out", &at("x.onnx")], "--network best");
    fails(&["export", "--weights", &net, "--out", &at("x.bin")], "--format");
    fails(&["export", "--weights", &net, "--out", &at("x.safetensors"), "--each-exit"], "--each-exit");
    fails(&["export", "--out", &at("x.onnx")], "--arch is missing");
    fails(&["export", "--weights", &net, "--out", &at("x.onnx"), "--aep", "asc"], "one plain head");
    assert!(!Path::new(&at("x.onnx")).exists());
    fails(
        &["supernet", "convert", "--weights", &net, "--to-family", "EE_B", "--out", &at("y")],
        "super-network",
    );

    // Back into the super-network: the same file again.
    let (new, back) = (at("new.safetensors"), at("back.safetensors"));
    let inserted = json_of(&["supernet", "insert", "--network", &net, "--out", &new]);
    assert!(inserted["changed"].as_u64().unwrap() > 0 && inserted["reset"] == json!([]), "{inserted}");
    let arch = first["arch"].to_string();
    json_of(&["export", "--weights", &new, "--arch", &arch, "--out", &back, "--stored-statistics"]);
    let tensors = |file: &str| Checkpoint::read(file.as_ref()).unwrap();
    assert!(tensors(&net).tensors().eq(tensors(&back).tensors()));
    let (code, text, _) = natv2(&["supernet", "info", "--weights", &net]);
    assert!(code == 0 && text.contains("network "), "{text}");
}

#[test]
fn the_program_exports_ensembles() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let weights = at("early.safetensors");
    json_of(&["supernet", "convert", "--to-family", "EE_D", "--out", &weights]);
    let arch = serde_json::to_string(&Arch::largest("EE_D".parse().unwrap(), 32, None)).unwrap();
    let common = ["export", "--weights", &weights, "--arch", &arch, "--calibration-images", "40"];
    let with = |out: &str, more: &[&str]| json_of(&[&common[..], &["--out", out], more].concat());
    let net = at("net.safetensors");
    let done = with(&net, &["--exits", "1,3", "--aep", "asc"]);
    assert_eq!((&done["exits"], &done["arch"]["nd"]), (&json!([1, 3]), &json!(3)));
    assert_eq!(done["exit_weights"], json!([0.3333, 0.6667]));
    // The card names the strategy, so the file becomes the same ensemble.
    let (a, b) = (at("a.onnx"), at("b.onnx"));
    let done = with(&a, &["--exits", "1,3", "--aep", "asc", "--each-exit"]);
    assert_eq!(done["outputs"], json!(["logits", "exit_1", "exit_3"]));
    json_of(&["export", "--weights", &net, "--out", &b, "--each-exit"]);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    // Exits that are left of it weigh one together.
    let done = json_of(&["export", "--weights", &net, "--exits", "1", "--out", &at("one.onnx")]);
    assert_eq!((&done["exits"], &done["exit_weights"]), (&json!([1]), &json!([1.0])));
    let plain = with(&at("plain.onnx"), &["--exits", "1"]);
    assert_eq!(plain["outputs"], done["outputs"]);
    let run = |name: &str| {
        let images = crop(&images(2, "test"), 32);
        onnx::Model::parse(&std::fs::read(at(name)).unwrap()).run("images", &images)[0].1.clone()
    };
    let plain: Vec<f32> = run("plain.onnx").into_iter().map(|value| value as f32).collect();
    close(&run("one.onnx"), &plain, "an ensemble of one exit");
    let measured = json_of(&["evaluate", "--weights", &net, "--images", "20", "--exits", "all"]);
    assert_eq!(measured["results"][0]["exits"].as_array().unwrap().len(), 2);
    // Without a strategy, several exits are several outputs.
    assert_eq!(with(&at("c.onnx"), &["--exits", "2,4"])["outputs"], json!(["logits", "exit_2", "exit_4"]));
}
