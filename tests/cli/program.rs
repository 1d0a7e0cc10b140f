//! How the tests run the program, and what they give it.

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

pub const WEIGHTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits.safetensors");

/// What the program left behind.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn natv2(arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome = Outcome {
        code: output.status.code().expect("the program was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!outcome.stderr.contains("panicked"), "{arguments:?}: {}", outcome.stderr);
    outcome
}

/// Standard output of a run that must succeed.
#[track_caller]
pub fn succeeds(arguments: &[&str]) -> String {
    let outcome = natv2(arguments);
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

#[track_caller]
pub fn json_of(arguments: &[&str]) -> Value {
    let text = succeeds(arguments);
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))
}

/// A run that must fail with this code, nothing on standard output, and one error that contains
/// all `parts`.
#[track_caller]
pub fn fails(code: i32, arguments: &[&str], parts: &[&str]) {
    let outcome = natv2(arguments);
    assert_eq!(outcome.code, code, "{arguments:?}: {}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.stdout, "", "{arguments:?}");
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{arguments:?}: {}", outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{arguments:?}: no {part:?} in: {}", outcome.stderr);
    }
}

/// A folder that goes away with the test.
pub struct Scratch(pub tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.path(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        self.path(name)
    }
}

/// A small network of the built-in super-network.
pub fn small() -> Value {
    json!({"r": 32, "ks": vec![3; 20], "e": vec![3; 20], "d": [2, 2, 2, 2, 2]})
}

pub fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut arch = small();
    change(&mut arch);
    arch.to_string()
}
