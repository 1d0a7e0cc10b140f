//! The programs of other makers that natv2 builds or runs with.

use super::doctor::{Finding, State};
use std::path::{Path, PathBuf};
use std::process::Command;

/// nvcc where the build looks for it, a C++ compiler, and MPI.
pub(super) fn tools() -> Vec<Finding> {
    let folders = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let nvcc = (std::env::var_os("NVCC").map(PathBuf::from).into_iter())
        .chain(folders.map(|folder| Path::new(&folder).join("bin/nvcc")))
        .chain(on_path("nvcc"))
        .chain([PathBuf::from("/usr/local/cuda/bin/nvcc")])
        .find_map(|path| version(&path));
    let compiler = std::env::var_os("CXX").map(PathBuf::from).into_iter().chain(on_path("c++"));
    vec![
        finding("nvcc", nvcc, "only needed to build natv2 with compiled kernels: install the CUDA toolkit"),
        finding(
            "C++ compiler",
            compiler.into_iter().find_map(|path| version(&path)),
            "only needed to build natv2 with the emulated device: install g++",
        ),
        finding(
            "MPI",
            on_path("mpiexec").into_iter().find_map(|path| version(&path)),
            "not needed: this version runs in one process",
        ),
    ]
}

fn finding(name: &str, found: Option<String>, missing: &str) -> Finding {
    match found {
        Some(version) => Finding::new(name, State::Ok, version),
        None => Finding::new(name, State::Missing, "not found").remedy(missing),
    }
}

/// Where PATH has a program.
fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).filter(|file| file.is_file()).collect()
}

/// The path, and the line of `--version` that has a digit, which is the one that says it.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let telling = |line: &&str| line.contains("release") || line.contains(|c: char| c.is_ascii_digit());
    let named = text.lines().find(|line| line.contains("release")).or(text.lines().find(telling));
    Some(format!("{}: {}", program.display(), named.unwrap_or("of unknown version").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_tells_its_version_and_others_are_missing() {
        let cargo = version(Path::new(env!("CARGO"))).expect("cargo built this test");
        assert!(cargo.contains("cargo "), "{cargo}");
        assert_eq!(version(Path::new("/nowhere/nvcc")), None);
        assert!(on_path("no-program-of-this-name").is_empty());
    }
}
