//! What one pass for all exits saves: an early-exit network of the widest and deepest kind, all five
//! exits in one pass, recalibration included, against five passes, one an exit.
//!
//! `cargo bench --bench exits`

use criterion::{Criterion, criterion_group, criterion_main};
use natv2::engine::{Calibration, Cropped, Engine};
use natv2::ops::Threads;
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::hint::black_box;
use std::sync::Arc;

const SIDE: usize = 64;
const IMAGES: usize = 64;

fn images(purpose: &str) -> Tensor {
    let mut rng = stream(1, purpose, 0, 0);
    let data = (0..IMAGES * 3 * SIDE * SIDE).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
    Tensor { shape: vec![IMAGES, 3, SIDE, SIDE], data }
}

fn exits(c: &mut Criterion) {
    for (family, width) in [("EE_B", 1.0), ("EE_DP", 0.25)] {
        let family = family.parse().expect("a family");
        let blank = Blank { family, width, classes: 200, scaling: ExitScaling::Once };
        let supernet = Supernet::random(&blank, 1).expect("a super-network");
        let device = natv2::device::open("cpu").expect("a CPU");
        let engine = Engine::new(device, Arc::new(supernet)).expect("an engine");
        let (test, train) = (images("bench/test"), images("bench/train"));
        let test = Cropped::new(&test, &[]).expect("images");
        let train = Cropped::new(&train, &[]).expect("images");
        let calibration = Calibration::Batches { images: &train, count: IMAGES, batch: IMAGES };
        let largest = Arch::largest(family, SIDE as u32, Some(width));
        let mut group = c.benchmark_group(format!("exits/{}/{family} {width}", engine.device().describe()));
        group.sample_size(10);
        group.bench_function("five in one pass", |b| {
            let all = Exits::up_to(&largest);
            b.iter(|| {
                black_box(engine.evaluate(&largest, all, &test, calibration, Threads::All).expect("runs"))
            });
        });
        group.bench_function("five passes", |b| {
            b.iter(|| {
                for nd in 1..=5 {
                    let arch = Arch { nd, ..largest.clone() };
                    let exit = Exits::single(&arch);
                    let result = engine.evaluate(&arch, exit, &test, calibration, Threads::All);
                    black_box(result.expect("runs"));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, exits);
criterion_main!(benches);
