//! Which driver library was loaded.
//!
//! The loader takes the first `libcuda.so` on its path. A toolkit has one too, in a folder `stubs`: programs are
//! linked against it where there is no driver, and every call of it fails. Where that folder is on the path it comes
//! before the driver's own.

use std::path::{Component, Path, PathBuf};

/// A driver library in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverLibrary {
    /// The file.
    pub path: PathBuf,
    /// Whether it is a toolkit's stub, which runs nothing.
    pub stub: bool,
}

/// The driver library that [`probe`](super::probe) has loaded; `None` where there is none, or the system does not
/// tell.
pub fn driver_library() -> Option<DriverLibrary> {
    find(&std::fs::read_to_string("/proc/self/maps").ok()?)
}

/// The driver library among the files that a process has mapped, as Linux lists them.
fn find(maps: &str) -> Option<DriverLibrary> {
    let path = maps.lines().find_map(|line| {
        let path = Path::new(line.get(line.find('/')?..)?.trim_end_matches(" (deleted)"));
        let name = path.file_name()?.to_str()?;
        (name == "libcuda.so" || name.starts_with("libcuda.so.")).then_some(path)
    })?;
    let stub = path.components().any(|part| part == Component::Normal("stubs".as_ref()));
    Some(DriverLibrary { path: path.to_owned(), stub })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 1 /usr/bin/natv2
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000002000 r-xp 00000000 fe:00 2 /usr/lib/libcudart.so.13
7f0000002000-7f0000003000 r-xp 00000000 fe:00 3 /usr/lib/libcudadebugger.so.1
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
";

    #[test]
    fn the_driver_is_found_among_the_files_and_told_from_a_stub() {
        assert_eq!(find(OTHERS), None);
        assert_eq!(find(""), None);
        let with = |path: &str| find(&format!("{OTHERS}7f00-7f01 r--p 00000000 fe:00 4    {path}\n"));
        let driver = with("/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.03").expect("a driver");
        assert_eq!(driver.path, Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.03"));
        assert!(!driver.stub);
        let stub = with("/usr/local/cuda 13/lib64/stubs/libcuda.so (deleted)").expect("a stub");
        assert_eq!(stub.path, Path::new("/usr/local/cuda 13/lib64/stubs/libcuda.so"));
        assert!(stub.stub);
    }
}
