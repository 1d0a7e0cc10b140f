//! What `cargo bench --bench moo` measures, in the moors crate: non-dominated sorting, and NSGA-III
//! on the same problem of 22 genes, with the same operators.
//!
//! moors has neither polynomial mutation nor bounds for every gene; both are written down here.
//! Prints one line of JSON with the median and the least of the rounds, in milliseconds.

use moors::non_dominated_sorting::fast_non_dominated_sorting;
use moors::operators::RepairOperator;
use moors::survival::moo::{DanAndDenisReferencePoints, StructuredReferencePoints};
use moors::{
    ExactDuplicatesCleaner, MutationOperator, NoConstraints, Nsga3Builder, RandomGenerator, SamplingOperator,
    TwoPointBinaryCrossover,
};
use ndarray::{Array1, Array2, ArrayViewMut1};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::hint::black_box;
use std::time::Instant;

const GENES: usize = 22;

/// Bounds of a gene: resolution, width, five stages of four layers of which the last two may be
/// skipped.
fn bounds(gene: usize) -> (f64, f64) {
    match gene {
        0 => (0.0, 2.0),
        1 => (0.0, 1.0),
        _ => (if (gene - 2) % 4 < 2 { 1.0 } else { 0.0 }, 9.0),
    }
}

/// The objectives of benches/moo.rs.
fn objectives(genomes: &Array2<f64>) -> Array2<f64> {
    let mut out = Array2::zeros((genomes.nrows(), 3));
    for (genome, mut out) in genomes.outer_iter().zip(out.outer_iter_mut()) {
        let (scale, width) = (1.0 + 0.25 * genome[0], 1.0 + 0.2 * genome[1]);
        let (mut gain, mut parameters, mut macs) = (0.0, 0.0, 0.0);
        for (layer, &gene) in genome.iter().skip(2).enumerate() {
            if gene > 0.0 {
                let gene = gene as u32;
                let (kernel, expansion) = (f64::from((gene - 1) % 3), f64::from((gene - 1) / 3));
                let stage = (layer / 4) as f64;
                gain += (1.0 + 0.3 * kernel + 0.4 * expansion) / (1.0 + 0.1 * (stage - 2.0).abs());
                let size = (1.0 + 0.1 * kernel) * (3.0 + 1.5 * expansion) * (1.0 + stage) * (1.0 + stage);
                parameters += size;
                macs += size / (1.0 + stage);
            }
        }
        out[0] = 100.0 / (1.0 + 0.1 * gain * scale.sqrt() * width.sqrt());
        out[1] = parameters * width * width;
        out[2] = macs * width * width * scale * scale;
    }
    out
}

/// Uniform in the bounds.
struct Uniform;

impl SamplingOperator for Uniform {
    fn sample_individual(&self, genes: usize, random: &mut impl RandomGenerator) -> Array1<f64> {
        let mut gene = |gene| {
            let (low, high) = bounds(gene);
            random.gen_range_usize(low as usize, high as usize + 1) as f64
        };
        (0..genes).map(&mut gene).collect()
    }
}

/// Polynomial mutation with index 1, one gene in 22.
struct Polynomial;

impl MutationOperator for Polynomial {
    fn mutate<'a>(&self, mut genome: ArrayViewMut1<'a, f64>, random: &mut impl RandomGenerator) {
        const POWER: f64 = 0.5;
        for (gene, value) in genome.iter_mut().enumerate() {
            if !random.gen_bool(1.0 / GENES as f64) {
                continue;
            }
            let (low, high) = bounds(gene);
            let (below, above) = ((*value - low) / (high - low), (high - *value) / (high - low));
            let u = random.gen_proability();
            let shift = if u < 0.5 {
                (2.0 * u + (1.0 - 2.0 * u) * (1.0 - below).powi(2)).powf(POWER) - 1.0
            } else {
                1.0 - (2.0 * (1.0 - u) + 2.0 * (u - 0.5) * (1.0 - above).powi(2)).powf(POWER)
            };
            *value += shift * (high - low);
        }
    }
}

/// Whole numbers within the bounds, and no fourth layer without a third.
#[derive(Debug)]
struct RoundAndFill;

impl RepairOperator for RoundAndFill {
    fn repair(&self, mut genome: ArrayViewMut1<f64>) {
        for (gene, value) in genome.iter_mut().enumerate() {
            let (low, high) = bounds(gene);
            *value = value.round().clamp(low, high);
        }
        for last in (5..GENES).step_by(4) {
            if genome[last - 1] == 0.0 {
                genome[last] = 0.0;
            }
        }
    }
}

/// Seconds of some rounds behind one that does not count: the median and the least, in milliseconds.
fn time(rounds: usize, mut work: impl FnMut()) -> serde_json::Value {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let start = Instant::now();
        work();
        if round > 0 {
            times.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    serde_json::json!({"median_ms": times[rounds / 2], "least_ms": times[0], "repeats": rounds})
}

fn main() {
    let mut cases = serde_json::Map::new();
    for objectives in [2, 3, 4] {
        let mut random = StdRng::seed_from_u64(objectives as u64);
        let points = Array2::from_shape_simple_fn((10_000, objectives), || random.random::<f64>());
        let rounds = time(3, || {
            black_box(fast_non_dominated_sorting(black_box(&points), 10_000));
        });
        cases.insert(format!("moo/sorting/10000x{objectives}"), rounds);
    }
    let directions = DanAndDenisReferencePoints::new(91, 3).generate();
    let rounds = time(20, || {
        let search = Nsga3Builder::default()
            .sampler(Uniform)
            .crossover(TwoPointBinaryCrossover)
            .mutation(Polynomial)
            .repair(RoundAndFill)
            .reference_points(directions.clone())
            .are_aspirational(false)
            .duplicates_cleaner(ExactDuplicatesCleaner::new())
            .fitness_fn(objectives)
            .constraints_fn(NoConstraints)
            .num_vars(GENES)
            .population_size(100)
            .num_offsprings(100)
            .num_iterations(20)
            .mutation_rate(1.0)
            .crossover_rate(0.9)
            .keep_infeasible(false)
            .verbose(false)
            .seed(1)
            .build();
        let mut search = search.unwrap_or_else(|error| panic!("the settings do not fit: {error}"));
        if let Err(error) = search.run() {
            panic!("the search failed: {error}");
        }
        let found = search.population.map_or(0, |population| population.len());
        assert!(found > 0);
    });
    cases.insert("moo/search/nsga3/100x20".into(), rounds);
    println!("{}", serde_json::json!({"version": 1, "moors": "0.2.11", "cases": cases}));
}
