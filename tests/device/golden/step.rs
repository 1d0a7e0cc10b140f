//! Training steps of whole networks against independent reference values.
//!
//! `NATV2_TEST_DEVICE` picks the device that is checked in f32, the CPU if unset. The strict check
//! is that of the definitions in f64.

use crate::common;
use natv2::data::Source;
use natv2::device::Device;
use natv2::engine::{Cropped, Images};
use natv2::ops::Threads;
use natv2::space::{Arch, Family};
use natv2::supernet::{Card, Checkpoint, Supernet, Tensor};
use natv2::train::{
    Batch, Decays, Gradient, Optimiser, Rule, Settings, Student, Teacher, Trainer, Weighting,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How close a device has to come.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) loss: f64,
    pub(super) statistics: f64,
    /// Of a gradient's own norm, and of the largest norm of the case.
    gradient: (f64, f64),
    sums: f64,
}

const SINGLE: Tolerance = Tolerance { loss: 1e-4, statistics: 1e-4, gradient: (5e-2, 1e-3), sums: 2e-2 };
// What goes in and out of a device is f32, and so are the stored reference values.
const DOUBLE: Tolerance = Tolerance { loss: 1e-6, statistics: 1e-6, gradient: (1e-5, 1e-7), sums: 1e-5 };

pub(super) fn devices() -> Vec<(Arc<dyn Device>, Tolerance)> {
    let name = std::env::var("NATV2_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let open = |name: &str| natv2::device::open(name).unwrap();
    match name.as_str() {
        // The definitions do not change with the device, so they are checked once.
        "cpu" => vec![(open("cpu"), SINGLE), (open("reference-f64"), DOUBLE)],
        name => vec![(open(name), SINGLE)],
    }
}

pub(super) const OPTIMISER: Optimiser = Optimiser {
    rule: Rule::Sgd { momentum: 0.9, nesterov: true },
    decay: 3e-5,
    decays: Decays::Weights,
    clip: None,
};

pub(super) fn settings(smoothing: f32, kd_ratio: f32) -> Settings {
    Settings { rate: 0.05, smoothing, kd_ratio, dropout: 0.0, seed: 0, epoch: 0, step: 0 }
}

/// All exits, with the weights of a list.
pub(super) fn joint(weights: &Value) -> Weighting {
    let weights = weights.as_array().expect("a weight for each exit").iter();
    let weights: Vec<f32> = weights.map(|weight| weight.as_f64().unwrap() as f32).collect();
    Weighting::Joint(weights.try_into().unwrap())
}

/// The images and labels of a step, cropped to `r`.
pub(super) fn inputs(inputs: &Checkpoint, step: &StepFile, r: usize) -> (Vec<f32>, Vec<u32>) {
    let tensor = inputs.tensor("calibration").expect("tensor `calibration`");
    let images = Cropped::new(tensor, &[]).unwrap();
    let mut out = vec![0.0; images.len() * r * r * 3];
    images.load(0, r, &mut out, Threads::One);
    (out, step.labels.clone())
}

/// The file of a step's tensors, which holds labels as integers beside tensors of f32.
pub(super) struct StepFile {
    pub(super) tensors: BTreeMap<String, Tensor>,
    labels: Vec<u32>,
}

impl StepFile {
    pub(super) fn read(name: &str) -> StepFile {
        let bytes = std::fs::read(common::golden().join(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (mut tensors, mut labels) = (BTreeMap::new(), Vec::new());
        for (name, view) in file.tensors() {
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    let tensor = Tensor { shape: view.shape().to_vec(), data: data.collect() };
                    tensors.insert(name, tensor);
                }
                _ => {
                    assert_eq!((name.as_str(), view.dtype()), ("labels", safetensors::Dtype::I32));
                    let label = |b: &[u8]| i32::from_le_bytes(b.try_into().unwrap()) as u32;
                    labels = view.data().chunks_exact(4).map(label).collect();
                }
            }
        }
        assert!(!labels.is_empty(), "{name} has labels");
        StepFile { tensors, labels }
    }

    /// The tensors `case{index}.{part}.NAME`, by name.
    pub(super) fn part(&self, index: usize, part: &str) -> BTreeMap<&str, &Tensor> {
        let prefix = format!("case{index}.{part}.");
        self.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?, t))).collect()
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Compares the norms of all gradients, and those that are stored whole.
pub(super) fn check_gradients(
    found: &Gradient,
    case: &Value,
    stored: &BTreeMap<&str, &Tensor>,
    t: Tolerance,
    what: &str,
) {
    let norms = case["grad_norm"].as_object().unwrap();
    let names: Vec<&String> = found.tensors.keys().collect();
    let mut expected: Vec<&String> = norms.keys().collect();
    expected.sort();
    assert_eq!(names, expected, "{what}: tensors with a gradient");
    let largest = norms.values().map(|v| v.as_f64().unwrap()).fold(0.0, f64::max);
    for (name, tensor) in &found.tensors {
        let wanted = norms[name].as_f64().unwrap();
        let limit = t.gradient.0 * wanted + t.gradient.1 * largest;
        let got = norm(tensor.data.iter().map(|&v| f64::from(v)));
        assert!((got - wanted).abs() <= limit, "{what}: norm of {name} is {got}, not {wanted}");
        if let Some(reference) = stored.get(name.as_str()) {
            assert_eq!(reference.shape, tensor.shape, "{what}: {name}");
            let differences =
                tensor.data.iter().zip(&reference.data).map(|(a, b)| f64::from(*a) - f64::from(*b));
            let error = norm(differences);
            assert!(error <= limit, "{what}: {name} is off by {error}, allowed {limit}");
        }
    }
    assert!(
        stored.keys().all(|name| found.tensors.contains_key(*name)),
        "{what}: a stored gradient is unknown"
    );
}

