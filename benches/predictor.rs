//! Group `predictor`: fitting ten folds to 300 rows, and 2,000 predictions.
//!
//! `benches/peers/lightgbm_predictor.py` does the same work with LightGBM on the same rows. Both are
//! timed on one thread; a second fit shows what the folds gain from all.

mod common;
#[path = "../tests/search/predictor/table.rs"]
mod table;

use common::{host, id};
use criterion::{Criterion, criterion_group, criterion_main};
use natv2::predictor::{self, Features, Kind, Settings};
use std::hint::black_box;

fn predictor(c: &mut Criterion) {
    let (genotypes, errors) = table::load();
    let features = Features::from_rows(&genotypes[..300]).expect("rows of equal length");
    let unseen: Vec<&Vec<u8>> = genotypes.iter().cycle().skip(300).take(2000).collect();
    let unseen = Features::from_rows(&unseen).expect("rows of equal length");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    let gbdt = Settings::default();
    let cart = Settings { kind: Kind::Cart, ..Settings::default() };
    let fit = |settings: &Settings| {
        predictor::fit(black_box(settings), black_box(&features), &errors[..300], 1).expect("a fit")
    };

    let all = host(rayon::current_num_threads());
    let mut group = c.benchmark_group("predictor");
    group.bench_function(id(&host(1), "gbdt", "fit 10x300"), |b| b.iter(|| one.install(|| fit(&gbdt))));
    group.bench_function(id(&all, "gbdt", "fit 10x300, threads by fold"), |b| b.iter(|| fit(&gbdt)));
    let ensemble = fit(&gbdt);
    group.bench_function(id(&host(1), "gbdt", "predict 2000"), |b| {
        b.iter(|| one.install(|| ensemble.predict(black_box(&unseen))));
    });
    group.bench_function(id(&host(1), "cart", "fit 10x300"), |b| b.iter(|| one.install(|| fit(&cart))));
    let ensemble = fit(&cart);
    group.bench_function(id(&host(1), "cart", "predict 2000"), |b| {
        b.iter(|| one.install(|| ensemble.predict(black_box(&unseen))));
    });
    group.finish();
}

criterion_group!(benches, predictor);
criterion_main!(benches);
