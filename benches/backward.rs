//! Gradients of the convolutions beside the convolutions themselves, on one thread.
//!
//! Shapes are those of a sub-network of width 1 on 64 images of 32 px, as `natv2 bench kernels` has
//! them; figures are floating-point operations a second, and elements a second for what only moves
//! them. Operands are random: the time does not depend on their values.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use natv2::device::{Cpu, Device, Memory};
use natv2::ops::cases::{Case, network};
use natv2::ops::{Call, Threads};
use std::time::Duration;

/// The operators, each forward one before its gradients.
fn is_measured(case: &Case) -> bool {
    matches!(
        case.call,
        Call::Stem(_)
            | Call::StemWeights(_)
            | Call::Pointwise(_)
            | Call::PointwiseWeights(_)
            | Call::Transpose(_)
            | Call::Scatter(_)
            | Call::Depthwise(_)
            | Call::DepthwiseInput(_)
            | Call::DepthwiseWeights(_)
    )
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group(Cpu.describe());
    group
        .measurement_time(Duration::from_millis(600))
        .warm_up_time(Duration::from_millis(200))
        .sample_size(10);
    for case in network(64, 32).into_iter().filter(is_measured) {
        let (host_weights, host_arena) = case.operands(1);
        let mut weights = Cpu.allocate(case.weights).expect("memory");
        let mut arena = Cpu.allocate(case.arena).expect("memory");
        Cpu.upload(&mut weights, 0, &host_weights).expect("a copy");
        Cpu.upload(&mut arena, 0, &host_arena).expect("a copy");
        let work = case.call.work();
        group.throughput(Throughput::Elements(if work.flops > 0 { work.flops } else { work.bytes / 8 }));
        group.bench_function(BenchmarkId::new(case.call.name(), &case.name), |b| {
            b.iter(|| {
                let memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
                Cpu.run(std::slice::from_ref(&case.call), memory, Threads::One).expect("a run");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
