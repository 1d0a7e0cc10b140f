//! Group `host`: what the host does before a card can begin, for networks in bf16 on a card of paper, which has an
//! H100's blocks and runs nothing. Times are those of one network of a case.
//!
//! - `lowering`: to calls, for a target with blocks;
//! - `geometry`: launch code, from calls to the grid and the arguments of every kernel;
//! - `recording`: the same, with every launch kept;
//! - `evaluation`: all of an evaluation, recalibration included, of populations in groups on two streams. The time of
//!   a network is to be the same however many there are.

mod common;

use common::lowered::{CASES, Lowered, OnPaper, population};
use common::{host, id, paper};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement};
use natv2::data::Selection;
use natv2::engine::{Calibration, Engine, Images, Precision};
use natv2::ops::Threads;
use natv2::space::Family;
use natv2::supernet::{Blank, Supernet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Images that are there without a word.
struct Silent(usize);

impl Images for Silent {
    fn len(&self) -> usize {
        self.0
    }
    fn load(&self, _: usize, _: usize, _: &mut [f32], _: Threads) {}
    fn stored(&self, _: usize, _: usize) -> Option<Selection<'_>> {
        None
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
}

/// Measures work, and takes its time for that of each of `networks`.
fn each(
    group: &mut BenchmarkGroup<'_, measurement::WallTime>,
    (part, case): (&str, &str),
    networks: usize,
    mut work: impl FnMut(),
) {
    group.bench_function(id(&host(1), part, case), |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            start.elapsed() / networks as u32
        });
    });
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("host");
    for (name, count, recalibrated) in CASES {
        let lowered = Lowered::new(count, recalibrated);
        let mut paper = OnPaper::new(lowered.lower());
        each(&mut group, ("lowering", name), lowered.count(), || drop(black_box(lowered.lower())));
        each(&mut group, ("geometry", name), lowered.count(), || paper.launch());
        each(&mut group, ("recording", name), lowered.count(), || paper.record());
    }
    group.finish();
}

fn populations(c: &mut Criterion) {
    let blank = Blank::new(Family::SE_B, 1.0, 200);
    let supernet = Arc::new(Supernet::random(&blank, 1).expect("a super-network"));
    let engine = Engine::in_precision(Arc::new(paper::card()), supernet, Precision::Bf16).expect("an engine");
    let (test, train) = (Silent(2000), Silent(500));
    let calibration = Calibration::Batches { images: &train, count: 500, batch: 100 };
    let mut group = c.benchmark_group("host");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(1));
    for count in [32, 320, 1000] {
        let networks = population(count);
        each(&mut group, ("evaluation", &format!("{count} networks")), count, || {
            let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ());
            black_box(found.expect("runs"));
        });
    }
    group.finish();
}

criterion_group! {
    name = hosts;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = parts, populations
}
criterion_main!(hosts);
