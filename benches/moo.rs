//! Multi-objective routines on their own. `benches/peers/pymoo_moo.py` measures the same in pymoo.

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

/// A search space like NAT's (22 genes: resolution, width, five stages of four layers of which the
/// last two may be skipped) with three cheap objectives of the kind of error, parameters and MACs.
struct Synthetic {
    lower: Vec<u8>,
    upper: Vec<u8>,
}

impl Synthetic {
    fn new() -> Self {
        let (mut lower, mut upper) = (vec![0, 0], vec![2, 1]);
        for _ in 0..5 {
            lower.extend([1, 1, 0, 0]);
            upper.extend([9; 4]);
        }
        Self { lower, upper }
    }
}

impl evolve::Problem for Synthetic {
    fn upper(&self) -> &[u8] {
        &self.upper
    }
    fn lower(&self) -> &[u8] {
        &self.lower
    }
    fn repair(&self, genome: &mut [u8]) {
        for stage in genome[2..].chunks_exact_mut(4) {
            if stage[2] == 0 {
                stage[3] = 0;
            }
        }
    }
    fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
        let mut points = Points::with_capacity(3, genomes.len());
        for genome in genomes {
            let (scale, width) = (1.0 + 0.25 * f64::from(genome[0]), 1.0 + 0.2 * f64::from(genome[1]));
            let (mut gain, mut parameters, mut macs) = (0.0, 0.0, 0.0);
            for (layer, &gene) in genome[2..].iter().enumerate() {
                if gene > 0 {
                    let (kernel, expansion) = (f64::from((gene - 1) % 3), f64::from((gene - 1) / 3));
                    let stage = (layer / 4) as f64;
                    gain += (1.0 + 0.3 * kernel + 0.4 * expansion) / (1.0 + 0.1 * (stage - 2.0).abs());
                    let size = (1.0 + 0.1 * kernel) * (3.0 + 1.5 * expansion) * (1.0 + stage) * (1.0 + stage);
                    parameters += size;
                    macs += size / (1.0 + stage);
                }
            }
            points.push(&[
                100.0 / (1.0 + 0.1 * gain * scale.sqrt() * width.sqrt()),
                parameters * width * width,
                macs * width * width * scale * scale,
            ]);
        }
        points
    }
}

fn sorting(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo/sorting");
    for m in [2, 3, 4] {
        let points = uniform(m, 10_000);
        group.throughput(Throughput::Elements(10_000));
        group.bench_function(format!("10000x{m}"), |b| b.iter(|| sorting::fronts(black_box(&points))));
    }
    let front = front(3, 10_000);
    group.bench_function("10000x3/one_front", |b| b.iter(|| sorting::fronts(black_box(&front))));
    group.finish();
}

fn search(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo/search");
    let problem = Synthetic::new();
    let settings = evolve::Settings::default();
    // The directions are made once in the life of a process.
    directions::riesz(3, settings.population, settings.direction_seed);
    for (name, algorithm) in [("nsga3", survival::Algorithm::Nsga3), ("nsga2", survival::Algorithm::Nsga2)] {
        let settings = evolve::Settings { algorithm, ..settings.clone() };
        group.bench_function(format!("{name}/100x20"), |b| {
            b.iter(|| evolve::run(black_box(&problem), &settings, &mut stream(1, "bench/moo", 0, 0)))
        });
    }
    group.finish();
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("moo");
    for (m, n) in [(3, 100), (3, 298), (4, 100)] {
        group.bench_function(format!("riesz/{n}x{m}"), |b| {
            b.iter(|| directions::riesz_uncached(m, n, black_box(42)))
        });
    }
    for m in [2, 3, 4] {
        let points = front(m, 300);
        let reference = vec![1.1; m];
        group.bench_function(format!("hypervolume/300x{m}"), |b| {
            b.iter(|| hypervolume(black_box(&points), &reference))
        });
    }
    let (members, candidates) = (front(2, 60), front(2, 100));
    group.bench_function("subset/25_of_100", |b| {
        b.iter(|| {
            let settings = subset::Settings::default();
            subset::select(&members, &candidates, 25, &settings, &mut stream(1, "bench/moo", 1, 0))
        })
    });
    let archive = uniform(3, 2998);
    let directions = directions::riesz(3, 298, 42);
    group.bench_function("nsga3_survival/298_of_2998", |b| {
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
