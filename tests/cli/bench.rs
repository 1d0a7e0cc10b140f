//! The benchmark subcommands, and time on a device.

#[path = "../../benches/common/mod.rs"]
mod measurement;

use criterion::measurement::Measurement;
use natv2::device::{self, Memory};
use natv2::ops::{Call, Threads};
use natv2::supernet::Supernet;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

// ---- time on a device ----------------------------------------------------------------------

#[test]
fn criterion_measures_the_device_itself() {
    for name in ["cpu", "emulated"] {
        let Ok(device) = device::open(name) else {
            assert!(name == "emulated", "there is always a CPU");
            continue;
        };
        let time = measurement::DeviceTime::new(device.clone());
        let start = time.start();
        let mut buffer = device.allocate(1 << 12).unwrap();
        let none = device.allocate(0).unwrap();
        let y = natv2::ops::Slot { region: natv2::ops::Region::Arena, offset: 0, len: 1 << 12 };
        let params = natv2::ops::update::FillParams { len: 1 << 12, value: 1.0 };
        let fill = Call::from(natv2::ops::update::Fill { params, y });
        let memory = Memory { weights: &none, network: &none, arena: &mut buffer };
        device.run(&[fill], memory, Threads::All).unwrap();
        let value = time.end(start);
        assert!(value.as_nanos() > 0, "{name}");
        assert_eq!(time.to_f64(&time.add(&value, &time.zero())), value.as_nanos() as f64, "{name}");
        // Later stamps are later.
        let (first, second) = (device.stamp().unwrap(), device.stamp().unwrap());
        assert!(device.elapsed(&first, &second).unwrap() >= device.elapsed(&second, &first).unwrap());
        assert!(device.cache_bytes() >= 1 << 15, "{name}");
    }
}

// ---- the program ---------------------------------------------------------------------------

