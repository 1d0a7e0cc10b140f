//! Group `search`: the parts of a search that run no network: cost counting, fitting and asking the predictor, and the
//! whole inner search with predictions and exact costs.
//!
//! The archive is the first 300 rows of the CIFAR-10 table of accuracies, so the predictor is fitted to
//! real measurements.

mod common;

use common::{host, id};
use criterion::{Criterion, criterion_group, criterion_main};
use natv2::config::{self, Profile};
use natv2::search::candidates::Proposal;
use natv2::search::{Archive, Entry};
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, Channels, ExitScaling, Family, Space, cost};
use std::collections::HashSet;
use std::hint::black_box;

fn archive(space: &Space, rows: usize) -> Archive {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_cifar10.accuracies.json");
    let text = std::fs::read_to_string(file).expect("the table of accuracies");
    let table: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut archive = Archive::default();
    for row in table["rows"].as_array().expect("rows").iter().take(rows) {
        let arch = Arch::from_json(Family::SE_B, &row["arch"]).expect("an architecture");
        let channels = space.channels(&arch).expect("the only width");
        archive.extend([Entry {
            genotype: space.encode(&arch).expect("an architecture of the space"),
            correct: (row["top1"].as_f64().expect("top1") * 20.0).round() as usize,
            images: 2000,
            loss: row["loss"].as_f64().expect("loss"),
            cost: cost(channels, &arch, Exits::single(&arch), 10),
            latency_ms: None,
        }]);
    }
    archive
}

fn search(c: &mut Criterion) {
    let all = host(rayon::current_num_threads());
    let mut group = c.benchmark_group("search");
    let space = Space::new(Family::SE_B, &[32, 40, 48], &[0.25], ExitScaling::Once).expect("a space");

    let mut rng = natv2::random::stream(0, "bench", 0, 0);
    let archs: Vec<Arch> = (0..1000)
        .map(|_| space.decode(&sample(&space, Policy::NatV2, &mut rng)).expect("a sample of the space"))
        .collect();
    let channels = Channels::new(0.25, ExitScaling::Once);
    group.bench_function(id(&host(1), "costs", "1,000 networks"), |b| {
        b.iter(|| {
            archs
                .iter()
                .map(|arch| cost(&channels, black_box(arch), Exits::single(arch), 10).macs)
                .sum::<u64>()
        });
    });

    // The paper's inner search: 100 individuals, 20 generations, three objectives, 25 candidates.
    let archive = archive(&space, 300);
    let seen: HashSet<_> = archive.entries.iter().map(|entry| entry.genotype.clone()).collect();
    for (name, subset) in [("without subset selection", "1"), ("with subset selection", "200")] {
        let sets = [format!("search.subset_generations={subset}"), "adaptation.epochs=0".into()];
        let config = config::load("search", None, &sets, Some(Profile::Paper)).expect("a configuration");
        let proposal = Proposal {
            space: &space,
            classes: 10,
            config: &config,
            archive: &archive,
            seen: &seen,
            iteration: 1,
        };
        group.bench_function(id(&all, "candidates", format!("300 rows, 100 x 20, {name}")), |b| {
            b.iter(|| proposal.propose().expect("candidates"));
        });
    }
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);
