//! The driver of paper as a library: made, loaded, and asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the library, made once; `None` where there is no compiler.
pub fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = || {
        // In a folder of the name that tells a stub, for the one who looks at names.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver/stubs");
        std::fs::create_dir_all(&folder).expect("a folder");
        let library = folder.join(format!("libcuda.{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/driver/driver.cpp");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let output = Command::new(compiler)
            .args([
                "-std=c++17",
                "-O1",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Wextra",
                "-Wl,-soname,libcuda.so",
                "-o",
            ])
            .arg(&library)
            .arg(&source)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                std::fs::rename(&library, folder.join("libcuda.so")).expect("a library");
                Some(folder)
            }
            Ok(output) if cfg!(natv2_emulator) => {
                panic!("the C++ compiler does not make it: {}", String::from_utf8_lossy(&output.stderr))
            }
            _ => None,
        }
    };
    FOLDER.get_or_init(made).as_deref()
}

#[cfg(all(natv2_emulator, natv2_fatbin))]
pub use driver::Driver;

#[cfg(all(natv2_emulator, natv2_fatbin))]
mod driver {
    use super::folder;
    use libloading::{Library, Symbol};
    use std::ffi::{CString, c_char, c_int, c_void};
    use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

    unsafe extern "C" {
        fn natv2_emulator_find(name: *const c_char, info: *mut c_void) -> c_int;
        fn natv2_emulator_launch(request: *const c_void, message: *mut c_char, bytes: usize) -> c_int;
    }

    /// The driver, for one test at a time.
    pub struct Driver(&'static Library, #[expect(dead_code)] MutexGuard<'static, ()>);

    impl Driver {
        /// Loads it with the emulator's kernels and 1 GiB, and waits until no other test has it. `None` where a real
        /// card is to be tested: a process has one driver.
        pub fn new() -> Option<Driver> {
            if std::env::var("NATV2_TEST_DEVICE").is_ok_and(|device| device.starts_with("cuda")) {
                return None;
            }
            static LIBRARY: OnceLock<Library> = OnceLock::new();
            static ONE: Mutex<()> = Mutex::new(());
            let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let load = || {
                let path = folder().expect("the compiler of the emulator").join("libcuda.so");
                // SAFETY: its constructors do nothing but make maps. Whoever asks for libcuda.so finds it by its name.
                let library = unsafe { Library::new(path) }.expect("the library");
                type Find = unsafe extern "C" fn(*const c_char, *mut c_void) -> c_int;
                type Launch = unsafe extern "C" fn(*const c_void, *mut c_char, usize) -> c_int;
                // SAFETY: the signatures are those of the library and of the emulator.
                unsafe {
                    let emulate: Symbol<'_, unsafe extern "C" fn(Find, Launch)> =
                        library.get(b"fake_driver_emulate").expect("a symbol");
                    emulate(natv2_emulator_find, natv2_emulator_launch);
                }
                library
            };
            let driver = Driver(LIBRARY.get_or_init(load), one);
            driver.set_memory(1 << 30);
            Some(driver)
        }

        /// How often it was asked for that, or it came to that.
        pub fn count(&self, what: &str) -> u64 {
            let name = CString::new(what).expect("no NUL");
            // SAFETY: the signature is the library's.
            unsafe {
                let count: Symbol<'_, unsafe extern "C" fn(*const c_char) -> u64> =
                    self.0.get(b"fake_driver_count").expect("a symbol");
                count(name.as_ptr())
            }
        }

        /// How often `work` makes the driver do that.
        pub fn counted<T>(&self, what: &str, work: impl FnOnce() -> T) -> (T, u64) {
            let before = self.count(what);
            let result = work();
            (result, self.count(what) - before)
        }

        /// Bytes of the card from now on.
        pub fn set_memory(&self, bytes: usize) {
            // SAFETY: the signature is the library's.
            unsafe {
                let set: Symbol<'_, unsafe extern "C" fn(usize)> =
                    self.0.get(b"fake_driver_memory").expect("a symbol");
                set(bytes);
            }
        }

        /// Bytes of the card that are taken.
        pub fn used(&self) -> usize {
            // SAFETY: the signature is the library's.
            unsafe {
                let used: Symbol<'_, unsafe extern "C" fn() -> usize> =
                    self.0.get(b"fake_driver_used").expect("a symbol");
                used()
            }
        }
    }
}
