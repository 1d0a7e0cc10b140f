//! Group `kernels`: every operator on the device, and the matrix product next to another library's.
//!
//! - `operators`: the operators of a sub-network of width 1 at 32 px, forward and backward, on 64 images,
//!   as `natv2 bench kernels` has them; figures are floating-point operations a second, and elements a
//!   second for what only moves them. On a CPU one thread, caches warm. A card is timed by its own
//!   events;
//! - `product`: the pointwise operator beside the `gemm` crate on one thread of the CPU, on the
//!   expansions and projections of real sub-networks, named rows x input channels x output channels.
//!   `fused` adds a batch norm and h-swish: an epilogue in the operator, a second pass over the output
//!   behind the crate's product;
//! - `branches`: the parallel branches of layers of width 1 in one call, and in a call each.
//!
//! Operands are random: the time does not depend on their values.

mod common;

use common::{DeviceTime, host, id};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natv2::device::Memory;
use natv2::launch::panels;
use natv2::ops::{Call, Region, Slot, Threads, cases, pointwise};
use natv2::random::{Stream, stream};
use natv2::space::walk::walk;
use natv2::space::{Activation, Arch, Channels, ExitScaling, Family};
use rand::RngExt;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

/// The width multipliers, each with the resolution that it is measured at.
const NETWORKS: [(f64, u32); 2] = [(0.25, 48), (1.0, 64)];

/// Images of the products.
const BATCH: usize = 16;

fn numbers(rng: &mut Stream, count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-scale..scale)).collect()
}

fn operators(c: &mut Criterion<DeviceTime>) {
    let device = common::device();
    let name = device.describe();
    let mut group = c.benchmark_group("kernels");
    group
        .measurement_time(Duration::from_millis(600))
        .warm_up_time(Duration::from_millis(200))
        .sample_size(10);
    let mut seen = BTreeSet::new();
    for case in cases::network(64, 32) {
        let called = format!("{}, {}", case.call.name(), case.name);
        // Layers of one shape are one benchmark.
        if !seen.insert(called.clone()) {
            continue;
        }
        let (host_weights, host_arena) = case.operands(1);
        let mut weights = device.allocate(case.weights).expect("memory");
        let mut arena = device.allocate(case.arena).expect("memory");
        device.upload(&mut weights, 0, &host_weights).expect("a copy");
        device.upload(&mut arena, 0, &host_arena).expect("a copy");
        let work = case.call.work();
        group.throughput(Throughput::Elements(if work.flops > 0 { work.flops } else { work.bytes / 8 }));
        group.bench_function(id(&name, "operators", called), |b| {
            b.iter(|| {
                let memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
                device.run(std::slice::from_ref(&case.call), memory, Threads::One).expect("a run");
            });
        });
    }
    group.finish();
}

/// Rows, input and output channels of the second layer's expansion and projection in every other
/// stage of a middle sub-network.
fn shapes() -> Vec<[usize; 3]> {
    let mut shapes = Vec::new();
    for (width, r) in NETWORKS {
        let channels = Channels::new(width, ExitScaling::Once);
        for layer in walk(&channels, &Arch::middle(Family::SE_B, r, None))
            .filter(|l| l.position == 1 && l.stage % 2 == 0)
        {
            let rows = BATCH * layer.side_out * layer.side_out;
            shapes.push([rows, layer.cin, layer.mid]);
            shapes.push([rows, layer.mid, layer.cout]);
        }
    }
    shapes
}

