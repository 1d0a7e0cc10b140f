//! Builds the CUDA kernels of `kernels/`, twice: for the GPU by nvcc (`build/cuda.rs`) and for the
//! CPU by the C++ compiler, against the emulator (`build/emulator.rs`).
//!
//! Neither compiler has to be there. Without nvcc the sources are embedded and NVRTC compiles them
//! at run time; without a C++ compiler there is no emulated device. A kernel that does not compile
//! with a compiler that is there fails the build.

#[path = "build/cache.rs"]
mod cache;
#[path = "build/cuda.rs"]
mod cuda;
#[cfg(feature = "emulator")]
#[path = "build/emulator.rs"]
mod emulator;

use std::path::{Path, PathBuf};
use std::{env, fs};

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

    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda::build(&paths);
    }
    #[cfg(feature = "emulator")]
    emulator::build(&paths);
}

/// The files directly in `folder` with this extension, sorted by name.
fn files_with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// The name of a file without its extension.
fn stem(path: &Path) -> &str {
    path.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
}
