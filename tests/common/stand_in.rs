//! The driver that stands in for NVIDIA's (`tests/stand_in/driver`), for programs and for tests.
//!
//! A process loads one driver, from the library path that it was started with. So a program that is to find this one is
//! started with [`command`], and a test that opens a card runs in a process of its own: [`alone!`] starts it there.
#![allow(dead_code, unused_macros, unused_imports)] // in tests that share other things
#![cfg(all(feature = "cuda", target_os = "linux"))]

use libloading::{Library, Symbol};
use std::ffi::{CString, OsStr, c_char};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Names the test that a process was started for.
const ALONE: &str = "NATV2_STAND_IN_TEST";
/// The exit code of a process in which the driver has found a fault.
pub const FAULT: i32 = 86;

/// The folder of the library, which `scripts/with-stand-in-driver` makes; `None` in builds without the emulator.
fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("bash");
        command.arg(root.join("scripts/with-stand-in-driver")).args(["--profile", profile()]);
        // The build is to be the one that this test is of.
        if !cfg!(natv2_fatbin) {
            command.env("NVCC", "none");
        }
        let output = command.arg("printenv").arg("LD_LIBRARY_PATH").output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = String::from_utf8(output.stdout).expect("UTF-8");
        PathBuf::from(path.split([':', '\n']).next().unwrap_or_default())
    };
    cfg!(natv2_emulator).then(|| FOLDER.get_or_init(make).as_path())
}

/// The profile that this test was built with, by the folder that it lies in.
fn profile() -> &'static str {
    static PROFILE: OnceLock<String> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let program = std::env::current_exe().expect("a path");
        // target/PROFILE/deps/PROGRAM
        let folder = program.ancestors().nth(2).and_then(Path::file_name).and_then(OsStr::to_str);
        match folder.expect("a folder of cargo's") {
            "debug" => "dev".to_owned(),
            other => other.to_owned(),
        }
    })
}

/// A program that finds the driver; `settings` are variables without their `NATV2_STAND_IN_`. `None` in builds
/// without the emulator.
pub fn command(program: impl AsRef<OsStr>, settings: &[(&str, &str)]) -> Option<Command> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("NATV2_STAND_IN_")) {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", folder()?);
    for (name, value) in settings {
        command.env(format!("NATV2_STAND_IN_{name}"), value);
    }
    Some(command)
}

/// `natv2` with the driver.
pub fn natv2(arguments: &[&str], settings: &[(&str, &str)]) -> Option<Command> {
    let settings = [&[("TERMINATED", "1")], settings].concat();
    let mut command = command(env!("CARGO_BIN_EXE_natv2"), &settings)?;
    command.args(arguments).env_remove("CUDA_HOME").env_remove("CUDA_PATH");
    // What NVRTC makes is not to be found here from earlier.
    command.env("NATV2_CACHE", env!("CARGO_TARGET_TMPDIR"));
    Some(command)
}

/// The rest of the test, in a process that was started for it and has the driver; the process that it was called in
/// starts that one and checks that it ends well, or with the fault that the test expects.
///
/// `alone!()`, `alone!(settings)`, or `alone!(settings, faults)` with parts of what the driver is to find. `None` where
/// the other process has done it, or where there is nothing to do it with.
macro_rules! alone {
    () => {
        $crate::common::stand_in::alone!(&[])
    };
    ($settings:expr) => {
        $crate::common::stand_in::alone!($settings, &[])
    };
    ($settings:expr, $faults:expr) => {{
        fn here() {}
        $crate::common::stand_in::Driver::alone(std::any::type_name_of_val(&here), $settings, $faults)
    }};
}
pub(crate) use alone;

/// The driver in this process, which was started for one test.
pub struct Driver(Library);

impl Driver {
    /// See [`alone!`]. `function` is the path of a function inside the test.
    pub fn alone(function: &str, settings: &[(&str, &str)], faults: &[&str]) -> Option<Driver> {
        // Without the program's name in front, and without the function's behind.
        let test = function.split_once("::").and_then(|(_, test)| test.rsplit_once("::"));
        let test = test.expect("a function inside a test").0;
        if std::env::var(ALONE).is_ok_and(|name| name == test) {
            // SAFETY: loads the library that cudarc is about to load.
            return Some(Driver(unsafe { Library::new("libcuda.so.1") }.expect("the driver")));
        }
        // Code for a card is what the driver reads; a real card is tested by itself.
        if !cfg!(natv2_fatbin) || std::env::var_os("NATV2_TEST_DEVICE").is_some() {
            return None;
        }
        let program = std::env::current_exe().expect("a path");
        let mut command = command(program, settings)?;
        command.args([test, "--exact", "--nocapture", "--test-threads", "1"]).env(ALONE, test);
        // One at a time: each has all processors for its kernels.
        static ONE: Mutex<()> = Mutex::new(());
        let output = {
            let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            command.output().expect("this program")
        };
        let said = text(&output);
        // What touches memory that is none does not come to its end.
        let ended = said.contains("1 passed") || said.contains("stand-in driver: the process is stopped");
        assert!(ended, "{test} did not pass:\n{said}");
        let code = if faults.is_empty() { 0 } else { FAULT };
        assert_eq!(output.status.code(), Some(code), "{test}:\n{said}");
        let found = |fault: &str| {
            said.lines().any(|line| line.contains("stand-in driver: fault: ") && line.contains(fault))
        };
        for fault in faults {
            assert!(found(fault), "{test} finds no {fault:?}:\n{said}");
        }
        None
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is its type.
    unsafe fn function<F>(&self, name: &str) -> Symbol<'_, F> {
        // SAFETY: the caller's promise.
        unsafe { self.0.get(name) }.unwrap_or_else(|error| panic!("{error}"))
    }

    /// How often a symbol was called, or something else was counted.
    pub fn count(&self, what: &str) -> u64 {
        let name = CString::new(what).expect("no NUL");
        // SAFETY: the type is the library's (`driver/control.rs`), as for those below; the name lives through the call.
        unsafe {
            self.function::<unsafe extern "C" fn(*const c_char) -> u64>("natv2_stand_in_count")(name.as_ptr())
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
        // SAFETY: as above.
        unsafe { self.function::<unsafe extern "C" fn(usize)>("natv2_stand_in_memory")(bytes) }
    }

    /// Another interleaving of the streams from now on.
    pub fn set_seed(&self, seed: u64) {
        // SAFETY: as above.
        unsafe { self.function::<unsafe extern "C" fn(u64)>("natv2_stand_in_seed")(seed) }
    }

    /// Bytes of the card that are taken.
    pub fn used(&self) -> usize {
        // SAFETY: as above.
        unsafe { self.function::<unsafe extern "C" fn() -> usize>("natv2_stand_in_used")() }
    }
}

/// What a program has printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
