//! A training step: forward, backward and an optimiser's step, batch 64 at 48 px, width 0.25.
//!
//! - `largest`: the largest sub-network alone, as in the first phase of progressive shrinking;
//! - `smallest`: the smallest;
//! - `distilled`: a teacher and two sub-networks that mix kernels, depths and expansions, as in a
//!   width phase.
//!
//! `cargo bench --bench training`; the peer is `benches/peers/ofa_training.py`, with the same
//! sub-networks.

use criterion::{Criterion, criterion_group, criterion_main};
use natv2::data::Source;
use natv2::random::stream;
use natv2::space::{Arch, ExitScaling, Family};
use natv2::supernet::{Blank, Supernet};
use natv2::train::{Batch, Decays, Optimiser, Rule, Settings, Student, Trainer, Weighting};
use rand::RngExt;
use std::hint::black_box;
use std::sync::Arc;

const SIDE: usize = 48;
const IMAGES: usize = 64;

/// Kernels, expansions and depths that the peer uses too.
fn mixed(offset: usize) -> Arch {
    let pick = |from: [u8; 3], i: usize| from[(i + offset) % 3];
    Arch {
        ks: std::array::from_fn(|i| pick([3, 5, 7], i)),
        e: std::array::from_fn(|i| pick([3, 4, 6], i / 2)),
        d: std::array::from_fn(|i| pick([2, 3, 4], i)),
        ..Arch::largest(Family::SE_B, SIDE as u32, None)
    }
}

fn training(c: &mut Criterion) {
    let blank = Blank { family: Family::SE_B, width: 0.25, classes: 10, scaling: ExitScaling::Once };
    let supernet = Supernet::random(&blank, 1).expect("a super-network");
    let device = natv2::device::open("cpu").expect("a CPU");
    let optimiser = Optimiser {
        rule: Rule::Sgd { momentum: 0.9, nesterov: true },
        decay: 3e-5,
        decays: Decays::Weights,
        clip: None,
    };
    let mut trainer = Trainer::new(device.clone(), supernet.clone(), optimiser).expect("a trainer");
    let teacher = trainer.teacher(Arc::new(supernet), Weighting::Own).expect("a teacher");
    let mut random = stream(1, "bench/training", 0, 0);
    let pixels: Vec<f32> = (0..IMAGES * SIDE * SIDE * 3).map(|_| random.random_range(-1.7..1.7)).collect();
    let labels: Vec<u32> = (0..IMAGES as u32).map(|i| i % 10).collect();
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    let settings =
        Settings { rate: 1e-3, smoothing: 0.1, kd_ratio: 1.0, dropout: 0.1, seed: 0, epoch: 0, step: 0 };
    let own = |arch| Student { arch, weighting: Weighting::Own };
    let largest = Arch::largest(Family::SE_B, SIDE as u32, None);
    let smallest = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..largest.clone() };
    let mut group = c.benchmark_group(format!("training/{}", device.describe()));
    group.sample_size(10);
    for (name, students, teacher) in [
        ("largest", vec![own(largest)], None),
        ("smallest", vec![own(smallest)], None),
        ("distilled", vec![own(mixed(0)), own(mixed(1))], Some(&teacher)),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(trainer.step(&batch, &students, teacher, &settings).expect("a step")));
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);
