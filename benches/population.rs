//! Populations as trees of shared prefixes, against their networks one by one.
//!
//! Group `population`. `random N`: networks that a search draws at first; `late N`: descendants of six
//! networks, each changed in a gene or two, as an archive late in a search holds them. Width 0.25,
//! 32 to 48 px, recalibration on 200 random images, 200 to measure on. One by one means as many
//! networks at a time as there are threads.
//!
//! With `NATV2_ARCHS=FILE` (one architecture a line) it measures that population instead, on
//! the weights of `NATV2_WEIGHTS` and the data set of `NATV2_DATA` in `NATV2_DATA_DIR`, with
//! `NATV2_CALIBRATION` and `NATV2_IMAGES` images (500 and 2000), and checks that the results are equal;
//! `NATV2_ROUNDS` takes the best of several:
//!
//! `NATV2_ARCHS=archs.jsonl NATV2_WEIGHTS=net.safetensors ... cargo bench --bench population`

mod common;

use common::{DeviceTime, id};
use criterion::{Criterion, SamplingMode, Throughput};
use natv2::data::Split;
use natv2::engine::tree::Saving;
use natv2::engine::{CALIBRATION_BATCH, Calibration, Cropped, Engine, Evaluation, Images};
use natv2::evaluator::{Evaluator, Options};
use natv2::ops::Threads;
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family, Repair, Space};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use rayon::prelude::*;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const SIDE: usize = 48;
const IMAGES: usize = 200;

fn images(purpose: &str) -> Tensor {
    let mut rng = stream(1, purpose, 0, 0);
    let data = (0..IMAGES * 3 * SIDE * SIDE).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
    Tensor { shape: vec![IMAGES, 3, SIDE, SIDE], data }
}

fn random(space: &Space, count: usize) -> Vec<(Arch, Exits)> {
    let mut rng = stream(1, "bench/population", 0, 0);
    let archs = (0..count).map(|_| space.decode(&sample(space, Policy::NatV2, &mut rng)).expect("decodes"));
    archs.map(|arch| (arch.clone(), Exits::single(&arch))).collect()
}

fn late(space: &Space, count: usize) -> Vec<(Arch, Exits)> {
    let mut rng = stream(1, "bench/late", 0, 0);
    let mut genotypes: Vec<_> = (0..6).map(|_| sample(space, Policy::NatV2, &mut rng)).collect();
    while genotypes.len() < count {
        let mut child = genotypes[rng.random_range(0..genotypes.len())].clone();
        for _ in 0..2 {
            let gene = rng.random_range(0..child.len());
            child[gene] = rng.random_range(space.lower()[gene]..=space.upper()[gene]);
        }
        space.repair(&mut child, Repair::Fill);
        genotypes.push(child);
    }
    let archs = genotypes.iter().map(|genotype| space.decode(genotype).expect("decodes"));
    archs.map(|arch| (arch.clone(), Exits::single(&arch))).collect()
}

type Results = Vec<Vec<Evaluation>>;

fn one_by_one(
    engine: &Engine,
    networks: &[(Arch, Exits)],
    test: &dyn Images,
    calibration: Calibration<'_>,
) -> Results {
    let one = |(arch, exits): &(Arch, Exits)| engine.evaluate(arch, *exits, test, calibration, Threads::One);
    networks.par_iter().with_max_len(1).map(|network| one(network).expect("runs")).collect()
}

fn as_a_tree(
    engine: &Engine,
    networks: &[(Arch, Exits)],
    test: &dyn Images,
    calibration: Calibration<'_>,
) -> (Results, Saving) {
    let found = engine.evaluate_population(networks, test, calibration, &|| false, &|_, _| ());
    let found = found.expect("runs").expect("nobody asks for a stop");
    (found.results, found.saving)
}

