//! Group `evaluate`: networks one at a time, with all lanes of the device.
//!
//! - `forward`: 64 images through one sub-network with stored statistics, per image;
//! - `whole`: one sub-network as a search measures it, recalibrated on 500 images and run over 2,000,
//!   at width 0.25 and 48 px (`benches/peers/ofa_pytorch.py` does the same on PyTorch);
//! - `exits`: an early-exit network of the widest and deepest kind, all five exits in one pass,
//!   recalibration included, against five passes, one an exit.
//!
//! Weights and images are random: the time does not depend on their values.

mod common;

use common::{DeviceTime, id};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use natv2::engine::{Calibration, Engine, Images};
use natv2::ops::Threads;
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet};
use rand::RngExt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// The width multipliers, each with the resolution that it is measured at.
const NETWORKS: [(f64, u32); 2] = [(0.25, 48), (1.0, 64)];

/// Images as a data set holds them: u8, of the size that the network takes.
struct Pixels {
    side: usize,
    pixels: Vec<u8>,
}

impl Pixels {
    fn new(count: usize, side: usize) -> Pixels {
        let mut rng = stream(0, "bench/images", count as u64, side as u64);
        Pixels { side, pixels: (0..count * side * side * 3).map(|_| rng.random()).collect() }
    }
}

impl Images for Pixels {
    fn len(&self) -> usize {
        self.pixels.len() / (self.side * self.side * 3)
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], _: Threads) {
        assert_eq!(side, self.side, "the networks here take the images as they are");
        let pixels = &self.pixels[first * side * side * 3..];
        out.iter_mut().zip(pixels).for_each(|(out, &pixel)| *out = (f32::from(pixel) / 255.0 - 0.5) * 4.0);
    }

    fn label(&self, index: usize) -> u32 {
        index as u32 % 10
    }
}

/// A super-network of random weights.
fn supernet(family: Family, width: f64, classes: usize) -> Arc<Supernet> {
    let blank = Blank::new(family, width, classes);
    Arc::new(Supernet::random(&blank, 1).expect("a super-network"))
}

fn smallest(r: u32) -> Arch {
    Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, r, None) }
}

fn forward(c: &mut Criterion<DeviceTime>) {
    let device = common::device();
    let named = device.describe();
    let mut group = c.benchmark_group("evaluate");
    group.measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    for (width, r) in NETWORKS {
        let engine = Engine::new(device.clone(), supernet(Family::SE_B, width, 10)).expect("a device");
        let images = Pixels::new(64, r as usize);
        group.throughput(Throughput::Elements(images.len() as u64));
        let largest = Arch::largest(Family::SE_B, r, None);
        for (name, arch) in
            [("smallest", smallest(r)), ("middle", Arch::middle(Family::SE_B, r, None)), ("largest", largest)]
        {
            let id = id(&named, "forward", format!("width {width}, {r} px, {name}"));
            let exits = Exits::single(&arch);
            group.bench_function(id, |b| {
                b.iter(|| engine.logits(&arch, exits, &images, Calibration::Stored).expect("logits"));
            });
        }
    }
    group.finish();
}

fn evaluate(c: &mut Criterion<DeviceTime>) {
    let device = common::device();
    let named = device.describe();
    let engine = Engine::new(device.clone(), supernet(Family::SE_B, 0.25, 10)).expect("a device");
    let (train, test) = (Pixels::new(500, 48), Pixels::new(2000, 48));
    let calibration = Calibration::Batches { images: &train, count: 500, batch: 100 };
    let mut group = c.benchmark_group("evaluate");
    group.measurement_time(Duration::from_secs(6)).warm_up_time(Duration::from_secs(1)).sample_size(10);
    group.sampling_mode(SamplingMode::Flat);
    for (name, arch) in [("smallest", smallest(48)), ("middle", Arch::middle(Family::SE_B, 48, None))] {
        let id = id(&named, "whole", format!("width 0.25, 48 px, {name}"));
        let exits = Exits::single(&arch);
        group.bench_function(id, |b| {
            b.iter(|| engine.evaluate(&arch, exits, &test, calibration, Threads::All).expect("a result"));
        });
    }
    group.finish();
}

fn exits(c: &mut Criterion<DeviceTime>) {
    let device = common::device();
    let named = device.describe();
    let mut group = c.benchmark_group("evaluate");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (family, width) in [("EE_B", 1.0), ("EE_DP", 0.25)] {
        let family: Family = family.parse().expect("a family");
        let engine = Engine::new(device.clone(), supernet(family, width, 200)).expect("an engine");
        let (test, train) = (Pixels::new(64, 64), Pixels::new(64, 64));
        let calibration = Calibration::Batches { images: &train, count: 64, batch: 64 };
        let largest = Arch::largest(family, 64, Some(width));
        group.throughput(Throughput::Elements(5));
        group.bench_function(id(&named, "exits", format!("{family} {width}, five in one pass")), |b| {
            let all = Exits::up_to(&largest);
            b.iter(|| {
                black_box(engine.evaluate(&largest, all, &test, calibration, Threads::All).expect("runs"))
            });
        });
        group.bench_function(id(&named, "exits", format!("{family} {width}, five passes")), |b| {
            b.iter(|| {
                for nd in 1..=5 {
                    let arch = Arch { nd, ..largest.clone() };
                    let exit = Exits::single(&arch);
                    let result = engine.evaluate(&arch, exit, &test, calibration, Threads::All);
                    black_box(result.expect("runs"));
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = networks;
    config = Criterion::default().with_measurement(DeviceTime::new(common::device()));
    targets = forward, evaluate, exits
}
criterion_main!(networks);
