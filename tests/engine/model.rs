//! The performance model against what really runs.

use crate::common::devices::memory_of;
use natv2::data::Source;
use natv2::device::{self, Cpu, Device, Error, Memory};
use natv2::engine::Precision;
use natv2::engine::model::floor::prefixes;
use natv2::engine::model::{Floor, OperatorTally, Pass, ReadTo, Scheduling, Workload, evaluation, tally};
use natv2::engine::{Calibration, Cropped, Engine};
use natv2::ops::{Call, Threads};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Channels, ExitScaling, Family, cost};
use natv2::supernet::{Blank, Layout, Supernet, Tensor, init::parts_of};
use natv2::train::{
    Batch, Decays, Optimiser, Rule, Settings, StepShape, StepTeacher, Student, Teaching, Trainer, Weighting,
    step_calls,
};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A CPU of one lane that remembers what it ran.
#[derive(Default)]
struct Recorder(Mutex<BTreeMap<&'static str, OperatorTally>>);

impl Recorder {
    /// What ran since the last time.
    fn take(&self) -> BTreeMap<&'static str, OperatorTally> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Images that the recorder takes at a time.
const CHUNK: usize = 4;
/// Recalibration's batches that it takes at a time.
const BATCHES: usize = 2;

impl Device for Recorder {
    fn describe(&self) -> String {
        "recorder".into()
    }
    memory_of!(self, Cpu);
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        let mut tallies = self.0.lock().unwrap();
        for call in calls {
            let (work, launches) = (call.work(), u64::from(device::launches(call)));
            assert!(launches > 0, "{}", call.name());
            *tallies.entry(call.name()).or_default() +=
                OperatorTally { calls: 1, launches, bytes: work.bytes, flops: work.flops };
        }
        Cpu.run(calls, memory, threads)
    }
    fn lanes(&self) -> usize {
        1
    }
    fn batches(&self, _: usize) -> usize {
        BATCHES
    }
    fn chunk(&self, _: usize) -> usize {
        CHUNK
    }
}

fn noise(purpose: &str, len: usize) -> Vec<f32> {
    let mut rng = stream(1, purpose, 0, 0);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn images(purpose: &str, count: usize, side: usize) -> Tensor {
    Tensor { shape: vec![count, 3, side, side], data: noise(purpose, count * 3 * side * side) }
}

/// Networks with prefixes in common, of two resolutions.
fn population(family: Family) -> Vec<(Arch, Exits)> {
    let largest = Arch::largest(family, 40, None);
    let variants = [
        Arch { ks: [3; 20], d: [2; 5], ..largest.clone() },
        Arch { ks: [3; 20], d: [2, 2, 2, 3, 4], ..largest.clone() },
        Arch { ks: [3; 20], d: [2, 2, 3, 2, 2], nw: [3; 20], ..largest.clone() },
        Arch { r: 32, e: [3; 20], nd: 3, ..largest },
    ];
    let canonical = |arch: &Arch| {
        let nw = if family.parallel { arch.nw } else { [4; 20] };
        Arch { nd: if family.early_exits { arch.nd } else { 5 }, nw, ..arch.clone() }
    };
    variants.iter().map(canonical).map(|arch| (arch.clone(), Exits::up_to(&arch))).collect()
}

#[test]
fn the_model_counts_what_an_evaluation_runs() {
    for family in ["SE_B", "EE_DP"] {
        let family: Family = family.parse().unwrap();
        let blank = Blank::new(family, 0.25, 10);
        let supernet = Arc::new(Supernet::random(&blank, 1).unwrap());
        let recorder = Arc::new(Recorder::default());
        let engine = Engine::new(recorder.clone(), supernet.clone()).unwrap();
        let networks = population(family);
        let (test, train) = (images("test", 10, 40), images("train", 12, 40));
        let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
        let batches = Calibration::Batches { images: &train, count: 12, batch: 4 };
        for (calibration, planned) in [(batches, Some((3, 4))), (Calibration::Stored, None)] {
            recorder.take();
            let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ());
            let ran = recorder.take();
            let taking = Scheduling { lanes: 1, streams: 1, chunk: &|_| CHUNK, batches: &|_| BATCHES };
            let workload = Workload { images: 10, calibration: planned };
            let plan = evaluation(&supernet.layout, &networks, workload, taking, Precision::F32);
            assert_eq!(tally(&plan.passes), ran, "{family}");
            assert_eq!(plan.chunk, CHUNK);
            // Random weights with stored statistics may give a loss that is no number.
            if let Ok(Some(found)) = found {
                assert_eq!(plan.saving, found.saving);
                assert!(plan.saving.distinct < plan.saving.executions);
            }
        }
    }
}

#[test]
fn the_model_counts_what_a_step_runs() {
    let sgd = Rule::Sgd { momentum: 0.9, nesterov: true };
    for (family, clip, rule, precision) in [
        ("SE_B", None, sgd, Precision::F32),
        ("EE_DP", Some(1.0), Rule::AdamW, Precision::F32),
        ("SE_B", None, sgd, Precision::F16),
        ("EE_DP", Some(1.0), Rule::AdamW, Precision::Bf16),
    ] {
        let family: Family = family.parse().unwrap();
        let blank = Blank::new(family, 0.25, 10);
        let supernet = Supernet::random(&blank, 1).unwrap();
        let optimiser = Optimiser { rule, decay: 1e-4, decays: Decays::Weights, clip };
        let recorder = Arc::new(Recorder::default());
        let mut trainer =
            Trainer::in_precision(recorder.clone(), supernet.clone(), optimiser, precision).unwrap();
        let teacher = trainer.teacher(Arc::new(supernet.clone()), Weighting::Own).unwrap();
        let students: Vec<Student> = population(family)
            .into_iter()
            .take(2)
            .map(|(arch, _)| Student { arch, weighting: Weighting::Own })
            .collect();
        let (pixels, labels) = (noise("pixels", 4 * 32 * 32 * 3), [0, 1, 2, 3]);
        let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: 32 };
        let settings =
            Settings { rate: 1e-3, smoothing: 0.1, kd_ratio: 1.0, dropout: 0.1, seed: 0, epoch: 0, step: 0 };
        for (teaching, teacher) in [
            (Teaching::Labels, StepTeacher::None),
            (Teaching::Network(&teacher), StepTeacher::Network(family)),
            (Teaching::First(Weighting::Own), StepTeacher::First),
        ] {
            recorder.take();
            trainer.step(&batch, &students, teaching, &settings).unwrap();
            let ran = recorder.take();
            let shape =
                StepShape { students: &students, teacher, images: 4, side: 32, dropout: true, precision };
            let lists = step_calls(&supernet.layout, &optimiser, &shape);
            let passes: Vec<Pass> =
                lists.iter().map(|list| Pass::new(&list.calls, list.arena_len, None, 1)).collect();
            assert_eq!(tally(&passes), ran, "{family}, {precision}, {teacher:?}");
        }
    }
}

#[test]
fn floors_are_those_of_the_design() {
    // A middle network of 22.5 million multiply-accumulates at 64 px, in bf16: some 2.1 MB an image one
    // operator after the other, 0.31 MB with every layer in one piece, here in passes of 100 images
    // that read the weights once.
    let layout = Layout::new(Channels::new(1.0, ExitScaling::Once), 200, parts_of(Family::SE_B));
    let arch = Arch::middle(Family::SE_B, 64, None);
    let networks = [(arch.clone(), Exits::single(&arch))];
    let floor = Floor::of(&layout, &prefixes(layout.channels(), &networks), ReadTo::Logits);
    let macs = cost(layout.channels(), &arch, networks[0].1, 200).macs;
    assert_eq!((floor.macs, macs), (macs, 22_476_544));
    let bytes = |maps: u64| (2.0 * (maps as f64 + floor.weights as f64 / 100.0)) / 1e6;
    let (unfused, fused) = (bytes(floor.unfused), bytes(floor.fused));
    assert!((2.0..2.1).contains(&unfused), "{unfused}");
    assert!((0.30..0.32).contains(&fused), "{fused}");
}
