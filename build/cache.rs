//! Skips a compilation whose inputs have not changed since the last one.
//!
//! Cargo runs the whole build script when any file it watches changes. A kernel's result is kept
//! with a key, the hash of everything that went into it, and made again only if the key differs.

use std::fs;
use std::path::{Path, PathBuf};

/// A 64-bit FNV-1a hash of texts and files.
#[derive(Clone)]
pub struct Key(u64);

impl Key {
    /// The key of nothing.
    pub fn new() -> Key {
        Key(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes, with their length.
    pub fn add(mut self, bytes: &[u8]) -> Key {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Adds the contents of a file.
    pub fn add_file(self, path: &Path) -> Key {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        self.add(&bytes)
    }

    /// Whether `product` was made with this key.
    pub fn is_key_of(&self, product: &Path) -> bool {
        product.is_file() && fs::read_to_string(beside(product)).is_ok_and(|text| text == self.text())
    }

    /// Notes that `product` has been made with this key.
    pub fn note(&self, product: &Path) {
        let file = beside(product);
        fs::write(&file, self.text())
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}

fn beside(product: &Path) -> PathBuf {
    let mut name = product.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}
