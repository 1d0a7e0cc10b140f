//! Faults of a program that the stand-in driver finds: each is planted here, through the driver's own functions.
#![cfg(all(natv2_emulator, natv2_fatbin))]

use crate::common::stand_in::alone;
use crate::images::made;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::Ptx;
use natv2::device::cuda::{CudaError, CudaRuntime, kernel_sources, kernel_table};
use natv2::launch::{Arguments, Geometry, RecordedLaunch};
use std::ffi::c_void;
use std::sync::Arc;

/// 16 MiB, more than a staging buffer.
const BYTES: usize = 16 << 20;

fn context() -> Arc<CudaContext> {
    CudaContext::new(0).expect("a context")
}

fn code<T>(result: Result<T, DriverError>) -> CUresult {
    result.map(drop).expect_err("it is refused").0
}

/// A kernel, with its module loaded by hand.
fn kernel(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    let row = kernel_table().binary_search_by(|(known, _)| (*known).cmp(name)).expect("a kernel");
    let image = kernel_sources()[kernel_table()[row].1].fatbin.expect("an image");
    let module = context.load_module(Ptx::from_binary(image.to_vec())).expect("a module");
    module.load_function(name).expect("a function")
}

/// What `fill_f32` takes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fill {
    y: u64,
    quads: u32,
    value: f32,
}

/// Launches `fill_f32` with these pointers to its parameters, and a null pointer behind them.
fn fill(
    function: &CudaFunction,
    stream: &CudaStream,
    fill: &mut Fill,
    more: usize,
    shared: u32,
) -> Result<(), DriverError> {
    let value = std::ptr::from_mut(fill).cast::<c_void>();
    let mut pointers = [std::ptr::null_mut(); 4];
    pointers[..=more].fill(value);
    let blocks = (fill.quads.div_ceil(256).max(1), 1, 1);
    // SAFETY: the kernel takes one such struct; what it is given too much is refused or not read.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            blocks,
            (256, 1, 1),
            shared,
            stream.cu_stream(),
            &mut pointers,
        )
    }
}

/// Memory of the card, and pinned memory, of [`BYTES`] each.
fn memory(context: &Arc<CudaContext>) -> (sys::CUdeviceptr, &'static mut [f32]) {
    context.bind_to_thread().expect("bound");
    // SAFETY: the context is bound, and the pinned memory has been filled when it is borrowed.
    unsafe {
        let card = result::malloc_sync(BYTES).expect("memory");
        let pinned = result::malloc_host(BYTES, 0).expect("pinned memory").cast::<f32>();
        (card, std::slice::from_raw_parts_mut(pinned, BYTES / 4))
    }
}

