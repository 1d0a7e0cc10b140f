//! GPU images of the kernels, by nvcc.
//!
//! Writes `OUT_DIR/kernels.rs`: the sources and headers, for NVRTC, and where nvcc was found one
//! fatbin per source file. `cfg(natv2_fatbin)` says whether the fatbins are there, `ARCHITECTURES` what
//! for: `NATV2_CUDA_ARCHS` in the environment, or the default of `build/architectures.rs`.
//! `NATV2_LINEINFO=0` leaves out the line numbers that profilers show, which are half of a fatbin.
//!
//! `KERNELS` is the table of the kernels' names, each with its file (`build/kernel_names.rs`).
//!
//! nvcc is looked for in the environment: `NVCC` (a path, or `none` for not at all), `CUDA_HOME`
//! and `CUDA_PATH` (`bin/nvcc`), `PATH`, and then `/usr/local/cuda/bin`.

use crate::architectures::{self, Architecture};
use crate::cache::Key;
use crate::files::{kernel_files, kernel_folders, stem};
use crate::kernel_names::kernel_names;
use crate::{Paths, side_by_side};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compiles every file of kernels and writes `kernels.rs`.
pub fn build(paths: &Paths) {
    let sources = kernel_files(&paths.kernels, "cu");
    let headers = kernel_files(&paths.kernels, "cuh");
    let nvcc = find_nvcc();
    let (architectures, flags) = asked_for();
    let mut release = None;
    if let Some(nvcc) = &nvcc {
        let version = version_of(nvcc).expect("find_nvcc has asked it");
        release = architectures::release(&version);
        compile_all(&Compiler { nvcc, version: &version, flags: &flags }, paths, &sources, &headers);
        println!("cargo::rustc-cfg=natv2_fatbin");
    }

    let mut text = String::from("// Written by build/cuda.rs.\n");
    let compiled: Vec<&str> = match nvcc {
        Some(_) => architectures.iter().map(Architecture::name).collect(),
        None => Vec::new(),
    };
    let _ = writeln!(text, "pub static ARCHITECTURES: &[&str] = &{compiled:?};");
    let _ = writeln!(text, "pub static RELEASE: Option<(u32, u32)> = {release:?};");
    text.push_str("pub static SOURCES: &[KernelSource] = &[\n");
    for source in &sources {
        let fatbin = match nvcc {
            Some(_) => format!("Some(include_bytes!({:?}))", fatbin_path(paths, source)),
            None => "None".to_owned(),
        };
        let _ = writeln!(
            text,
            "    KernelSource {{ name: {:?}, text: include_str!({source:?}), fatbin: {fatbin} }},",
            stem(source)
        );
    }
    text.push_str("];\npub static HEADERS: &[KernelHeader] = &[\n");
    for header in &headers {
        let name = format!("{}.cuh", stem(header));
        let _ = writeln!(text, "    KernelHeader {{ name: {name:?}, text: include_str!({header:?}) }},");
    }
    text.push_str("];\npub static KERNELS: &[(&str, usize)] = &[\n");
    for (name, file) in table_of_kernels(&sources, &headers) {
        let _ = writeln!(text, "    ({name:?}, {file}),");
    }
    text.push_str("];\n");
    let file = paths.out.join("kernels.rs");
    fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}

/// nvcc, and how it is called.
struct Compiler<'a> {
    nvcc: &'a Path,
    /// What `nvcc --version` says.
    version: &'a str,
    flags: &'a [String],
}

/// The architectures that the environment asks for, and nvcc's flags for them.
fn asked_for() -> (Vec<Architecture>, Vec<String>) {
    let variable = |name: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var(name).ok()
    };
    let architectures = architectures::parse(&variable("NATV2_CUDA_ARCHS").unwrap_or_default())
        .unwrap_or_else(|message| panic!("{message}"));
    let line_information = architectures::wants_line_information(variable("NATV2_LINEINFO").as_deref());
    let flags = architectures::flags(&architectures, line_information);
    (architectures, flags)
}

