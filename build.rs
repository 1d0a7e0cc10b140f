//! Builds the CUDA kernels of `kernels/`, twice: for the GPU by nvcc (`build/cuda.rs`) and for the
//! CPU by the C++ compiler, against the emulator (`build/emulator.rs`).
//!
//! Neither compiler has to be there. Without nvcc the sources are embedded and NVRTC compiles them
//! at run time; without a C++ compiler there is no emulated device. A kernel that does not compile
//! with a compiler that is there fails the build.

#[path = "build/architectures.rs"]
mod architectures;
#[path = "build/cache.rs"]
mod cache;
#[path = "build/cuda.rs"]
mod cuda;
#[cfg(feature = "emulator")]
#[path = "build/emulator.rs"]
mod emulator;
#[path = "build/files.rs"]
mod files;
#[path = "build/kernel_names.rs"]
mod kernel_names;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

/// Where things are.
struct Paths {
    /// `kernels/`, absolute.
    kernels: PathBuf,
    /// Cargo's folder for what a build script makes.
    out: PathBuf,
}

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let paths = Paths {
        kernels: manifest.join("kernels"),
        out: PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")),
    };
    println!("cargo::rustc-check-cfg=cfg(natv2_fatbin)");
    println!("cargo::rustc-check-cfg=cfg(natv2_emulator)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=kernels");
    // The name by which programs that are linked to the driver ask for it; the one example stands in for it.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-examples=-Wl,-soname,libcuda.so.1");
    }

    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda::build(&paths);
    }
    #[cfg(feature = "emulator")]
    emulator::build(&paths);
}

/// What `work` makes of each item, in their order; as many at a time as cargo allows.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize).max(1);
    let next = AtomicUsize::new(0);
    // Each takes the next item when done with one: a compilation takes from one second to one minute.
    let take = || {
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return made };
            made.push((index, work(item)));
        }
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let running: Vec<_> = (0..jobs.min(items.len())).map(|_| scope.spawn(take)).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    results.sort_by_key(|&(index, _)| index);
    results.into_iter().map(|(_, result)| result).collect()
}
