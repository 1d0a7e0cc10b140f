//! Forward passes, whole evaluations, and the matrix product under them.
//!
//! - `forward`: 64 images through one sub-network with stored statistics, per image;
//! - `evaluate`: one sub-network as a search measures it, recalibrated on 500 images and run over
//!   2,000, at width 0.25 and 48 px (`benches/peers/ofa_pytorch.py` does the same on PyTorch);
//! - `kernels`: the pointwise operator beside the `gemm` crate on one thread, on the expansions and
//!   projections of real sub-networks, named rows x input channels x output channels; the figures
//!   are floating-point operations a second. `fused` adds a batch norm and h-swish: an epilogue in
//!   the operator, a second pass over the output behind the crate's product;
//! - `branches`: the parallel branches of layers of width 1 in one call, and in a call each, on one
//!   thread.
//!
//! Weights and images are random: the time does not depend on their values.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use natv2::device::{self, Device, Memory};
use natv2::engine::{Calibration, Engine, Images};
use natv2::ops::{Call, Region, Slot, Threads, cases, pointwise};
use natv2::random::{Stream, stream};
use natv2::space::walk::{Exits, walk};
use natv2::space::{Activation, Arch, Channels, ExitScaling, Family};
use natv2::supernet::{Card, Checkpoint, Layout, Parts, Supernet, Tensor};
use rand::RngExt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// The width multipliers, each with the resolution that it is measured at.
const NETWORKS: [(f64, u32); 2] = [(0.25, 48), (1.0, 64)];

/// Images of the `kernels` shapes.
const BATCH: usize = 16;

/// Images as a data set holds them: u8, of the size that the network takes.
struct Pixels {
    side: usize,
    pixels: Vec<u8>,
}

impl Pixels {
    fn new(count: usize, side: usize) -> Pixels {
        let mut rng = stream(0, "bench/images", count as u64, side as u64);
        Pixels { side, pixels: (0..count * side * side * 3).map(|_| rng.random()).collect() }
    }
}

impl Images for Pixels {
    fn len(&self) -> usize {
        self.pixels.len() / (self.side * self.side * 3)
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], _: Threads) {
        assert_eq!(side, self.side, "the networks here take the images as they are");
        let pixels = &self.pixels[first * side * side * 3..];
        out.iter_mut().zip(pixels).for_each(|(out, &pixel)| *out = (f32::from(pixel) / 255.0 - 0.5) * 4.0);
    }

    fn label(&self, index: usize) -> u32 {
        index as u32 % 10
    }
}

fn numbers(rng: &mut Stream, count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-scale..scale)).collect()
}

/// A super-network of random weights.
fn supernet(width: f64) -> Supernet {
    let parts = Parts { head: true, exits: false, parallel: false };
    let layout = Layout::new(Channels::new(width, ExitScaling::Once), 10, parts);
    let mut rng = stream(0, "bench/weights", 0, 0);
    let tensors = layout.tensors().iter().map(|tensor| {
        let count = tensor.shape.iter().product();
        let data = match &tensor.name {
            name if name.ends_with("running_var")
                || tensor.shape.len() == 1 && name.ends_with("bn.weight") =>
            {
                vec![1.0; count]
            }
            _ if tensor.shape.len() == 1 => vec![0.0; count],
            _ => numbers(&mut rng, count, (3.0 / tensor.shape[1..].iter().product::<usize>() as f32).sqrt()),
        };
        (tensor.name.clone(), Tensor { shape: tensor.shape.clone(), data })
    });
    let checkpoint = Checkpoint::from_tensors("random weights", tensors.collect());
    Supernet::from_checkpoint(&checkpoint, Card::default(), None).expect("the layout's own tensors")
}

fn smallest(r: u32) -> Arch {
    Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, r, None) }
}

fn middle(r: u32) -> Arch {
    Arch { ks: [5; 20], e: [4; 20], d: [3; 5], ..Arch::largest(Family::SE_B, r, None) }
}

fn cpu() -> Arc<dyn Device> {
    device::open("cpu").expect("there is always a CPU")
}

fn forward(c: &mut Criterion) {
    let device = cpu();
    let mut group = c.benchmark_group("forward");
    group.measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    for (width, r) in NETWORKS {
        let engine = Engine::new(device.clone(), Arc::new(supernet(width))).expect("a device");
        let images = Pixels::new(64, r as usize);
        group.throughput(Throughput::Elements(images.len() as u64));
        let largest = Arch::largest(Family::SE_B, r, None);
        for (name, arch) in [("smallest", smallest(r)), ("middle", middle(r)), ("largest", largest)] {
            let id = BenchmarkId::new(device.describe(), format!("width {width}, {r} px, {name}"));
            let exits = Exits::single(&arch);
            group.bench_function(id, |b| {
                b.iter(|| engine.logits(&arch, exits, &images, Calibration::Stored).expect("logits"));
            });
        }
    }
    group.finish();
}

fn evaluate(c: &mut Criterion) {
    let device = cpu();
    let engine = Engine::new(device.clone(), Arc::new(supernet(0.25))).expect("a device");
    let (train, test) = (Pixels::new(500, 48), Pixels::new(2000, 48));
    let calibration = Calibration::Batches { images: &train, count: 500, batch: 100 };
    let mut group = c.benchmark_group("evaluate");
    group.measurement_time(Duration::from_secs(6)).warm_up_time(Duration::from_secs(1)).sample_size(10);
    group.sampling_mode(SamplingMode::Flat);
    for (name, arch) in [("smallest", smallest(48)), ("middle", middle(48))] {
        let id = BenchmarkId::new(device.describe(), format!("width 0.25, 48 px, {name}"));
        let exits = Exits::single(&arch);
        group.bench_function(id, |b| {
            b.iter(|| engine.evaluate(&arch, exits, &test, calibration, Threads::All).expect("a result"));
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
        for layer in walk(&channels, &middle(r)).filter(|l| l.position == 1 && l.stage % 2 == 0) {
            let rows = BATCH * layer.side_out * layer.side_out;
            shapes.push([rows, layer.cin, layer.mid]);
            shapes.push([rows, layer.mid, layer.cout]);
        }
    }
    shapes
}

fn kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    for [rows, cin, cout] in shapes() {
        let mut rng = stream(0, "bench/kernels", 0, 0);
        let (x, w) = (numbers(&mut rng, rows * cin, 1.0), numbers(&mut rng, cout * cin, 1.0));
        let (scale, shift) = (numbers(&mut rng, cout, 1.0), numbers(&mut rng, cout, 1.0));
        let mut panels = vec![0.0; pointwise::panelled_len(cout, cin)];
        for (index, &weight) in w.iter().enumerate() {
            panels[pointwise::panelled_index(cin, index / cin, index % cin)] = weight;
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
            group.bench_function(BenchmarkId::new(format!("pointwise, {kind}"), &shape), |b| {
                b.iter(|| {
                    ours(fused, &mut y);
                    black_box(&mut y);
                });
            });
            group.bench_function(BenchmarkId::new(format!("gemm crate, {kind}"), &shape), |b| {
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

fn branches(c: &mut Criterion) {
    let device = cpu();
    let mut group = c.benchmark_group("branches");
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
            group.bench_function(BenchmarkId::new(kind, &case.name), |b| {
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

criterion_group!(benches, forward, evaluate, kernels, branches);
criterion_main!(benches);