fn free((card, pinned): (sys::CUdeviceptr, &'static mut [f32])) {
    // SAFETY: both come from `memory` and are not used again.
    unsafe {
        result::free_sync(card).expect("freed");
        result::free_host(pinned.as_mut_ptr().cast()).expect("freed");
    }
}

fn upload(card: sys::CUdeviceptr, pinned: &[f32], stream: &CudaStream) {
    // SAFETY: what may go wrong with the source is what these tests are about.
    unsafe { result::memcpy_htod_async(card, pinned, stream.cu_stream()) }.expect("a copy");
}

fn download(pinned: &mut [f32], card: sys::CUdeviceptr, stream: &CudaStream) {
    // SAFETY: both are there until the copy has been waited for; what is done to the target before is what these tests
    // are about.
    unsafe { result::memcpy_dtoh_async(pinned, card, stream.cu_stream()) }.expect("a copy");
}

#[test]
fn a_copy_whose_source_changes() {
    let Some(_driver) = alone!(&[], &["the source of a copy"]) else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    pinned.fill(1.0);
    upload(card, pinned, &stream);
    pinned[77] = 2.0;
    stream.synchronize().expect("done");
    free((card, pinned));
}

fn opened() -> (Arc<CudaContext>, Arc<CudaStream>) {
    let context = context();
    let stream = context.new_stream().expect("a stream");
    (context, stream)
}

#[test]
fn staging_that_is_freed_early() {
    let Some(_driver) = alone!(&[], &["pinned memory is freed while a copy"]) else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    upload(card, pinned, &stream);
    // SAFETY: it comes from `memory`; that the copy is still to be made is the fault.
    unsafe { result::free_host(pinned.as_mut_ptr().cast()) }.expect("freed");
    stream.synchronize().expect("done");
    // SAFETY: not used again.
    unsafe { result::free_sync(card) }.expect("freed");
}

#[test]
fn a_copy_that_arrives_where_the_host_writes() {
    let Some(_driver) = alone!(&[], &["the host wrote where a copy"]) else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    download(pinned, card, &stream);
    pinned[5] = 1.0;
    stream.synchronize().expect("done");
    free((card, pinned));
}

#[test]
fn a_copy_is_not_there_before_it_is_waited_for() {
    let Some(_driver) = alone!() else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    pinned.fill(1.0);
    upload(card, pinned, &stream);
    stream.synchronize().expect("done");
    download(pinned, card, &stream);
    assert!(pinned[9].is_nan(), "{}", pinned[9]);
    stream.synchronize().expect("done");
    assert!(pinned.iter().all(|&value| value == 1.0));
    free((card, pinned));
}

#[test]
fn a_parameter_too_many() {
    let Some(_driver) = alone!(&[("TERMINATED", "1")], &["has more than its 1 parameters"]) else {
        return;
    };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let mut args = Fill { y: card, quads: 64, value: 1.0 };
    fill(&function, &stream, &mut args, 0, 0).expect("one parameter");
    assert_eq!(code(fill(&function, &stream, &mut args, 1, 0)), CUresult::CUDA_ERROR_INVALID_VALUE);
    stream.synchronize().expect("done");
    free((card, pinned));
}

/// natv2 itself asks the driver what a kernel takes, so that it refuses such a launch on a real one too.
#[test]
fn parameters_that_are_not_the_kernels_are_refused_by_natv2() {
    let Some(driver) = alone!() else { return };
    let runtime = CudaRuntime::new(0).expect("a card");
    let (one, two) = (1u32, 2u64);
    for arguments in [Arguments::of(&one), Arguments::of(&two).and(&two).and(&one)] {
        // SAFETY: it is refused.
        let launched = unsafe { runtime.launch("fill_f32", Geometry::linear(1, 32), &arguments) };
        let error = launched.expect_err("refused");
        assert!(matches!(&error, CudaError::BadArguments { wanted, .. } if *wanted == [16]), "{error}");
    }
    assert!(driver.count("cuFuncGetParamInfo") >= 2 && driver.count("cuLaunchKernel") == 0);
}

#[test]
fn shared_memory_that_was_not_asked_for() {
    let Some(_driver) = alone!() else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let mut args = Fill { y: card, quads: 64, value: 1.0 };
    fill(&function, &stream, &mut args, 0, 48 << 10).expect("48 KiB are for all");
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    assert_eq!(code(fill(&function, &stream, &mut args, 0, (48 << 10) + 1)), invalid);
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert_eq!(code(function.set_attribute(attribute, (227 << 10) + 1)), invalid);
    function.set_attribute(attribute, 227 << 10).expect("all there is");
    fill(&function, &stream, &mut args, 0, 227 << 10).expect("it was asked for");
    // A kernel's own shared memory counts.
    let function = kernel(&context, "augment_u8");
    let own = function.shared_size_bytes().expect("its own");
    assert!(own > 0);
    assert_eq!(code(function.set_attribute(attribute, (227 << 10) - own + 1)), invalid);
    function.set_attribute(attribute, (227 << 10) - own).expect("what is left");
    stream.synchronize().expect("done");
    free((card, pinned));
}

#[test]
fn a_thread_without_a_context() {
    let Some(_driver) = alone!() else { return };
    let (context, stream) = opened();
    let raw = stream.cu_stream() as usize;
    // SAFETY: the stream lives; that the thread has no context is the fault.
    let synchronised =
        std::thread::spawn(move || unsafe { result::stream::synchronize(raw as sys::CUstream) });
    assert_eq!(code(synchronised.join().expect("a thread")), CUresult::CUDA_ERROR_INVALID_CONTEXT);
    drop((stream, context));
}

/// Whatever a thread asks of natv2's card first, it has the context for it.
#[test]
fn natv2_finds_its_context_on_every_thread() {
    let Some(driver) = alone!() else { return };
    let runtime = &CudaRuntime::new(0).expect("a card");
    let fill = Fill { y: 0, quads: 0, value: 1.0 };
    let arguments = || Arguments::of(&fill);
    let launch = RecordedLaunch::new("fill_f32", Geometry::linear(1, 256), &arguments());
    let graph = &runtime.graph(std::slice::from_ref(&launch)).expect("a graph");
    let (mut memory, mut other) = (runtime.alloc(64).expect("memory"), runtime.alloc(64).expect("memory"));
    let (mut event, earlier) = (runtime.event().expect("an event"), runtime.record().expect("an event"));
    let before = driver.count("cuCtxSetCurrent");
    let mut threads = 0;
    let mut alone = |what: &str, work: &mut (dyn FnMut() -> Result<(), CudaError> + Send)| {
        threads += 1;
        let done = std::thread::scope(|scope| scope.spawn(work).join());
        done.expect("no panic").unwrap_or_else(|error| panic!("{what}: {error}"));
    };
    alone("upload", &mut || runtime.upload(&mut memory, 0, &[1; 64]));
    alone("download", &mut || runtime.download(&memory, 0, &mut [0; 64]));
    alone("zero", &mut || runtime.zero(&mut memory, 0, 64));
    alone("copy", &mut || runtime.copy(&memory, 0, &mut other, 0, 64));
    alone("alloc", &mut || runtime.alloc(64).map(drop));
    alone("memory", &mut || runtime.memory_bytes().map(drop));
    // SAFETY: the kernel is given what it takes, and writes nothing.
    alone("launch", &mut || unsafe { runtime.launch("fill_f32", Geometry::linear(1, 256), &arguments()) });
    alone("graph", &mut || runtime.graph(std::slice::from_ref(&launch)).map(drop));
    // SAFETY: as above.
    alone("launch of a graph", &mut || unsafe { runtime.launch_graph(graph) });
    alone("load", &mut || runtime.load("copy_f32"));
    alone("synchronise", &mut || runtime.synchronise());
    alone("event", &mut || runtime.event().map(drop));
    alone("mark", &mut || runtime.mark(&mut event));
    alone("since", &mut || event.since(&earlier).map(drop));
    alone("another stream", &mut || runtime.with_own_stream().map(drop));
    let mut dropped = Some(memory);
    alone("memory that is dropped", &mut || {
        drop(dropped.take());
        Ok(())
    });
    assert_eq!(driver.count("cuCtxSetCurrent") - before, threads, "each thread had none");
}

#[test]
fn handles_of_another_context() {
    let Some(_driver) = alone!(&[("CARDS", "2")]) else { return };
    let (first, stream) = opened();
    let other = CudaContext::new(1).expect("a context");
    let event = other.new_event(None).expect("an event");
    let invalid = CUresult::CUDA_ERROR_INVALID_HANDLE;
    // The second one is current.
    // SAFETY: both live; that they belong to two contexts is the fault.
    let recorded = unsafe { result::event::record(event.cu_event(), stream.cu_stream()) };
    assert_eq!(code(recorded), invalid);
    first.bind_to_thread().expect("bound");
    // SAFETY: as above.
    let recorded = unsafe { result::event::record(event.cu_event(), stream.cu_stream()) };
    assert_eq!(code(recorded), invalid);
}

#[test]
fn what_is_not_given_back() {
    let kinds = [
        "1 allocations of the card",
        "1 pinned",
        "1 streams",
        "2 events",
        "1 modules",
        "1 graphs were",
        "1 graphs that",
    ];
    let Some(_driver) = alone!(&[], &kinds) else { return };
    let (context, stream) = opened();
    memory(&context);
    std::mem::forget(stream);
    for _ in 0..2 {
        std::mem::forget(context.new_event(None).expect("an event"));
    }
    std::mem::forget(kernel(&context, "fill_f32"));
    // Handles alone.
    graph(&context, &[]);
}

/// A graph of launches of `fill_f32`, one behind the other, and one that can be launched.
fn graph(context: &Arc<CudaContext>, fills: &[(&CudaFunction, Fill)]) -> (sys::CUgraph, sys::CUgraphExec) {
    context.bind_to_thread().expect("bound");
    let mut graph = std::ptr::null_mut();
    let mut last = Vec::new();
    // SAFETY: handles are written and used while they live; a node has one parameter, which is there during the call.
    unsafe {
        sys::cuGraphCreate(&mut graph, 0).result().expect("a graph");
        for (function, fill) in fills {
            let mut fill = *fill;
            let mut pointers = [std::ptr::from_mut(&mut fill).cast::<c_void>(), std::ptr::null_mut()];
            let parameters = sys::CUDA_KERNEL_NODE_PARAMS {
                func: function.cu_function(),
                gridDimX: fill.quads.div_ceil(256).max(1),
                gridDimY: 1,
                gridDimZ: 1,
                blockDimX: 256,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: 0,
                kernelParams: pointers.as_mut_ptr(),
                extra: std::ptr::null_mut(),
                kern: std::ptr::null_mut(),
                ctx: std::ptr::null_mut(),
            };
            let mut node = std::ptr::null_mut();
            sys::cuGraphAddKernelNode_v2(&mut node, graph, last.as_ptr(), last.len(), &parameters)
                .result()
                .expect("a node");
            last = vec![node];
            // The driver has copied it.
            fill.value = f32::INFINITY;
            std::hint::black_box(&fill);
        }
        let executable =
            result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)).expect("an executable");
        (graph, executable)
    }
}

