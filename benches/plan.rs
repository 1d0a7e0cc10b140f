//! Group `plan`: networks lowered to calls, and the model that estimates them. No network runs.
//!
//! - `lower`: a middle network of width 1 for 64 images in both modes, and populations as one tree;
//! - `groups`: a population cut into the groups that run as trees;
//! - `step`: an optimiser step of two networks with a teacher;
//! - `model`: the passes of a population's evaluation, summed up for a card.

mod common;

use common::{host, id};
use criterion::{Criterion, criterion_group, criterion_main};
use natv2::engine::model::machine::{card_batches, card_chunk};
use natv2::engine::model::{Machine, Precision, Scheduling, Workload, evaluation, seconds};
use natv2::engine::plan::{Mode, Reads, lower, lower_tree};
use natv2::engine::tree::{Tree, groups};
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, Channels, ExitScaling, Family, Space};
use natv2::supernet::{Layout, init::parts_of};
use natv2::train::{Decays, Optimiser, Rule, StepShape, StepTeacher, Student, Weighting, step_calls};
use std::hint::black_box;
use std::time::Duration;

fn population(count: usize) -> Vec<(Arch, Exits)> {
    let space = Space::new(Family::SE_B, &[64], &[1.0], ExitScaling::Once).expect("a space");
    let mut rng = stream(1, "bench/plan", 0, 0);
    let archs = (0..count).map(|_| space.decode(&sample(&space, Policy::NatV2, &mut rng)).expect("decodes"));
    archs.map(|arch| (arch.clone(), Exits::single(&arch))).collect()
}

fn plan(c: &mut Criterion) {
    let named = host(1);
    let layout = Layout::new(Channels::new(1.0, ExitScaling::Once), 200, parts_of(Family::SE_B));
    let middle = Arch::middle(Family::SE_B, 64, None);
    let exits = Exits::single(&middle);
    let mut group = c.benchmark_group("plan");
    for (name, mode) in
        [("inference", Mode::Inference), ("recalibration", Mode::Recalibration { batches: 5, at_once: 1 })]
    {
        group.bench_function(id(&named, "lower", name), |b| {
            b.iter(|| lower(black_box(&layout), &middle, exits, 64, mode, Precision::F32));
        });
    }
    for count in [32, 100] {
        let networks = population(count);
        let members: Vec<(&Arch, Exits)> = networks.iter().map(|(arch, exits)| (arch, *exits)).collect();
        group.bench_function(id(&named, "lower", format!("a tree of {count}")), |b| {
            b.iter(|| {
                let tree = Tree::new(layout.channels(), black_box(&members));
                lower_tree(&layout, &tree, 64, Mode::Inference, Reads::Scores, Precision::F32)
            });
        });
    }
    let networks = population(100);
    group.bench_function(id(&named, "groups", "100 networks"), |b| {
        b.iter(|| groups(layout.channels(), black_box(&networks), 32, 1 << 27));
    });
    let student = |arch: &Arch| Student { arch: arch.clone(), weighting: Weighting::Own };
    let students = [student(&networks[0].0), student(&networks[1].0)];
    let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
    let optimiser = Optimiser { rule, decay: 3e-5, decays: Decays::Weights, clip: None };
    let teacher = StepTeacher::Network(Family::SE_B);
    let shape = StepShape {
        students: &students,
        teacher,
        images: 64,
        side: 64,
        dropout: true,
        precision: Precision::F32,
    };
    group.bench_function(id(&named, "step", "two networks and a teacher"), |b| {
        b.iter(|| step_calls(black_box(&layout), &optimiser, &shape));
    });
    let card = &Machine::cards()[0];
    let workload = Workload { images: 2000, calibration: Some((5, 100)) };
    group.bench_function(id(&named, "model", "100 networks, 500 and 2,000 images"), |b| {
        b.iter(|| {
            let taking = Scheduling { lanes: 1, streams: 1, chunk: &card_chunk, batches: &card_batches };
            let planned = evaluation(&layout, black_box(&networks), workload, taking, Precision::F32);
            seconds(&planned.passes, card, Precision::F32)
        });
    });
    group.finish();
}

criterion_group! {
    name = plans;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = plan
}
criterion_main!(plans);