fn populations(c: &mut Criterion<DeviceTime>) {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 1).expect("a super-network"));
    let engine = Engine::new(common::device(), supernet).expect("an engine");
    let space = Space::new(Family::SE_B, &[32, 40, 48], &[0.25], ExitScaling::Once).expect("a space");
    let (test, train) = (images("bench/test"), images("bench/train"));
    let (test, train) =
        (Cropped::new(&test, &[]).expect("images"), Cropped::new(&train, &[]).expect("images"));
    let calibration = Calibration::Batches { images: &train, count: IMAGES, batch: CALIBRATION_BATCH };
    let named = engine.device().describe();
    let mut group = c.benchmark_group("population");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for count in [10, 100] {
        for (kind, networks) in [("random", random(&space, count)), ("late", late(&space, count))] {
            eprintln!("{kind} {count}: {}", as_a_tree(&engine, &networks, &test, calibration).1);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(id(&named, "tree", format!("{kind} {count}")), |b| {
                b.iter(|| black_box(as_a_tree(&engine, &networks, &test, calibration)));
            });
            group.bench_function(id(&named, "one by one", format!("{kind} {count}")), |b| {
                b.iter(|| black_box(one_by_one(&engine, &networks, &test, calibration)));
            });
        }
    }
    group.finish();
}

/// Measures the population of a file.
fn measured(file: &str) {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |name: &str, other| variable(name).map_or(other, |text| text.parse().expect("a number"));
    let (count, shown) = (number("NATV2_CALIBRATION", 500), number("NATV2_IMAGES", 2000));
    let options = Options {
        weights: variable("NATV2_WEIGHTS").map(Into::into),
        data: variable("NATV2_DATA"),
        data_dir: variable("NATV2_DATA_DIR").map(Into::into),
        ..Options::default()
    };
    let device = common::device();
    let evaluator = Evaluator::open(&options, device).expect("weights and data");
    let engine = evaluator.engine();
    let text = std::fs::read_to_string(file).expect("a file of architectures");
    let family = engine.supernet().family;
    let archs = text.lines().map(|line| Arch::parse(family, line).expect("an architecture"));
    let networks: Vec<(Arch, Exits)> = archs.map(|arch| (arch.clone(), Exits::single(&arch))).collect();
    let test = evaluator.images(Split::Test, Some(shown)).expect("test images");
    let train = evaluator.images(Split::Train, None).expect("training images");
    let calibration = Calibration::Batches { images: &train, count, batch: CALIBRATION_BATCH };
    // Allocates what both use, and sees that the processor is awake.
    as_a_tree(engine, &networks[..1], &test, calibration);
    // In turn, and the best of each, for a machine that others use too.
    let (mut together, mut apart) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
    let mut saved = Saving::default();
    for _ in 0..number("NATV2_ROUNDS", 1) {
        let started = (Instant::now(), processor_seconds());
        let (tree, saving) = as_a_tree(engine, &networks, &test, calibration);
        note(&mut together, started);
        let started = (Instant::now(), processor_seconds());
        let alone = one_by_one(engine, &networks, &test, calibration);
        note(&mut apart, started);
        assert!(tree == alone, "a tree's results are those of its networks");
        saved = saving;
    }
    println!(
        "{}: {} networks, {count} + {} images\n\
         tree {:.2} s ({:.2} s of processor time), one by one {:.2} s ({:.2} s): {:.2} times ({:.2})\n{saved}",
        engine.device().describe(),
        networks.len(),
        test.len(),
        together[0],
        together[1],
        apart[0],
        apart[1],
        apart[0] / together[0],
        apart[1] / together[1],
    );
}

fn note(best: &mut [f64; 2], (wall, processor): (Instant, f64)) {
    *best = [best[0].min(wall.elapsed().as_secs_f64()), best[1].min(processor_seconds() - processor)];
}

/// What this process has had of the processor, where the system says so.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split(' ').filter_map(|f| f.parse().ok()).collect();
    // User and system time, in hundredths.
    fields.get(10..12).map_or(f64::NAN, |ticks| (ticks[0] + ticks[1]) / 100.0)
}

fn main() {
    match std::env::var("NATV2_ARCHS") {
        Ok(file) => measured(&file),
        Err(_) => {
            let time = DeviceTime::new(common::device());
            let mut criterion = Criterion::default().with_measurement(time).configure_from_args();
            populations(&mut criterion);
            criterion.final_summary();
        }
    }
}