#[test]
fn nodes_of_a_graph_are_copies_and_run_in_their_order() {
    let Some(driver) = alone!() else { return };
    for seed in 0..6 {
        driver.set_seed(seed);
        let (context, stream) = opened();
        let (card, pinned) = memory(&context);
        let function = kernel(&context, "fill_f32");
        let fill = |value: f32| (&function, Fill { y: card, quads: (BYTES / 16) as u32, value });
        let (template, executable) = graph(&context, &[fill(1.0), fill(2.0), fill(3.0)]);
        // SAFETY: all of it lives until it has been waited for; nothing is used after it was given back.
        unsafe {
            result::graph::destroy(template).expect("destroyed");
            result::graph::launch(executable, stream.cu_stream()).expect("launched");
            download(pinned, card, &stream);
            result::graph::exec_destroy(executable).expect("what was launched goes on");
        }
        stream.synchronize().expect("done");
        assert!(pinned.iter().all(|&value| value == 3.0), "{}", pinned[0]);
        free((card, pinned));
    }
}

#[test]
fn a_module_that_goes_before_its_graph() {
    let Some(_driver) = alone!(&[], &["a module is unloaded while its kernels"]) else { return };
    let context = context();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let (template, executable) = graph(&context, &[(&function, Fill { y: card, quads: 1, value: 1.0 })]);
    drop(function);
    // SAFETY: both live; that they outlive their kernels is the fault.
    unsafe {
        result::graph::destroy(template).expect("destroyed");
        result::graph::exec_destroy(executable).expect("destroyed");
    }
    free((card, pinned));
}

