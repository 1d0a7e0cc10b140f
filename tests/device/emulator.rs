//! The emulator's sample kernels (`kernels/emulator/tests/samples.cu`) through the Rust interface.
//!
//! The C++ driver in the same folder checks more of them, under the sanitizers too; here the point
//! is the way from Rust: arguments, geometry, threads, order, errors.
#![cfg(natv2_emulator)]

use natv2::device::emulated::{
    self, EmulatedMemory, EmulatedRuntime, EmulatorError, LaunchStatus, ThreadOrder,
};
use natv2::launch::{Arguments, Geometry};

#[link(name = "natv2_emulator_samples", kind = "static", modifiers = "+whole-archive")]
unsafe extern "C" {}

/// One thread and several, in both orders.
fn runtimes() -> Vec<EmulatedRuntime> {
    [1, 3]
        .into_iter()
        .flat_map(|threads| [ThreadOrder::Forward, ThreadOrder::Reverse].map(|order| (threads, order)))
        .map(|(threads, order)| EmulatedRuntime::new(threads).expect("built").with_order(order))
        .collect()
}

fn upload<T: bytemuck::Pod>(runtime: &EmulatedRuntime, values: &[T]) -> EmulatedMemory {
    let mut memory = runtime.alloc(size_of_val(values)).expect("alloc");
    runtime.upload(&mut memory, 0, bytemuck::cast_slice(values)).expect("upload");
    memory
}

fn download<T: bytemuck::Pod>(runtime: &EmulatedRuntime, memory: &EmulatedMemory) -> Vec<T> {
    let mut values = vec![T::zeroed(); memory.bytes() / size_of::<T>()];
    runtime.download(memory, 0, bytemuck::cast_slice_mut(&mut values)).expect("download");
    values
}

/// Small whole numbers, so that sums are exact in any order.
fn whole_numbers(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * step) % 9) as f32 - 4.0).collect()
}

fn matmul(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
    let element = |i: usize, j: usize| (0..k).map(|q| a[i * k + q] * b[q * n + j]).sum();
    (0..m * n).map(|at| element(at / n, at % n)).collect()
}

#[test]
fn both_matmuls_agree_with_a_loop() {
    for runtime in runtimes() {
        let (m, n, k) = (65usize, 130usize, 17usize);
        let (a, b) = (whole_numbers(m * k, 7), whole_numbers(k * n, 5));
        let wanted = matmul(&a, &b, m, n, k);
        let (a, b) = (upload(&runtime, &a), upload(&runtime, &b));
        let launches = [
            (
                "sample_matmul_tiled",
                Geometry {
                    grid: [n.div_ceil(16) as u32, m.div_ceil(16) as u32, 1],
                    block: [16, 16, 1],
                    shared_bytes: 0,
                },
            ),
            (
                "sample_matmul_blocked",
                Geometry {
                    grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
                    block: [256, 1, 1],
                    shared_bytes: 2 * 16 * 64 * 4,
                },
            ),
        ];
        for (kernel, geometry) in launches {
            let c = runtime.alloc(4 * m * n).expect("alloc");
            let (pa, pb, pc) = (a.address(), b.address(), c.address());
            let sizes = [m as i32, n as i32, k as i32];
            let arguments = Arguments::of(&pa).and(&pb).and(&pc).and(&sizes[0]).and(&sizes[1]).and(&sizes[2]);
            // SAFETY: the kernel stays within the three matrices.
            unsafe { runtime.launch(kernel, geometry, &arguments) }.expect(kernel);
            assert_eq!(download::<f32>(&runtime, &c), wanted, "{kernel}");
        }
    }
}

#[test]
fn a_reduction_by_shuffles_and_atomics_is_exact_on_whole_numbers() {
    for runtime in runtimes() {
        let x = whole_numbers(5000, 7);
        let wanted: f32 = x.iter().sum();
        let (x, sum) = (upload(&runtime, &x), upload(&runtime, &[0.0f32]));
        let (px, ps, n) = (x.address(), sum.address(), 5000i32);
        // SAFETY: n is the length of x; sum is one float.
        unsafe {
            runtime.launch("sample_reduce", Geometry::linear(6, 256), &Arguments::of(&px).and(&ps).and(&n))
        }
        .expect("launch");
        assert_eq!(download::<f32>(&runtime, &sum), [wanted]);
    }
}

#[test]
fn a_tensor_core_matmul_agrees_with_a_loop() {
    for runtime in runtimes() {
        let (m, n, k) = (32usize, 32usize, 48usize);
        let (a, b) = (whole_numbers(m * k, 7), whole_numbers(k * n, 5));
        let wanted = matmul(&a, &b, m, n, k);
        let narrow =
            |values: &[f32]| values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect::<Vec<u16>>();
        let transposed: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
        let (a, b) = (upload(&runtime, &narrow(&a)), upload(&runtime, &narrow(&transposed)));
        let d = runtime.alloc(4 * m * n).expect("alloc");
        let (pa, pb, pd, n, k) = (a.address(), b.address(), d.address(), n as i32, k as i32);
        let geometry = Geometry { grid: [2, 2, 1], block: [64, 1, 1], shared_bytes: 0 };
        // SAFETY: the kernel stays within the three matrices.
        unsafe {
            let arguments = Arguments::of(&pa).and(&pb).and(&pd).and(&n).and(&k);
            runtime.launch("sample_mma_f16", geometry, &arguments)
        }
        .expect("launch");
        assert_eq!(download::<f32>(&runtime, &d), wanted);
    }
}