fn products(c: &mut Criterion<DeviceTime>) {
    let mut group = c.benchmark_group("kernels");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    for [rows, cin, cout] in shapes() {
        let mut rng = stream(0, "bench/kernels", 0, 0);
        let (x, w) = (numbers(&mut rng, rows * cin, 1.0), numbers(&mut rng, cout * cin, 1.0));
        let (scale, shift) = (numbers(&mut rng, cout, 1.0), numbers(&mut rng, cout, 1.0));
        let mut panels = vec![0.0; panels::panelled_len(cout, cin)];
        for (index, &weight) in w.iter().enumerate() {
            panels[panels::panelled_index(cin, index / cin, index % cin)] = weight;
        }
        let mut y = vec![0.0; rows * cout];
        let shape = format!("{rows}x{cin}x{cout}");
        group.throughput(Throughput::Elements(2 * (rows * cin * cout) as u64));

        let ours = |fused: bool, y: &mut [f32]| {
            let params = pointwise::Params {
                images: rows as u32,
                side_in: 1,
                side_out: 1,
                cin: cin as u32,
                cout: cout as u32,
                weight_cin: cin as u32,
                stride: 1,
                activation: if fused { Activation::HSwish } else { Activation::None } as u32,
            };
            let (scale, shift) = (fused.then_some(&scale[..]), fused.then_some(&shift[..]));
            let args =
                pointwise::Args { x: black_box(&x), w: &panels, scale, shift, gate: None, residual: None, y };
            pointwise::cpu::run(&params, args, Threads::One);
        };
        // What is compared computes the same.
        let mut expected = vec![0.0; rows * cout];
        product(rows, cin, cout, &x, &w, &mut expected);
        ours(false, &mut y);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * cin as f32;
        assert!(y.iter().zip(&expected).all(close), "{shape}");

        for fused in [false, true] {
            let kind = if fused { "fused" } else { "plain" };
            group.bench_function(id(&host(1), "product", format!("pointwise, {kind}, {shape}")), |b| {
                b.iter(|| {
                    ours(fused, &mut y);
                    black_box(&mut y);
                });
            });
            group.bench_function(id(&host(1), "product", format!("gemm crate, {kind}, {shape}")), |b| {
                b.iter(|| {
                    product(rows, cin, cout, black_box(&x), &w, &mut y);
                    if fused {
                        for row in y.chunks_exact_mut(cout) {
                            for ((y, scale), shift) in row.iter_mut().zip(&scale).zip(&shift) {
                                let value = *y * scale + shift;
                                *y = value * ((value + 3.0).clamp(0.0, 6.0) / 6.0);
                            }
                        }
                    }
                    black_box(&mut y);
                });
            });
        }
    }
    group.finish();
}

fn branches(c: &mut Criterion<DeviceTime>) {
    let device = common::device();
    let name = device.describe();
    let mut group = c.benchmark_group("kernels");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    for case in cases::network(BATCH, 64) {
        let Call::Branches(call) = &case.call else { continue };
        let (weights, arena) = case.operands(0);
        let scratch = Slot { region: Region::Arena, offset: arena.len(), len: call.scratch_len() };
        let mut stored = device.allocate(weights.len()).expect("memory");
        let mut buffer = device.allocate(scratch.offset + scratch.len).expect("memory");
        device.upload(&mut stored, 0, &weights).expect("a copy");
        device.upload(&mut buffer, 0, &arena).expect("a copy");
        for (kind, calls) in [("one call", vec![case.call.clone()]), ("separate", call.separate(scratch))] {
            group.bench_function(id(&name, "branches", format!("{kind}, {}", case.name)), |b| {
                b.iter(|| {
                    let memory = Memory { weights: &stored, network: &stored, arena: &mut buffer };
                    device.run(&calls, memory, Threads::One).expect("runs");
                });
            });
        }
    }
    group.finish();
}

/// `y[m, n] = sum_k x[m, k] w[n, k]` by the `gemm` crate.
fn product(rows: usize, cin: usize, cout: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
    assert!(x.len() == rows * cin && w.len() == cout * cin && y.len() == rows * cout);
    let (wide, deep) = (cout as isize, cin as isize);
    // SAFETY: the slices have the lengths that the sizes and strides ask for, checked above.
    unsafe {
        gemm::gemm(
            rows,
            cout,
            cin,
            y.as_mut_ptr(),
            1,
            wide,
            false,
            x.as_ptr(),
            1,
            deep,
            w.as_ptr(),
            deep,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default().with_measurement(DeviceTime::new(common::device()));
    targets = operators, products, branches
}
criterion_main!(kernels);
