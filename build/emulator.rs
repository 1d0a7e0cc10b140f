//! The kernels for the CPU: those of `kernels/` and the emulator, by the C++ compiler.
//!
//! Makes the static library `natv2_emulator`, linked whole, because a kernel is found by a static
//! object that registers it and that nothing refers to. `cfg(natv2_emulator)` says that it is
//! there; where no C++ compiler works, a warning says so and the build goes on without it.
//!
//! A second library, `natv2_emulator_samples`, holds the emulator's own sample kernels; only the
//! program `tests/device` links it.

use crate::cache::Key;
use crate::files::{files_with_extension, kernel_files, kernel_folders, stem};
use crate::{Paths, side_by_side};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Compiles and links the emulator, if there is a compiler.
pub fn build(paths: &Paths) {
    let folder = paths.kernels.join("emulator");
    if env::var_os("CARGO_CFG_UNIX").is_none() {
        println!("cargo::warning=no emulated device: the emulator needs a Unix system");
        return;
    }
    if let Err(reason) = try_compiler(&paths.out) {
        println!(
            "cargo::warning=no emulated device: no working C++17 compiler ({reason}); install one, set CXX, or \
             build with --no-default-features --features cuda"
        );
        return;
    }

    let mut headers = files_with_extension(&folder, "h");
    headers.extend(kernel_files(&paths.kernels, "cuh"));
    let mut sources = files_with_extension(&folder, "cpp");
    sources.extend(kernel_files(&paths.kernels, "cu"));
    let objects = compile(paths, &sources, &headers);
    cc::Build::new()
        .cpp(true)
        .objects(&objects)
        .link_lib_modifier("+whole-archive")
        .compile("natv2_emulator");
    println!("cargo::rustc-cfg=natv2_emulator");

    let samples = folder.join("tests/samples.cu");
    if samples.is_file() {
        let objects = compile(paths, &[samples], &headers);
        // The folder is on the search path already; the test names the library itself.
        cc::Build::new().cpp(true).cargo_metadata(false).objects(&objects).compile("natv2_emulator_samples");
    }
}

/// Whether the C++ compiler that `cc` picks makes an object of a small program.
fn try_compiler(out: &Path) -> Result<(), String> {
    let file = out.join("try_compiler.cpp");
    let program =
        "#include <mutex>\nint natv2_try() { std::mutex m; std::lock_guard<std::mutex> l(m); return 0; }\n";
    fs::write(&file, program).map_err(|error| error.to_string())?;
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").cargo_metadata(false).cargo_warnings(false).file(&file);
    let tool = build.try_get_compiler().map_err(|error| error.to_string())?;
    build
        .try_compile_intermediates()
        .map(drop)
        .map_err(|_| format!("{} does not work", tool.path().display()))
}

/// The compiler with all flags but the source.
fn compiler(paths: &Paths) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .cargo_metadata(false)
        .define("NATV2_EMULATOR", None)
        .include(paths.kernels.join("emulator"))
        .includes(kernel_folders(&paths.kernels))
        .opt_level(2)
        // Kernels read pairs of halves as words, as CUDA code does.
        .flag("-fno-strict-aliasing")
        // nvcc fuses a * b + c; so does this, where the target has the instruction.
        .flag("-ffp-contract=fast")
        .flag_if_supported("-Wno-unknown-pragmas");
    // Lines, as the profiles have it: the variables of unrolled kernels take a third of the compiler's time.
    if env::var("DEBUG").is_ok_and(|debug| debug != "false") {
        build.debug(false).flag_if_supported("-g1");
    }
    if let Some(root) = paths.kernels.parent() {
        build.flag_if_supported(format!("-ffile-prefix-map={}/=", root.display()));
    }
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    for (feature, flag) in [("avx2", "-mavx2"), ("fma", "-mfma"), ("f16c", "-mf16c")] {
        if features.split(',').any(|has| has == feature) {
            build.flag(flag);
        }
    }
    build
}

/// Objects of the sources, those that are up to date from last time.
fn compile(paths: &Paths, sources: &[PathBuf], headers: &[PathBuf]) -> Vec<PathBuf> {
    let base = compiler(paths);
    let tool = base.get_compiler();
    let mut common = Key::new();
    for part in
        std::iter::once(tool.path().as_os_str()).chain(tool.args().iter().map(|flag| flag.as_os_str()))
    {
        common = common.add(part.as_encoded_bytes());
    }
    for header in headers {
        common = common.add_file(header);
    }
    side_by_side(sources, |source| {
        let key = common.clone().add_file(source);
        let kind = source.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let product = paths.out.join(format!("{}.{kind}.o", stem(source)));
        if !key.is_key_of(&product) {
            let mut build = base.clone();
            if kind == "cu" {
                build.flag("-xc++");
            }
            let made = build.file(source).try_compile_intermediates().unwrap_or_else(|error| {
                panic!("the C++ compiler does not compile {}: {error}", source.display())
            });
            fs::copy(&made[0], &product)
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", product.display()));
            key.note(&product);
        }
        product
    })
}