/// All kernels by name, each with the number of its file.
fn table_of_kernels(sources: &[PathBuf], headers: &[PathBuf]) -> BTreeMap<String, usize> {
    let header = |name: &str| {
        let file = headers.iter().find(|file| file.file_name().is_some_and(|found| found == name))?;
        fs::read_to_string(file).ok()
    };
    let mut table = BTreeMap::new();
    for (file, source) in sources.iter().enumerate() {
        let text = fs::read_to_string(source)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
        let names = kernel_names(&text, &header).unwrap_or_else(|message| {
            panic!("{}: the names of its kernels cannot be told: {message}", source.display())
        });
        for name in names {
            assert!(!table.contains_key(&name), "{}: there are two kernels named {name}", source.display());
            table.insert(name, file);
        }
    }
    table
}

fn fatbin_path(paths: &Paths, source: &Path) -> PathBuf {
    paths.out.join(format!("{}.fatbin", stem(source)))
}

/// What `nvcc --version` says, or `None` where that cannot be run.
fn version_of(nvcc: &Path) -> Option<String> {
    let output = Command::new(nvcc).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn find_nvcc() -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=NVCC");
    let mut candidates = Vec::new();
    if let Some(path) = env::var_os("NVCC").filter(|path| !path.is_empty()) {
        if path == "none" {
            return None;
        }
        let path = PathBuf::from(path);
        // Asked for by name: a slip here must not quietly give a build without GPU images.
        assert!(
            version_of(&path).is_some(),
            "NVCC is {}, which cannot be run; give the path of nvcc, or NVCC=none to build without it",
            path.display()
        );
        candidates.push(path);
    } else {
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            println!("cargo::rerun-if-env-changed={name}");
            candidates.extend(env::var_os(name).map(|folder| Path::new(&folder).join("bin/nvcc")));
        }
        println!("cargo::rerun-if-env-changed=PATH");
        if let Some(path) = env::var_os("PATH") {
            candidates.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
        }
        candidates.push(PathBuf::from("/usr/local/cuda/bin/nvcc"));
    }
    let found = candidates.into_iter().find(|path| path.is_file() && version_of(path).is_some())?;
    println!("cargo::rerun-if-changed={}", found.display());
    Some(found)
}

fn compile_all(compiler: &Compiler<'_>, paths: &Paths, sources: &[PathBuf], headers: &[PathBuf]) {
    let mut common = Key::new().add(compiler.version.as_bytes()).add(compiler.flags.join(" ").as_bytes());
    for header in headers {
        common = common.add_file(header);
    }
    let outdated: Vec<(&PathBuf, PathBuf, Key)> = sources
        .iter()
        .map(|source| (source, fatbin_path(paths, source), common.clone().add_file(source)))
        .filter(|(_, fatbin, key)| !key.is_key_of(fatbin))
        .collect();

    let mut failures = Vec::new();
    let folders = kernel_folders(&paths.kernels);
    let results = side_by_side(&outdated, |(source, fatbin, _)| compile(compiler, &folders, source, fatbin));
    for ((_, fatbin, key), result) in outdated.iter().zip(results) {
        match result {
            Ok(()) => key.note(fatbin),
            Err(message) => failures.push(message),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn compile(compiler: &Compiler<'_>, folders: &[PathBuf], source: &Path, fatbin: &Path) -> Result<(), String> {
    let nvcc = compiler.nvcc;
    let mut command = Command::new(nvcc);
    command.args(compiler.flags);
    for folder in folders {
        command.arg("-I").arg(folder);
    }
    command.arg("-o").arg(fatbin).arg(source);
    let output = command.output().map_err(|error| format!("cannot run {}: {error}", nvcc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{} does not compile {} (build with NVCC=none to do without GPU images):\n{}{}",
        nvcc.display(),
        source.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