/// Exit code, standard output and standard error.
fn natv2(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    (output.status.code().unwrap(), stdout, stderr)
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = natv2(arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    stdout
}

#[track_caller]
fn json_of(arguments: &[&str]) -> Value {
    let text = succeeds(&[arguments, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    // Times of plans were something else in their first version.
    assert_eq!(value["version"], if arguments[1] == "plan" { 2 } else { 1 });
    value
}

#[track_caller]
fn fails(expected: i32, arguments: &[&str], part: &str) {
    let (code, stdout, stderr) = natv2(arguments);
    assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
    assert!(stderr.contains(part), "{arguments:?}: no {part:?} in {stderr}");
}

const CARDS: [&str; 6] = ["--machine", "a100", "--machine", "h100", "--machine", "h200"];

fn plan(arguments: &[&str]) -> Value {
    json_of(&[&["bench", "plan"][..], &CARDS, arguments].concat())
}

#[test]
fn a_plan_is_printed_for_every_card() {
    let wide = ["--width", "1.0", "--classes", "200", "--resolution", "64"];
    let report = plan(&wide);
    let machines = report["machines"].as_array().unwrap();
    let names: Vec<&str> = machines.iter().map(|machine| machine["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["A100", "H100", "H200"]);
    let total = &report["total"];
    let sum = |key: &str| -> u64 {
        report["operators"].as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum()
    };
    for key in ["calls", "launches", "bytes", "flops"] {
        assert_eq!(total[key].as_u64().unwrap(), sum(key), "{key}");
    }
    let ratio = |machine: &Value| machine["f32"]["ratio"].as_f64().unwrap();
    assert!(machines.iter().all(|machine| ratio(machine) > 1.0));
    let seconds = |machine: &Value, how: &str| machine[how]["seconds"].as_f64().unwrap();
    for machine in machines {
        let rows = report["operators"].as_array().unwrap().iter();
        let name = machine["name"].as_str().unwrap();
        let sum: f64 = rows.map(|row| row["seconds"][name].as_f64().unwrap()).sum();
        assert!((sum / seconds(machine, "f32") - 1.0).abs() < 1e-9);
    }
    assert!(seconds(&machines[0], "f32") > seconds(&machines[1], "f32"));
    // Twice the images, nearly twice the bytes, as many launches.
    let more = plan(&[&wide[..], &["--images", "200"]].concat());
    assert_eq!(more["total"]["launches"], total["launches"]);
    let factor = more["total"]["bytes"].as_f64().unwrap() / total["bytes"].as_f64().unwrap();
    assert!((1.7..2.0).contains(&factor), "{factor}");
    // In 16 bits maps take half the bytes, and nothing but maps and weights is 16 bits.
    let apart = plan(&[&wide[..], &["--precision", "bf16", "--unfused"]].concat());
    let factor = apart["total"]["bytes"].as_f64().unwrap() / total["bytes"].as_f64().unwrap();
    assert!((0.5..0.58).contains(&factor), "{factor}");
    // MBConvs as one call move a fraction of it, in a third of the launches.
    let half = plan(&[&wide[..], &["--precision", "bf16"]].concat());
    assert_eq!(half["precision"], "bf16");
    let count = |report: &Value, key: &str| report["total"][key].as_f64().unwrap();
    assert!(count(&half, "bytes") < 0.3 * count(&apart, "bytes"));
    assert!(3.0 * count(&half, "launches") < count(&apart, "launches") + 10.0, "{half}");
    for (machine, other) in machines.iter().zip(half["machines"].as_array().unwrap()) {
        assert_eq!((&machine["f32"], &machine["bf16"]), (&other["f32"], &other["bf16"]));
        let rows = half["operators"].as_array().unwrap().iter();
        let name = machine["name"].as_str().unwrap();
        let sum: f64 = rows.map(|row| row["seconds"][name].as_f64().unwrap()).sum();
        assert!((sum / seconds(machine, "bf16") - 1.0).abs() < 1e-9);
    }
    // Every operator and every MBConv has on every card what bounds it, and its seconds are the sum of their parts.
    let bounds = ["traffic", "launches", "tensor", "fma", "occupancy"];
    let bf16 = plan(&[&wide[..], &["--precision", "bf16", "--images", "1000"]].concat());
    let layers = bf16["mbconvs"].as_array().unwrap();
    assert_eq!(layers.len(), 15);
    for row in bf16["operators"].as_array().unwrap().iter().chain(layers) {
        for card in names.iter() {
            let parts = &row["parts"][card];
            let part = |name: &str| parts[name].as_f64().unwrap();
            let sum: f64 = bounds.map(part).iter().sum();
            assert!((sum / row["seconds"][card].as_f64().unwrap() - 1.0).abs() < 1e-9, "{row}");
            let bound = row["bounds"][card].as_str().unwrap();
            assert!(bounds.iter().all(|&other| part(other) <= part(bound)), "{row}");
        }
    }
    // As many images as fill a card take less time in 16 bits.
    assert!(bf16["machines"].as_array().unwrap().iter().all(|on| seconds(on, "bf16") < seconds(on, "f32")));
    // An H100 spends less of a middle network's MBConvs on traffic than on arithmetic.
    let fused = bf16["operators"].as_array().unwrap().iter().find(|row| row["operator"] == "Mbconv").unwrap();
    let part = |name: &str| fused["parts"]["H100"][name].as_f64().unwrap();
    assert!(part("fma") + part("tensor") > part("traffic"), "{fused}");
    assert!((1.9e9..2e9).contains(&bf16["machines"][1]["clock"].as_f64().unwrap()));
    // The table says the same.
    let table = succeeds(&[&["bench", "plan"][..], &CARDS, &wide].concat());
    for part in [
        "Pointwise",
        "floor: fused layers",
        "H100: 3350 GB/s",
        "132 multiprocessors at 1.98 GHz",
        "in shared",
    ] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
}

#[test]
fn populations_modes_and_this_machine_are_planned() {
    let arch = |e: u8| json!({"r": 48, "ks": vec![3; 20], "e": vec![e; 20], "d": [2, 2, 2, 2, 2]});
    let mut other = arch(3);
    other["e"][17] = json!(6);
    let one = json!([arch(3)]).to_string();
    let two = json!([arch(3), other]).to_string();
    let evaluation = ["--mode", "evaluation", "--images", "2000", "--calibration-images", "500"];
    let of = |archs: &str| plan(&[&["--archs", archs][..], &evaluation].concat());
    let (alone, both) = (of(&one), of(&two));
    assert_eq!((&alone["images"], &alone["calibration_images"]), (&json!(2000), &json!(500)));
    assert!(both["saving"]["distinct"].as_u64().unwrap() < both["saving"]["executions"].as_u64().unwrap());
    let bytes = |report: &Value| report["total"]["bytes"].as_f64().unwrap();
    assert!(bytes(&both) < 1.6 * bytes(&alone));
    let step = plan(&["--archs", &two, "--mode", "training", "--images", "64", "--teacher"]);
    assert!(step["operators"].as_array().unwrap().iter().any(|row| row["operator"] == "PointwiseWeights"));
    assert!(step["traffic_ratio"].as_f64().unwrap() > 1.0);
    // In 16 bits maps and their gradients take half the bytes; weights and what updates them do not.
    let bf16 = ["--archs", &two, "--mode", "training", "--images", "64", "--teacher", "--precision", "bf16"];
    let half = plan(&bf16);
    assert_eq!(half["precision"], "bf16");
    let operators = half["operators"].as_array().unwrap();
    for operator in ["PointwiseHalf", "PointwiseHalfWeights", "HalfRows"] {
        assert!(operators.iter().any(|row| row["operator"] == operator), "{operator}");
    }
    let factor = bytes(&half) / bytes(&step);
    assert!((0.5..0.75).contains(&factor), "{factor}");
    assert!(half["traffic_ratio"].as_f64().unwrap() > 1.0);
    // A device with tensor cores is measured in 16 bits too.
    if device::open("emulated").is_ok() {
        let here = [
            "bench",
            "plan",
            "--machine",
            "here",
            "--device",
            "emulated",
            "--precision",
            "bf16",
            "--width",
            "1.0",
        ];
        let here = json_of(&here);
        let machine = &here["machines"][0];
        assert!(
            machine["tensor_flops"].as_f64().unwrap() > 0.0
                && machine["bf16"]["seconds"].as_f64().unwrap() > 0.0
        );
        assert_eq!((&machine["multiprocessors"], &machine["shared_bytes"]), (&json!(132), &json!(227 << 10)));
        let name = machine["name"].as_str().unwrap();
        assert!(
            here["mbconvs"].as_array().unwrap().iter().all(|layer| layer["bounds"][name].is_string()),
            "{here}"
        );
    }
    let here = json_of(&["bench", "plan", "--machine", "here", "--device", "cpu", "--threads", "1"]);
    let machine = &here["machines"][0];
    assert!(machine["name"].as_str().unwrap().starts_with("cpu"));
    assert!(machine["f32_flops"].as_f64().unwrap() > 1e8 && machine["bf16"].is_null());
    fails(2, &["bench", "plan", "--machine", "tpu"], "machines are a100");
    fails(2, &["bench", "plan", "--mode", "guess"], "modes are inference");
    fails(2, &["bench", "plan", "--teacher"], "--mode training");
    fails(2, &["bench", "plan", "--precision", "f8"], "f32, f16 and bf16");
    let wide = json!({"r": 48, "w": 1.0, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2]});
    fails(2, &["bench", "plan", "--arch", &wide.to_string()], "--width 1");
    fails(2, &["bench", "plan", "--exits", "all"], "one plain head");
}

#[test]
fn profiles_show_every_operator_of_every_pass() {
    let small = ["--images", "9", "--calibration-images", "12", "--batch", "4", "--rounds", "1"];
    let profile = |more: &[&str]| {
        json_of(&[&["bench", "profile", "--device", "cpu", "--threads", "2"][..], &small, more].concat())
    };
    let report = profile(&["--width", "0.25", "--resolution", "32"]);
    let profiles = report["profiles"].as_array().unwrap();
    let works: Vec<&str> = profiles.iter().map(|profile| profile["work"].as_str().unwrap()).collect();
    assert_eq!(works, ["evaluation", "training step"]);
    // As many calls as the model plans, with the same bytes and operations.
    let planned = |mode: &str, images: &str| {
        plan(&["--width", "0.25", "--resolution", "32", "--mode", mode, "--images", images])
    };
    let step = &profiles[1]["passes"][0];
    let model = planned("training", "4");
    assert_eq!(step["total"]["calls"], model["total"]["calls"]);
    for row in step["operators"].as_array().unwrap() {
        let wanted = model["operators"].as_array().unwrap().iter();
        let wanted = wanted.into_iter().find(|wanted| wanted["operator"] == row["operator"]).unwrap();
        assert_eq!(row["calls"], wanted["calls"]);
        let seconds = row["seconds"].as_f64().unwrap();
        for (rate, amount) in [("gigaflops", "flops"), ("gigabytes_per_second", "bytes")] {
            let (rate, amount) = (1e9 * row[rate].as_f64().unwrap(), wanted[amount].as_f64().unwrap());
            assert!((rate * seconds - amount).abs() <= 1e-6 * amount, "{row} {wanted}");
        }
    }
    // Shares of the time add up to the whole, unless lanes were kept waiting by other programs.
    for profile in profiles {
        let passes = profile["passes"].as_array().unwrap().iter();
        let inside: f64 = passes.map(|pass| pass["total"]["share"].as_f64().unwrap()).sum();
        let outside = profile["outside"].as_f64().unwrap();
        assert!((inside + outside - 1.0).abs() < 1e-9 && outside >= 0.0, "{inside} {outside}");
    }
    // A population is profiled as the tree that it runs as.
    let arch = |e: u8| json!({"r": 32, "ks": vec![3; 20], "e": vec![e; 20], "d": [2, 2, 2, 2, 2]});
    let mut other = arch(3);
    other["e"][17] = json!(6);
    let two = json!([arch(3), other]).to_string();
    let report = profile(&["--archs", &two, "--work", "evaluation"]);
    assert_eq!((&report["networks"], report["profiles"].as_array().unwrap().len()), (&json!(2), 1));
    let passes = report["profiles"][0]["passes"].as_array().unwrap();
    let names: Vec<&str> = passes.iter().map(|pass| pass["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["recalibration", "inference"]);
    let table =
        succeeds(&[&["bench", "profile", "--device", "cpu", "--work", "evaluation"][..], &small].concat());
    for part in ["measured peaks", "Depthwise", "outside of calls"] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    fails(2, &["bench", "profile", "--width", "1.0", "--exits", "all"], "one plain head");
    fails(2, &["bench", "profile", "--work", "guess"], "evaluation, training");
    let bf16 = profile(&["--width", "0.25", "--resolution", "32", "--precision", "bf16"]);
    assert_eq!(bf16["precision"], "bf16");
}

#[test]
fn evaluations_are_timed_with_equal_results() {
    let small = ["--images", "24", "--calibration-images", "24", "--rounds", "1", "--device", "cpu"];
    let report = json_of(&[&["bench", "evaluate", "--population", "3"][..], &small].concat());
    let singles = report["singles"].as_array().unwrap();
    let names: Vec<(&str, u64)> = singles
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["resolution"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("smallest", 32),
            ("largest", 32),
            ("smallest", 40),
            ("largest", 40),
            ("smallest", 48),
            ("largest", 48)
        ]
    );
    assert!(singles.iter().all(|row| row["seconds"]["median"].as_f64().unwrap() > 0.0));
    let group = &report["populations"][0];
    assert_eq!((&group["networks"], &group["equal"]), (&json!(3), &json!(true)));
    assert!(group["networks_per_second"].as_f64().unwrap() > 0.0);
    let share = group["recalibration_share"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&share), "{share}");
    let table = succeeds(&[&["bench", "evaluate", "--population", "2"][..], &small].concat());
    assert!(table.contains("2 random") && table.contains("one by one ms"), "{table}");
}

/// One network of random weights on noise in every way that the device has.
#[test]
fn ways_of_running_networks_are_compared() {
    let small = ["--width", "0.25", "--classes", "7", "--resolution", "32", "--images", "3"];
    let small = [&small[..], &["--calibration-images", "4", "--rounds", "1", "--device"]].concat();
    let evaluate = |device: &str, more: &[&str]| {
        json_of(&[&["bench", "evaluate"][..], &small, &[device], more].concat())
    };
    // Nothing is recorded on a CPU, and there is one order.
    let report = evaluate("cpu", &["--networks", "2", "--precision", "bf16"]);
    assert_eq!((&report["data"], &report["precision"]), (&json!("noise"), &json!("bf16")));
    assert_eq!((&report["images"], &report["calibration_images"]), (&json!(3), &json!(4)));
    assert!(report["launch"]["host_us"].as_f64().unwrap() > 0.0 && report["launch"]["graph_us"].is_null());
    let ways = report["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 2);
    for way in ways {
        assert_eq!(
            (&way["streams"], &way["graphs"], &way["equal"]),
            (&json!(1), &json!("never"), &json!(true))
        );
        let (networks, seconds) =
            (way["networks"].as_f64().unwrap(), way["seconds"]["median"].as_f64().unwrap());
        for (rate, amount) in [("networks_per_second", networks), ("images_per_second", 3.0 * networks)] {
            assert!((way[rate].as_f64().unwrap() * seconds / amount - 1.0).abs() < 1e-9, "{way}");
        }
        assert!(way["launches"].as_u64().unwrap() > 40 && way["host"]["planning"].as_f64().unwrap() > 0.0);
        assert!(way["host"]["runs"].as_u64().unwrap() > 0 && way["host"]["recorded"] == 0, "{way}");
    }
    assert_eq!(ways[0]["work"], "network");
    assert_eq!(ways[1]["work"], "population");
    if device::open("emulated").is_ok() {
        // On one lane, as a card has, nine networks are two groups: each stream has one.
        let report = evaluate("emulated", &["--networks", "9", "--threads", "1"]);
        let ways = report["ways"].as_array().unwrap();
        let ran: Vec<(u64, u64, &str)> = ways
            .iter()
            .map(|way| (way["networks"].as_u64(), way["streams"].as_u64(), way["graphs"].as_str()))
            .map(|(networks, streams, graphs)| (networks.unwrap(), streams.unwrap(), graphs.unwrap()))
            .collect();
        let graphs = ["never", "always"];
        let alone = graphs.map(|graphs| (1, 1, graphs));
        let population = [1, 2].map(|streams| graphs.map(|graphs| (9, streams, graphs)));
        assert_eq!(ran, [alone.to_vec(), population.concat()].concat());
        for way in ways {
            // Recordings may be kept from the first round on.
            let (recorded, started) = (way["first"]["recorded"].as_u64(), way["host"]["started"].as_u64());
            assert_eq!(
                (&way["equal"], recorded > Some(0)),
                (&json!(true), way["graphs"] == "always"),
                "{way}"
            );
            assert_eq!(started > Some(0), way["graphs"] == "always", "{way}");
        }
        assert!(report["launch"]["graph_us"].as_f64().unwrap() > 0.0);
        // Two groups share less than one does.
        assert!(ways[4]["launches"].as_u64().unwrap() > ways[2]["launches"].as_u64().unwrap());
        let only = ["--networks", "0", "--graphs", "auto", "--streams", "2"];
        let report = evaluate("emulated", &only);
        assert_eq!(
            (report["ways"].as_array().unwrap().len(), &report["ways"][0]["graphs"]),
            (1, &json!("auto"))
        );
        let table = succeeds(&[&["bench", "evaluate"][..], &small, &["emulated"], &only].concat());
        for part in ["a middle one", "of the host", "until done; in a graph"] {
            assert!(table.contains(part), "no {part:?} in {table}");
        }
    }
    fails(2, &["bench", "evaluate", "--width", "0.25", "--data", "digits"], "--data");
    fails(2, &["bench", "evaluate", "--graphs", "always"], "--width");
    fails(2, &["bench", "evaluate", "--width", "0.25", "--graphs", "some"], "auto, always or never");
    fails(2, &["bench", "evaluate", "--width", "0.25", "--streams", "3"], "--streams");
}

#[test]
fn searches_and_steps_are_timed() {
    let tiny = ["--profile", "tiny", "--rounds", "1", "--device", "cpu"];
    let report = json_of(&[&["bench", "search"][..], &tiny].concat());
    let parts = report["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|row| row["name"].as_str().unwrap()).collect();
    for part in ["predictor: fit", "predictor: 2000", "inner search", "candidate selection", "evaluating"] {
        assert!(names.iter().any(|name| name.contains(part)), "no {part:?} in {names:?}");
    }
    assert_eq!(names.last(), Some(&"a whole iteration"));
    assert!(parts.iter().all(|row| row["seconds"]["median"].as_f64().unwrap() >= 0.0));
    fails(2, &["bench", "search", "--set", "search.objectives=[\"top1\",\"latency\"]"], "leave latency out");
    let steps = ["--batch", "4", "--resolution", "32", "--rounds", "1", "--device", "cpu"];
    let half = json_of(&[&["bench", "train", "--precision", "bf16"][..], &steps].concat());
    assert_eq!(half["precision"], "bf16");
    let report = json_of(&[&["bench", "train"][..], &steps].concat());
    let rows = report["steps"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["images_per_second"].as_f64().unwrap() > 0.0));
    let kinds: Vec<_> = rows
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["students"].as_u64().unwrap(), row["teacher"] == true))
        .collect();
    let expected = [
        ("largest", 1, false),
        ("smallest", 1, false),
        ("one mixed", 1, false),
        ("two mixed", 2, false),
        ("two mixed, teacher", 2, true),
        ("sandwich", 3, false),
    ];
    assert_eq!(kinds, expected);
}

// ---- comparing -----------------------------------------------------------------------------

/// Writes a run of a benchmark as criterion does.
fn keep(folder: &Path, id: &str, run: &str, median: f64) {
    let to = folder.join(id.replace('/', "_")).join("part").join(run);
    std::fs::create_dir_all(&to).unwrap();
    let interval =
        json!({"confidence_level": 0.95, "lower_bound": 0.99 * median, "upper_bound": 1.01 * median});
    let estimate = json!({"confidence_interval": interval, "point_estimate": median, "standard_error": 0.0});
    let estimates = json!({"mean": estimate, "median": estimate, "slope": null});
    std::fs::write(to.join("estimates.json"), estimates.to_string()).unwrap();
    let about = json!({"group_id": "g", "function_id": "f", "full_id": id, "throughput": null});
    std::fs::write(to.join("benchmark.json"), about.to_string()).unwrap();
}

#[test]
fn a_regression_beyond_the_bound_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let path = folder.to_str().unwrap();
    for (id, before, now) in [("moo/slow", 1e6, 1.2e6), ("moo/same", 2e3, 2.02e3), ("plan/fast", 50.0, 30.0)]
    {
        keep(folder, id, "main", before);
        keep(folder, id, "new", now);
        // Of criterion's own comparison; it is no time.
        keep(folder, id, "change", -0.5);
    }
    keep(folder, "moo/gone", "main", 1.0);
    keep(folder, "moo/fresh", "new", 1.0);
    let compare = |more: &[&str]| {
        natv2(&[&["bench", "compare", "--baseline", "main", "--criterion", path][..], more].concat())
    };
    let (code, table, error) = compare(&["--bound", "1.05"]);
    assert_eq!(code, 1);
    assert!(error.contains("a benchmark has become slower"), "{error}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].starts_with("moo/slow") && lines[1].contains("1.200"), "{table}");
    assert!(lines[1].ends_with("REGRESSION") && lines[1].contains("1.176 to 1.224"), "{table}");
    assert!(lines[2].starts_with("moo/same") && !lines[2].contains("REGRESSION"), "{table}");
    assert!(lines[3].starts_with("plan/fast") && lines[3].ends_with("faster"), "{table}");
    assert!(
        table.contains("only in the baseline: moo/gone") && table.contains("not in the baseline: moo/fresh")
    );
    assert!(table.contains("1 of 3 slower than main by more than 1.05"), "{table}");
    // Within a wider bound, and without the slow one, all is well.
    assert_eq!(compare(&["--bound", "1.25"]).0, 0);
    let (code, text, _) = compare(&["--only", "PLAN", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["version"], &report["regressions"]), (0, &json!(1), &json!(0)));
    assert_eq!(report["benchmarks"].as_array().unwrap().len(), 1);
    assert_eq!(report["benchmarks"][0]["verdict"], "improvement");
    // Two baselines.
    keep(folder, "moo/slow", "other", 0.9e6);
    assert_eq!(compare(&["--with", "other"]).0, 0);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let path = folder.to_str().unwrap();
    let arguments = |name| ["bench", "compare", "--baseline", name, "--criterion", path];
    fails(1, &arguments("main"), "there are none yet");
    keep(folder, "moo/one", "main", 1.0);
    keep(folder, "moo/one", "new", 1.0);
    fails(1, &arguments("mian"), "there are main");
    succeeds(&arguments("main"));
    let estimates = folder.join("moo_one/part/new/estimates.json");
    std::fs::write(&estimates, "{\"median\":{\"point_estimate\":0.0}}").unwrap();
    fails(1, &arguments("main"), "no median above 0");
    std::fs::write(&estimates, "{").unwrap();
    fails(1, &arguments("main"), "run the benchmark again");
    let nowhere = folder.join("nowhere");
    fails(
        1,
        &["bench", "compare", "--baseline", "main", "--criterion", nowhere.to_str().unwrap()],
        "run `cargo bench` first",
    );
    fails(2, &["bench", "compare", "--baseline", "main", "--bound", "0.5"], "a ratio from 1");
    fails(2, &["bench", "compare"], "--baseline");
}

#[test]
fn the_built_in_weights_have_the_plan_of_their_width() {
    let supernet = Supernet::open(None, None).unwrap();
    let report = plan(&["--mode", "recalibration"]);
    assert_eq!(report["width"].as_f64(), Some(supernet.channels().width));
    assert_eq!(report["images"], 0);
    assert_eq!(report["calibration_images"], 500);
    assert!(report["traffic_ratio"].as_f64().unwrap() > 5.0);
}