#[test]
fn freeing_memory_of_the_card_waits_for_it() {
    let Some(driver) = alone!() else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    fill(&function, &stream, &mut Fill { y: card, quads: 1, value: 1.0 }, 0, 0).expect("launched");
    assert_eq!(driver.count("kernel"), 0);
    free((card, pinned));
    assert_eq!(driver.count("kernel"), 1);
}

#[test]
fn a_block_that_is_too_large() {
    let Some(_driver) = alone!() else { return };
    let (context, stream) = opened();
    let function = kernel(&context, "fill_f32");
    let mut value = Fill { y: 0, quads: 0, value: 0.0 };
    let mut pointers = [std::ptr::from_mut(&mut value).cast::<c_void>(), std::ptr::null_mut()];
    let mut launch = |grid: (u32, u32, u32), block: (u32, u32, u32)| {
        // SAFETY: the kernel is given its one parameter, and writes nothing.
        unsafe {
            result::launch_kernel(function.cu_function(), grid, block, 0, stream.cu_stream(), &mut pointers)
        }
    };
    launch((1, 1, 1), (256, 1, 1)).expect("its bound");
    let one = (1, 1, 1);
    for (grid, block) in [
        (one, (257, 1, 1)),
        (one, (1, 1, 65)),
        (one, (0, 1, 1)),
        ((0, 1, 1), one),
        ((1, 65536, 1), one),
        ((1 << 31, 1, 1), one),
    ] {
        assert_eq!(code(launch(grid, block)), CUresult::CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?}");
    }
    stream.synchronize().expect("done");
}