#[test]
fn the_sum_and_fill_kernels_write_every_element() {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct SumArgs {
        inputs: [u64; 4],
        y: u64,
        len: u32,
        terms: u32,
        format: u32,
        quads: u32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct FillParams {
        y: u64,
        quads: u32,
        value: f32,
    }
    for runtime in runtimes() {
        let n = 4 * 333;
        let quads = n as u32 / 4;
        let values: Vec<Vec<f32>> = (1..=4).map(|step| whole_numbers(n, step)).collect();
        let inputs: Vec<EmulatedMemory> = values.iter().map(|values| upload(&runtime, values)).collect();
        for count in 2..=4 {
            let y = runtime.alloc(4 * n).expect("alloc");
            let (len, terms) = (n as u32, count as u32);
            let mut args = SumArgs { inputs: [0; 4], y: y.address(), len, terms, format: 0, quads };
            for (address, input) in args.inputs.iter_mut().zip(&inputs[..count]) {
                *address = input.address();
            }
            // SAFETY: all arrays have n floats.
            unsafe { runtime.launch("sum_f32", Geometry::covering(quads, 256), &Arguments::of(&args)) }
                .expect("sum_f32");
            let wanted: Vec<f32> = (0..n).map(|i| values[..count].iter().map(|v| v[i]).sum()).collect();
            assert_eq!(download::<f32>(&runtime, &y), wanted, "{count} arrays");
        }
        let y = runtime.alloc(4 * n).expect("alloc");
        let params = FillParams { y: y.address(), quads, value: -2.5 };
        // SAFETY: y has n floats.
        unsafe { runtime.launch("fill_f32", Geometry::covering(quads, 256), &Arguments::of(&params)) }
            .expect("fill_f32");
        assert_eq!(download::<f32>(&runtime, &y), vec![-2.5; n]);
    }
}

#[test]
fn refused_launches_say_why() {
    let runtime = EmulatedRuntime::new(1).expect("built");
    let refused = |kernel: &str, threads: u32, arguments: &Arguments<'_>| {
        // SAFETY: none of these launches gets to run.
        match unsafe { runtime.launch(kernel, Geometry::linear(1, threads), arguments) } {
            Err(EmulatorError::Launch { status, message }) => (status, message),
            other => panic!("{kernel}: {other:?}"),
        }
    };
    let (status, message) = refused("no_such_kernel", 32, &Arguments::new());
    assert_eq!(status, LaunchStatus::UnknownKernel);
    assert!(message.contains("no_such_kernel"), "{message}");
    let (status, _) = refused("nul\0inside", 32, &Arguments::new());
    assert_eq!(status, LaunchStatus::UnknownKernel);
    let (status, message) = refused("sample_early_exit", 32, &Arguments::of(&1u32));
    assert_eq!(status, LaunchStatus::BadArguments);
    assert!(message.contains("argument 0 has 8 bytes, not 4"), "{message}");
    let (status, message) = refused("sum_f32", 512, &Arguments::of(&[0u64; 7]));
    assert_eq!(status, LaunchStatus::BadConfiguration);
    assert!(message.contains("1 to 256"), "{message}");
}

#[test]
fn the_table_lists_kernels_with_their_arguments() {
    let sum = emulated::kernel("sum_f32").expect("there");
    assert_eq!((sum.max_threads, sum.argument_bytes.as_slice()), (256, [56].as_slice()));
    assert!(sum.file.ends_with("kernels/forward/elementwise.cu"), "{}", sum.file);
    let names: Vec<String> = emulated::kernels().into_iter().map(|kernel| kernel.name).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, no name twice: {names:?}");
}

#[test]
fn launches_from_several_threads_at_once_do_not_disturb_each_other() {
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || {
                let runtime = EmulatedRuntime::new(2).expect("built");
                for _ in 0..20 {
                    let x = whole_numbers(3000, seed);
                    let wanted: f32 = x.iter().sum();
                    let (x, sum) = (upload(&runtime, &x), upload(&runtime, &[0.0f32]));
                    let (px, ps, n) = (x.address(), sum.address(), 3000i32);
                    let arguments = Arguments::of(&px).and(&ps).and(&n);
                    // SAFETY: n is the length of x; sum is one float.
                    unsafe { runtime.launch("sample_reduce", Geometry::linear(5, 128), &arguments) }
                        .expect("launch");
                    assert_eq!(download::<f32>(&runtime, &sum), [wanted]);
                }
            });
        }
    });
}

#[test]
fn fresh_memory_is_poison_and_copies_stay_inside() {
    let runtime = EmulatedRuntime::new(1).expect("built");
    let mut memory = runtime.alloc(10).expect("alloc");
    let mut bytes = [0u8; 10];
    runtime.download(&memory, 0, &mut bytes).expect("download");
    assert_eq!(bytes, [0xa1, 0x7f, 0xa1, 0x7f, 0xa1, 0x7f, 0xa1, 0x7f, 0xa1, 0x7f]);
    let outside = runtime.upload(&mut memory, 4, &[0; 7]);
    assert_eq!(outside, Err(EmulatorError::OutOfRange { offset: 4, bytes: 7, size: 10 }));
    assert!(runtime.zero(&mut memory, usize::MAX, 2).is_err());
    assert!(f32::from_bits(emulated::POISON).is_nan());
}