fn close(found: f32, wanted: f64, tolerance: f64) -> bool {
    (f64::from(found) - wanted).abs() <= tolerance * wanted.abs().max(1.0)
}

/// The loss of a network, in a case of one network or in one of a case's networks.
pub(super) fn check_loss(loss: f64, case: &Value, t: Tolerance, what: &str) {
    let wanted = case["loss"].as_f64().unwrap();
    assert!((loss - wanted).abs() <= t.loss * wanted.abs(), "{what}: loss {loss}, not {wanted}");
}

pub(super) fn check_logits(found: &[f32], reference: &Tensor, tolerance: f64, what: &str) {
    let (rows, classes) = (reference.shape[0], reference.shape[1]);
    let largest = reference.data.iter().fold(1.0f64, |m, v| m.max(f64::from(v.abs())));
    for row in 0..rows {
        for class in 0..classes {
            let (a, b) = (found[row * (found.len() / rows) + class], reference.data[row * classes + class]);
            let error = (f64::from(a) - f64::from(b)).abs();
            assert!(error <= tolerance * largest, "{what}: logit {a}, not {b}");
        }
    }
}

pub(super) fn load(name: &str) -> Checkpoint {
    Checkpoint::read(&common::golden().join(name)).unwrap()
}

#[test]
pub(crate) fn golden_ofa_step() {
    for stem in common::stems("ofa_mbv3_w", |stem| stem.ends_with("_step")) {
        let file = common::read(&format!("{stem}.json"));
        let step = StepFile::read(&format!("{stem}.safetensors"));
        let base = stem.trim_end_matches("_step");
        let checkpoint = load(&format!("{base}.safetensors"));
        let images = load(&format!("{base}_inputs.safetensors"));
        let supernet = Supernet::from_checkpoint(&checkpoint, Card::default(), Some(Family::SE_B)).unwrap();
        assert_eq!(supernet.channels().width, file["width_mult"].as_f64().unwrap());
        for (device, t) in devices() {
            for (index, case) in common::cases(&file).iter().enumerate() {
                let what = format!("{}, {stem} case {index}", device.describe());
                let arch = Arch::from_json(Family::SE_B, &common::arch_fields(case)).unwrap();
                let (pixels, labels) = inputs(&images, &step, arch.r as usize);
                let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: arch.r as usize };
                let number = |name: &str| case[name].as_f64().unwrap() as f32;
                let settings = settings(number("label_smoothing"), number("kd_ratio"));
                let students = [Student { arch, weighting: Weighting::Own }];
                let mut trainer = Trainer::new(device.clone(), supernet.clone(), OPTIMISER).unwrap();
                let teacher: Option<Teacher> = (settings.kd_ratio > 0.0)
                    .then(|| trainer.teacher(Arc::new(supernet.clone()), Weighting::Own).unwrap());
                let found = trainer.gradient(&batch, &students, teacher.as_ref().into(), &settings).unwrap();
                check_loss(found.report.losses[0], case, t, &what);
                if let Some(reference) = step.tensors.get(&format!("case{index}.logits")) {
                    check_logits(&found.logits[0], reference, t.statistics, &what);
                }
                check_gradients(&found, case, &step.part(index, "grad"), t, &what);

                let mut trainer = Trainer::new(device.clone(), supernet.clone(), OPTIMISER).unwrap();
                trainer.step(&batch, &students, teacher.as_ref().into(), &settings).unwrap();
                let after = trainer.weights().unwrap();
                let after = after.layout.unpack(&after.packed);
                let stored = step.part(index, "after");
                assert!(stored.keys().any(|name| name.ends_with("running_var")));
                for (name, reference) in stored {
                    for (a, b) in after[name].data.iter().zip(&reference.data) {
                        assert!(close(*a, f64::from(*b), t.statistics), "{what}: {name} {a}, not {b}");
                    }
                }
                for (name, wanted) in case["sum_after_step"].as_object().unwrap() {
                    let wanted = wanted.as_f64().unwrap();
                    let sum: f64 = after[name].data.iter().map(|&v| f64::from(v)).sum();
                    let error = (sum - wanted).abs();
                    assert!(
                        error <= t.sums * wanted.abs().max(1.0),
                        "{what}: {name} sums to {sum}, not {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
pub(crate) fn golden_ofav2_step() {
    for stem in common::stems("ofav2_w", |stem| stem.ends_with("_step")) {
        let file = common::read(&format!("{stem}.json"));
        let step = StepFile::read(&format!("{stem}.safetensors"));
        let base = stem.trim_end_matches("_step");
        let checkpoint = load(&format!("{base}.safetensors"));
        let images = load(&format!("{base}_inputs.safetensors"));
        for (device, t) in devices() {
            for (index, case) in common::cases(&file).iter().enumerate() {
                let family: Family = case["family"].as_str().unwrap().parse().unwrap();
                let what = format!("{}, {stem} case {index} ({family})", device.describe());
                let supernet = Supernet::from_checkpoint(&checkpoint, Card::default(), Some(family)).unwrap();
                let arch = Arch::from_json(family, &common::arch_fields(case)).unwrap();
                let (pixels, labels) = inputs(&images, &step, arch.r as usize);
                let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: arch.r as usize };
                let joint = joint(&case["exit_weights"]);
                let (weighting, kd_ratio) = match case["loss_kind"].as_str().unwrap() {
                    "exits" => (joint, 0.0),
                    "ens_kd" => (Weighting::Own, 1.0),
                    "hard" => (Weighting::Own, 0.0),
                    other => panic!("{what}: unknown loss `{other}`"),
                };
                let students = [Student { arch, weighting }];
                let mut trainer = Trainer::new(device.clone(), supernet.clone(), OPTIMISER).unwrap();
                let teacher =
                    (kd_ratio > 0.0).then(|| trainer.teacher(Arc::new(supernet.clone()), joint).unwrap());
                let settings = settings(0.1, kd_ratio);
                let found = trainer.gradient(&batch, &students, teacher.as_ref().into(), &settings).unwrap();
                check_loss(found.report.losses[0], case, t, &what);
                check_gradients(&found, case, &step.part(index, "grad"), t, &what);
                let (means, variances) = (step.part(index, "batch_mean"), step.part(index, "batch_var"));
                assert_eq!(means.len(), found.statistics.len(), "{what}: batch norms");
                for (name, values) in &found.statistics {
                    let wanted =
                        [means[name.as_str()], variances[name.as_str()]].map(|t| t.data.clone()).concat();
                    assert_eq!(values.len(), wanted.len(), "{what}: {name}");
                    for (a, b) in values.iter().zip(&wanted) {
                        assert!(close(*a, f64::from(*b), t.statistics), "{what}: {name} {a}, not {b}");
                    }
                }
                for (exit, logits) in found.logits.iter().enumerate() {
                    if let Some(reference) = step.tensors.get(&format!("case{index}.logits.{exit}")) {
                        check_logits(logits, reference, t.statistics, &what);
                    }
                }
            }
        }
    }
}
