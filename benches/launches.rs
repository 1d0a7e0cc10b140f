//! What a launch costs through `cudarc`, which this program runs on, and through `cust`: the same empty
//! kernel on the same card, one launch behind the other on one stream, with one wait at the end.
//!
//! Built with the feature `cust` alone, where there is a driver to link: `cust` does not load it at run time as
//! cudarc does. See `benches/README.md`.
//!
//! Where the driver finds no card nothing is timed, and a line says so. Where one of the two libraries does not
//! get as far as a launch, the program fails.

use criterion::{BenchmarkId, Criterion};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use cust::context::Context;
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use natv2::device::cuda::{CudaError, probe};
use std::error::Error;
use std::process::ExitCode;
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

/// What launches through `cust` need. Fields are dropped from first to last, and what is in a context has to go
/// before the context does.
struct Opened {
    stream: Stream,
    module: Module,
    _context: Context,
}

impl Opened {
    fn launch(&self, count: u64) -> Result<(), Box<dyn Error>> {
        let (function, stream) = (self.module.get_function("empty")?, &self.stream);
        for number in 0..count as u32 {
            // SAFETY: the kernel takes one u32 and touches no memory.
            unsafe { cust::launch!(function<<<1, 32, 0, stream>>>(number)) }?;
        }
        Ok(stream.synchronize()?)
    }
}

fn through_cust() -> Result<Launches, Box<dyn Error>> {
    cust::init(cust::CudaFlags::empty())?;
    let context = Context::new(cust::device::Device::get_device(0)?)?;
    let module = Module::from_ptx(EMPTY, &[])?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let opened = Opened { stream, module, _context: context };
    Ok(Box::new(move |count| opened.launch(count)))
}

/// Times both libraries on the first card.
fn launches() -> Result<(), Box<dyn Error>> {
    let card = match probe() {
        Ok(driver) => driver.cards.into_iter().next().ok_or(CudaError::NoCard),
        Err(error) => Err(error),
    };
    let card = match card {
        Ok(card) => card,
        Err(error @ CudaError::NoCard) => {
            eprintln!("launches: nothing is timed: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("launches");
    for (name, open) in [("cudarc", through_cudarc as fn() -> _), ("cust", through_cust)] {
        let mut launch =
            open().map_err(|error| format!("nothing can be launched through {name}: {error}"))?;
        group.bench_function(BenchmarkId::new(&card.name, name), |bencher| {
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
    criterion.final_summary();
    Ok(())
}

fn main() -> ExitCode {
    match launches() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launches: {error}");
            ExitCode::FAILURE
        }
    }
}
