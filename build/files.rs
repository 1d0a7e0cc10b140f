//! Which files of `kernels/` there are.
//!
//! A folder a role. The names of files are told apart without it: images, objects and `#include` go by them.
//! `tests/build_script.rs` includes this file too.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the emulator, which has no kernels of natv2.
const EMULATOR: &str = "emulator";

/// The folders of kernels and their headers, sorted: those in which the compilers look for headers.
pub fn kernel_folders(kernels: &Path) -> Vec<PathBuf> {
    listed(kernels, |path| path.is_dir() && path.file_name().is_some_and(|name| name != EMULATOR))
}

/// The files of those folders with this extension, sorted by name.
///
/// # Panics
/// Two have the same name, or one lies outside the folders, where nothing would look for it.
pub fn kernel_files(kernels: &Path, extension: &str) -> Vec<PathBuf> {
    if let Some(stray) = files_with_extension(kernels, extension).first() {
        panic!(
            "{}: a kernel's file belongs in the folder of its role; see kernels/README.md",
            stray.display()
        );
    }
    let folders = kernel_folders(kernels);
    let mut files: Vec<PathBuf> =
        folders.iter().flat_map(|folder| files_with_extension(folder, extension)).collect();
    files.sort_by(|a, b| stem(a).cmp(stem(b)));
    for pair in files.windows(2) {
        let [first, second] = [&pair[0], &pair[1]];
        assert!(stem(first) != stem(second), "{} and {} have one name", first.display(), second.display());
    }
    files
}

/// The files directly in `folder` with this extension, sorted by name.
pub fn files_with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    listed(folder, |path| path.extension().is_some_and(|found| found == extension))
}

/// What is directly in `folder` and wanted, sorted.
fn listed(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut found = read().unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    found.retain(|path| wanted(path));
    found.sort();
    found
}

/// The name of a file without its extension.
pub fn stem(path: &Path) -> &str {
    path.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
}
