//! Group `training`: optimiser steps, and what training images cost before the network sees them.
//!
//! `step`: forward, backward and an optimiser's step, batch 64 at 48 px, width 0.25. The peer is
//! `benches/peers/ofa_training.py`, with the same sub-networks.
//!
//! - `largest`: the largest sub-network alone, as in the first phase of progressive shrinking;
//! - `smallest`: the smallest;
//! - `distilled`: a teacher and two sub-networks that mix kernels, depths and expansions, as in a
//!   width phase.
//!
//! `augment`: drawing, operations, crop, flip, resize and normalisation of 256 images on one thread
//! of the CPU, by preset, image size and resolution.

mod common;

use common::{DeviceTime, host, id};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natv2::data::augment::{Preset, Renderer};
use natv2::data::{Dataset, Source, Spec, Split, open};
use natv2::random::stream;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet};
use natv2::train::{Batch, Decays, Optimiser, Rule, Settings, Student, Teaching, Trainer, Weighting};
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

fn training(c: &mut Criterion<DeviceTime>) {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Supernet::random(&blank, 1).expect("a super-network");
    let device = common::device();
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
    let named = device.describe();
    let mut group = c.benchmark_group("training");
    group.sample_size(10);
    let (ends, mixed) = ([own(largest), own(smallest)], [own(mixed(0)), own(mixed(1))]);
    for (name, students, teaching) in [
        ("largest", ends[..1].to_vec(), Teaching::Labels),
        ("smallest", ends[1..].to_vec(), Teaching::Labels),
        ("distilled", mixed.to_vec(), Teaching::Network(&teacher)),
        ("sandwich", [ends, mixed].concat(), Teaching::First(Weighting::Own)),
    ] {
        group.bench_function(id(&named, "step", name), |b| {
            b.iter(|| black_box(trainer.step(&batch, &students, teaching, &settings).expect("a step")));
        });
    }
    group.finish();
}

/// Images of an iteration of `augment`.
const AUGMENTED: u64 = 256;

/// Random images of 32 x 32 in CIFAR's format.
fn cifar() -> Dataset {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = natv2::random::stream(0, "bench/images", 0, 0);
    let mut bytes: Vec<u8> = (0..3073 * 300).map(|_| random.random()).collect();
    bytes.chunks_exact_mut(3073).for_each(|record| record[0] %= 10);
    std::fs::write(folder.path().join("data_batch_1.bin"), bytes).expect("written");
    open(&Spec::new("cifar10", Some(folder.path()))).expect("a data set")
}

/// Random images of 64 x 64.
fn photos() -> Dataset {
    let folder = tempfile::tempdir().expect("a folder");
    let class = folder.path().join("class");
    std::fs::create_dir(&class).expect("made");
    let mut random = natv2::random::stream(0, "bench/images", 1, 0);
    for number in 0..300 {
        let file = std::fs::File::create(class.join(format!("{number}.png"))).expect("made");
        let mut encoder = png::Encoder::new(file, 64, 64);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..64 * 64 * 3).map(|_| random.random()).collect();
        encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).expect("written");
    }
    open(&Spec::new("image-folder", Some(folder.path()))).expect("a data set")
}

fn augment(c: &mut Criterion<DeviceTime>) {
    let digits = open(&Spec::new("digits", None)).expect("embedded");
    let (cifar, photos) = (cifar(), photos());
    let cases = [
        (&digits, Preset::None, 32),
        (&digits, Preset::Digits, 32),
        (&cifar, Preset::None, 48),
        (&cifar, Preset::CifarClassic, 48),
        (&cifar, Preset::Cifar, 48),
        (&cifar, Preset::Cifar, 64),
        (&photos, Preset::None, 64),
        (&photos, Preset::TinyImagenet, 64),
        (&photos, Preset::Photos, 224),
    ];
    let mut group = c.benchmark_group("training");
    group.throughput(Throughput::Elements(AUGMENTED)).sample_size(20);
    for (data, preset, r) in cases {
        let pixels = data.facts().pixels;
        let augmentation = preset.augmentation();
        let mut renderer =
            Renderer::new(data, r, pixels.mean, pixels.std, augmentation.pad).expect("settings");
        let mut out = vec![0.0; r * r * 3];
        let name = format!("{}, {} to {r} px", preset.as_str(), data.side());
        group.bench_function(id(&host(1), "augment", name), |b| {
            b.iter(|| {
                for (position, &index) in (0..AUGMENTED).zip(data.split(Split::Train)) {
                    let drawn = augmentation.draw(data.side(), 0, 0, position);
                    renderer.render(data.image(index), &drawn, r, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(DeviceTime::new(common::device()));
    targets = training, augment
}
criterion_main!(benches);
