//! Logits and counts of whole networks against independent reference values.
//!
//! `NATV2_TEST_DEVICE` picks the device, the CPU if unset.

use crate::common;
use natv2::engine::{Calibration, Cropped, Engine};
use natv2::random::fnv1a64;
use natv2::space::{Arch, Channels, Cost, ExitScaling, Family, cost, walk::Exits};
use natv2::supernet::{Card, Checkpoint, Layout, Parts, Supernet, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Images of a recalibration batch in the files with two batches.
const BATCH: usize = 16;

fn engine(supernet: Supernet) -> Engine {
    let name = std::env::var("NATV2_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    Engine::new(natv2::device::open(&name).unwrap(), Arc::new(supernet)).unwrap()
}

fn load(name: &str) -> Checkpoint {
    Checkpoint::read(&common::golden().join(name)).unwrap()
}

/// Panics unless `found` is `expected`, a nested list, within `tolerance` times its largest value.
fn compare(found: &[Vec<f32>], expected: &Value, tolerance: f64, what: &str) {
    let flat = |value: &Value| -> Vec<f64> {
        let mut out = Vec::new();
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            match value {
                Value::Array(items) => stack.extend(items.iter().rev()),
                number => out.push(number.as_f64().expect("a number")),
            }
        }
        out
    };
    let expected = flat(expected);
    assert_eq!(found.iter().map(Vec::len).sum::<usize>(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (found, expected) in found.iter().flatten().zip(&expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * largest, "{what}: {found} against {expected}, largest {largest}");
    }
}

/// Checks the stored and the recalibrated logits of one case.
fn check_case(engine: &Engine, inputs: &Checkpoint, case: &Value) {
    let family = engine.supernet().family;
    let arch = Arch::from_json(family, &common::arch_fields(case)).unwrap();
    let exits = match case["exits"].as_array() {
        Some(list) => {
            let text: Vec<String> = list.iter().map(Value::to_string).collect();
            Exits::parse(&text.join(","), &arch).unwrap()
        }
        None => Exits::single(&arch),
    };
    let tensor = |name: &str| inputs.tensor(name).unwrap_or_else(|| panic!("tensor {name}"));
    let images = Cropped::new(tensor("images"), &[]).unwrap();
    let calibration = Cropped::new(tensor("calibration"), &[]).unwrap();
    let count = tensor("calibration").shape[0];
    let recalibrate = Calibration::Batches { images: &calibration, count, batch: BATCH };
    let what = format!("{family} {}", serde_json::to_string(&arch).unwrap());
    let logits = engine.logits(&arch, exits, &images, recalibrate).unwrap();
    compare(&logits, &case["logits_recalibrated"], 2e-4, &format!("{what}, recalibrated"));
    if let Some(stored) = case.get("logits") {
        let logits = engine.logits(&arch, exits, &images, Calibration::Stored).unwrap();
        compare(&logits, stored, 5e-3, &format!("{what}, stored statistics"));
    }
}

fn ofa_stems() -> Vec<String> {
    common::stems("ofa_mbv3_w", |stem| !stem.ends_with("_step"))
}

#[test]
pub(crate) fn golden_ofa_logits() {
    for stem in ofa_stems() {
        let file = common::read(&format!("{stem}.json"));
        let checkpoint = load(&format!("{stem}.safetensors"));
        let inputs = load(&format!("{stem}_inputs.safetensors"));
        let supernet = Supernet::from_checkpoint(&checkpoint, Card::default(), None).unwrap();
        assert_eq!(supernet.channels().stages, Channels::new(width(&file), ExitScaling::Once).stages);
        let engine = engine(supernet);
        common::cases(&file).iter().for_each(|case| check_case(&engine, &inputs, case));
    }
}

#[test]
fn golden_ofa_counts() {
    for stem in ofa_stems() {
        let file = common::read(&format!("{stem}.json"));
        let channels = Channels::new(width(&file), ExitScaling::Once);
        let classes = file["n_classes"].as_u64().unwrap() as usize;
        for case in common::cases(&file) {
            let arch = Arch::from_json(Family::SE_B, &common::arch_fields(case)).unwrap();
            let number = |name: &str| case[name].as_u64().unwrap();
            let expected = Cost { params: number("params"), macs: number("macs") };
            assert_eq!(cost(&channels, &arch, Exits::single(&arch), classes), expected, "{stem}");
        }
    }
}

#[test]
pub(crate) fn golden_ofav2_logits() {
    for stem in common::stems("ofav2_w", |stem| !stem.ends_with("_step")) {
        let file = common::read(&format!("{stem}.json"));
        let checkpoint = load(&format!("{stem}.safetensors"));
        let inputs = load(&format!("{stem}_inputs.safetensors"));
        let mut engines: BTreeMap<Family, Engine> = BTreeMap::new();
        for case in common::cases(&file) {
            let family: Family = case["family"].as_str().unwrap().parse().unwrap();
            let engine = engines.entry(family).or_insert_with(|| {
                engine(Supernet::from_checkpoint(&checkpoint, Card::default(), Some(family)).unwrap())
            });
            check_case(engine, &inputs, case);
        }
    }
}

#[test]
pub(crate) fn golden_ofav2_synthetic() {
    for stem in common::stems("ofav2_synthetic", |_| true) {
        let file = common::read(&format!("{stem}.json"));
        let formula = Formula { salt: file["formula"]["salt"].as_str().unwrap().into() };
        for probe in file["formula"]["probe"].as_array().unwrap() {
            let (name, index) = (probe["name"].as_str().unwrap(), probe["index"].as_u64().unwrap());
            let shape = if name == "images" { vec![2, 3, 64, 64] } else { probe_shape(name) };
            let value = f64::from(formula.value(name, &shape, index));
            assert!((value - probe["value"].as_f64().unwrap()).abs() < 1e-7, "{probe}");
        }
        let scaling: ExitScaling = serde_json::from_value(file["exit_scaling"].clone()).unwrap();
        let classes = file["n_classes"].as_u64().unwrap() as usize;
        let inputs = formula.checkpoint([
            ("images".to_string(), vec![2, 3, 64, 64]),
            ("calibration".to_string(), vec![16, 3, 64, 64]),
        ]);
        let mut engines: Vec<(f64, Family, Engine)> = Vec::new();
        for case in common::cases(&file) {
            let width = case["w"].as_f64().unwrap();
            let family: Family = case["family"].as_str().unwrap().parse().unwrap();
            if !engines.iter().any(|(w, f, _)| (*w, *f) == (width, family)) {
                let parts = Parts { head: true, exits: true, parallel: true };
                let layout = Layout::new(Channels::new(width, scaling), classes, parts);
                let tensors = layout.tensors().iter().map(|t| (t.name.clone(), t.shape.clone()));
                let supernet =
                    Supernet::from_checkpoint(&formula.checkpoint(tensors), Card::default(), Some(family));
                engines.push((width, family, engine(supernet.unwrap())));
            }
            let (_, _, engine) = engines.iter().find(|(w, f, _)| (*w, *f) == (width, family)).unwrap();
            check_case(engine, &inputs, case);
        }
    }
}

fn width(file: &Value) -> f64 {
    file["width_mult"].as_f64().expect("width_mult")
}

/// The shape that decides the formula's branch for a probed tensor: only dimensions matter.
fn probe_shape(name: &str) -> Vec<usize> {
    let layout = Layout::new(
        Channels::new(1.0, ExitScaling::Once),
        1,
        Parts { head: true, exits: true, parallel: true },
    );
    let tensor = layout.tensors().iter().find(|t| t.name == name);
    tensor.unwrap_or_else(|| panic!("no tensor {name}")).shape.clone()
}

/// Weights made by the formula that the file states.
struct Formula {
    salt: String,
}

impl Formula {
    fn value(&self, name: &str, shape: &[usize], index: u64) -> f32 {
        let mut z = fnv1a64(format!("{}:{name}", self.salt).as_bytes())
            .wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let u = (z >> 40) as f64 / f64::from(1 << 24);
        let centred = 2.0 * u - 1.0;
        let value = if name.ends_with("_matrix") {
            let diagonal = (index as usize).is_multiple_of(shape[0] + 1);
            f64::from(u8::from(diagonal)) + 0.05 * centred
        } else if name.ends_with("running_var") {
            0.5 + u
        } else if name.ends_with("running_mean") || name.ends_with("bias") {
            0.1 * centred
        } else if shape.len() == 1 {
            1.0 + 0.2 * centred
        } else if name == "images" || name == "calibration" {
            3f64.sqrt() * centred
        } else {
            let fan_in: usize = shape[1..].iter().product();
            (6.0 / fan_in as f64).sqrt() * centred
        };
        value as f32
    }

    fn checkpoint(&self, tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Checkpoint {
        let tensor = |name: &str, shape: Vec<usize>| {
            let count: usize = shape.iter().product();
            let data = (0..count as u64).map(|i| self.value(name, &shape, i)).collect();
            Tensor { shape, data }
        };
        let tensors = tensors.into_iter().map(|(name, shape)| (name.clone(), tensor(&name, shape))).collect();
        Checkpoint::from_tensors("made by formula", tensors)
    }
}