/// 255 registers, of which a multiprocessor has enough for 8 warps.
#[test]
fn registers_that_do_not_fit_a_multiprocessor() {
    let Some(_driver) = alone!() else { return };
    let (context, stream) = opened();
    let wide = made::Made { registers: Some(255), ..made::kernel("wide", &[(0, 8)]) };
    let image = Ptx::from_binary(made::machine_code(&made::header(90), &[wide]));
    let function = context.load_module(image).expect("a module").load_function("wide").expect("a function");
    let mut value = 0u64;
    let mut pointers = [std::ptr::from_mut(&mut value).cast::<c_void>(), std::ptr::null_mut()];
    let mut launch = |threads| {
        let (function, stream) = (function.cu_function(), stream.cu_stream());
        // SAFETY: the kernel is given its one parameter, and does not run: the emulator has no such kernel.
        unsafe { result::launch_kernel(function, (1, 1, 1), (threads, 1, 1), 0, stream, &mut pointers) }
    };
    assert_eq!(code(launch(257)), CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_eq!(code(launch(256)), CUresult::CUDA_ERROR_NOT_SUPPORTED);
}

/// The largest block that each kernel is compiled for fits, with all the shared memory that it can have.
#[test]
fn every_kernel_is_there_and_its_largest_block_fits() {
    let Some(driver) = alone!() else { return };
    let runtime = CudaRuntime::new(0).expect("a card");
    for (name, _) in kernel_table() {
        runtime.load(name).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(driver.count("cuModuleGetFunction"), kernel_table().len() as u64);
    assert_eq!(driver.count("cuModuleLoadData"), kernel_sources().len() as u64);
    let context = context();
    for (name, _) in kernel_table() {
        let function = kernel(&context, name);
        let attribute = |which| function.get_attribute(which).expect("an attribute");
        let threads = attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
        let registers = attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS);
        assert!(
            threads >= 32 && registers > 0 && threads * registers <= 1 << 16,
            "{name}: {threads} of {registers}"
        );
    }
}

/// The stream that reads waits for the one that writes, or does not.
fn read_after_write(waits: bool) -> Vec<f32> {
    let (context, writes) = opened();
    let reads = context.new_stream().expect("a stream");
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let mut args = Fill { y: card, quads: (BYTES / 16) as u32, value: 3.0 };
    fill(&function, &writes, &mut args, 0, 0).expect("launched");
    // The driver has copied them.
    args.value = 4.0;
    std::hint::black_box(&args);
    if waits {
        reads.join(&writes).expect("joined");
    }
    download(pinned, card, &reads);
    reads.synchronize().expect("done");
    let found = pinned.to_vec();
    writes.synchronize().expect("done");
    free((card, pinned));
    found
}

#[test]
fn a_stream_that_does_not_wait_for_another() {
    let Some(_driver) = alone!() else { return };
    assert!(read_after_write(false).iter().all(|value| value.is_nan()), "the kernel has run");
    assert!(read_after_write(true).iter().all(|&value| value == 3.0), "the kernel has not run");
}

#[test]
fn seeds_are_other_interleavings() {
    let Some(driver) = alone!() else { return };
    let mut late = 0;
    for seed in 1..=20 {
        driver.set_seed(seed);
        // Whatever the seed, a wait is a wait.
        assert!(read_after_write(true).iter().all(|&value| value == 3.0), "the kernel has not run");
        late += u32::from(read_after_write(false)[0].is_nan());
    }
    assert!((1..20).contains(&late), "the kernel was late {late} times of 20");
}

#[test]
fn memory_that_was_freed() {
    let Some(_driver) = alone!(&[], &["a launch of fill_f32 is given"]) else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    free((card, pinned));
    // It writes nothing there, so that it goes well.
    fill(&function, &stream, &mut Fill { y: card, quads: 0, value: 1.0 }, 0, 0).expect("launched");
    stream.synchronize().expect("done");
}

#[test]
fn a_kernel_that_writes_behind_an_allocation() {
    let Some(_driver) = alone!(&[], &["kernel fill_f32 touches 0x"]) else { return };
    let (context, stream) = opened();
    let (card, _pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let mut args = Fill { y: card, quads: (BYTES / 16) as u32 + 1, value: 1.0 };
    fill(&function, &stream, &mut args, 0, 0).expect("launched");
    let _ = stream.synchronize();
    unreachable!("the kernel wrote behind the end");
}

#[test]
fn an_error_of_a_kernel_sticks() {
    let Some(_driver) = alone!(&[("FAIL", "kernel:2:CUDA_ERROR_ILLEGAL_ADDRESS")]) else { return };
    let (context, stream) = opened();
    let (card, pinned) = memory(&context);
    let function = kernel(&context, "fill_f32");
    let mut args = Fill { y: card, quads: 1, value: 1.0 };
    fill(&function, &stream, &mut args, 0, 0).expect("launched");
    stream.synchronize().expect("the first kernel runs");
    fill(&function, &stream, &mut args, 0, 0).expect("its error shows later");
    let illegal = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_eq!(code(stream.synchronize()), illegal);
    assert_eq!(code(fill(&function, &stream, &mut args, 0, 0)), illegal);
    // SAFETY: not used again. What is given back is gone, whatever the card says.
    unsafe {
        assert_eq!(code(result::free_sync(card)), illegal);
        assert_eq!(code(result::free_host(pinned.as_mut_ptr().cast())), illegal);
    }
}
