//! Group `moo`: multi-objective routines on their own, on one thread. `benches/peers/pymoo_moo.py` measures the same in pymoo.

mod common;

use common::{host, id};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use natv2::moo::{Points, directions, evolve, hypervolume::hypervolume, nsga3, sorting, subset, survival};
use natv2::random::stream;
use rand::RngExt;
use std::hint::black_box;
use std::time::Duration;

/// Uniform in the unit cube.
fn uniform(m: usize, n: usize) -> Points {
    let mut rng = stream(1, "bench/moo", m as u64, n as u64);
    Points::from_rows(m, (0..n).map(|_| (0..m).map(|_| rng.random::<f64>()).collect::<Vec<_>>()))
}

/// On the unit sphere's positive part, where nothing dominates anything.
fn front(m: usize, n: usize) -> Points {
    Points::from_rows(
        m,
        uniform(m, n).rows().map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| x / norm).collect::<Vec<_>>()
        }),
    )
}

fn sorting(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo");
    for m in [2, 3, 4] {
        let points = uniform(m, 10_000);
        group.throughput(Throughput::Elements(10_000));
        group.bench_function(id(&host(1), "sorting", format!("10000x{m}")), |b| {
            b.iter(|| sorting::fronts(black_box(&points)))
        });
    }
    let front = front(3, 10_000);
    group.bench_function(id(&host(1), "sorting", "10000x3, one front"), |b| {
        b.iter(|| sorting::fronts(black_box(&front)))
    });
    group.finish();
}

fn search(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo");
    let problem = common::synthetic::Synthetic::new();
    let settings = evolve::Settings::default();
    // The directions are made once in the life of a process.
    directions::riesz(3, settings.population, settings.direction_seed);
    for (name, algorithm) in [("nsga3", survival::Algorithm::Nsga3), ("nsga2", survival::Algorithm::Nsga2)] {
        let settings = evolve::Settings { algorithm, ..settings.clone() };
        group.bench_function(id(&host(1), name, "100x20"), |b| {
            b.iter(|| evolve::run(black_box(&problem), &settings, &mut stream(1, "bench/moo", 0, 0)))
        });
    }
    group.finish();
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo");
    for (m, n) in [(3, 100), (3, 298), (4, 100)] {
        group.bench_function(id(&host(1), "riesz", format!("{n}x{m}")), |b| {
            b.iter(|| directions::riesz_uncached(m, n, black_box(42)))
        });
    }
    for m in [2, 3, 4] {
        let points = front(m, 300);
        let reference = vec![1.1; m];
        group.bench_function(id(&host(1), "hypervolume", format!("300x{m}")), |b| {
            b.iter(|| hypervolume(black_box(&points), &reference))
        });
    }
    let (members, candidates) = (front(2, 60), front(2, 100));
    group.bench_function(id(&host(1), "subset", "25 of 100"), |b| {
        b.iter(|| {
            let settings = subset::Settings::default();
            subset::select(&members, &candidates, 25, &settings, &mut stream(1, "bench/moo", 1, 0))
        })
    });
    let archive = uniform(3, 2998);
    let directions = directions::riesz(3, 298, 42);
    group.bench_function(id(&host(1), "nsga3 survival", "298 of 2998"), |b| {
        b.iter_batched(
            || (nsga3::Survival::new(directions.clone()), stream(1, "bench/moo", 2, 0)),
            |(mut survival, mut rng)| survival.survive(&archive, 298, &mut rng),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group! {
    name = moo;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = sorting, search, parts
}
criterion_main!(moo);
