//! What a launch costs through `cudarc`, which this program runs on, and through `cust`: the same empty
//! kernel on the same card, one launch behind the other on one stream, with one wait at the end.
//!
//! Built with the feature `cust` alone, where a CUDA toolkit is installed (`CUDA_PATH`): `cust` looks for
//! it when it is built and links the driver. See `benches/README.md`.

use criterion::{Criterion, criterion_group, criterion_main};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use cust::context::Context;
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use std::error::Error;
use std::time::{Duration, Instant};

/// A kernel that does nothing with its one argument.
const EMPTY: &str = ".version 7.0\n.target sm_80\n.address_size 64\n\
    .visible .entry empty(.param .u32 count)\n{\n\tret;\n}\n";

/// Launches, each with an argument, and waits for them.
type Launches = Box<dyn FnMut(u64) -> Result<(), Box<dyn Error>>>;

fn through_cudarc() -> Result<Launches, Box<dyn Error>> {
    let context = CudaContext::new(0)?;
    let stream = context.new_stream()?;
    let function = context.load_module(Ptx::from_src(EMPTY))?.load_function("empty")?;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
    Ok(Box::new(move |count| {
        for number in 0..count as u32 {
            // SAFETY: the kernel takes one u32 and touches no memory.
            unsafe { stream.launch_builder(&function).arg(&number).launch(config) }?;
        }
        Ok(stream.synchronize()?)
    }))
}

fn through_cust() -> Result<Launches, Box<dyn Error>> {
    cust::init(cust::CudaFlags::empty())?;
    let context = Context::new(cust::device::Device::get_device(0)?)?;
    let module = Module::from_ptx(EMPTY, &[])?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    Ok(Box::new(move |count| {
        // Lives as long as what runs in it.
        let _context = &context;
        let function = module.get_function("empty")?;
        for number in 0..count as u32 {
            // SAFETY: the kernel takes one u32 and touches no memory.
            unsafe { cust::launch!(function<<<1, 32, 0, stream>>>(number)) }?;
        }
        Ok(stream.synchronize()?)
    }))
}

fn launches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("launches");
    for (name, open) in [("cudarc", through_cudarc as fn() -> _), ("cust", through_cust)] {
        let mut launch = match open() {
            Ok(launch) => launch,
            Err(error) => {
                eprintln!("launches through {name} cannot be timed: {error}");
                continue;
            }
        };
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let start = Instant::now();
                match launch(count) {
                    Ok(()) => start.elapsed(),
                    Err(error) => panic!("a launch through {name} failed: {error}"),
                }
                .max(Duration::from_nanos(1))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, launches);
criterion_main!(benches);
