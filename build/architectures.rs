//! The architectures that nvcc compiles for, and the flags that say so.
//!
//! `tests/scripts/build_script.rs` includes this file too.

/// What is compiled for by default: machine code for sm_80 and sm_90, and PTX that newer cards translate.
pub const DEFAULT: &str = "sm_80,sm_90,compute_80";

/// An architecture: `sm_90` for machine code, or `compute_80` for PTX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    name: String,
    /// What is behind `sm_` or `compute_`.
    number: String,
}

/// The architectures of a list such as `sm_90` or `sm_80,compute_80`, separated by commas or spaces; those of
/// [`DEFAULT`] where the list is empty.
///
/// # Errors
/// A sentence that says which name is none.
pub fn parse(list: &str) -> Result<Vec<Architecture>, String> {
    let list = if list.trim().is_empty() { DEFAULT } else { list };
    let mut found: Vec<Architecture> = Vec::new();
    for name in list.split([',', ' ']).filter(|name| !name.is_empty()) {
        let number = name.strip_prefix("sm_").or_else(|| name.strip_prefix("compute_")).unwrap_or_default();
        let digits = number.trim_end_matches(['a', 'f']);
        let is_one = digits.len() >= 2
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && number.len() <= digits.len() + 1;
        if !is_one {
            return Err(format!(
                "NATV2_CUDA_ARCHS names {name:?}, which is no architecture; give names such as sm_90 (machine \
                 code) or compute_80 (PTX), separated by commas"
            ));
        }
        let architecture = Architecture { name: name.to_owned(), number: number.to_owned() };
        if !found.contains(&architecture) {
            found.push(architecture);
        }
    }
    if found.is_empty() { parse(DEFAULT) } else { Ok(found) }
}

/// nvcc's flags for a fatbin of these architectures.
pub fn flags(architectures: &[Architecture], line_information: bool) -> Vec<String> {
    let mut flags = vec!["-std=c++17".to_owned(), "-O3".to_owned()];
    if line_information {
        flags.push("-lineinfo".to_owned());
    }
    // Compressed, images are a fifth as large; the driver unpacks what it loads.
    flags.extend(["-fatbin", "-Xfatbin", "-compress-all"].map(str::to_owned));
    flags.extend(
        architectures
            .iter()
            .map(|Architecture { name, number }| format!("-gencode=arch=compute_{number},code={name}")),
    );
    flags
}

/// The version of the toolkit, major and minor, that is in what `nvcc --version` says.
pub fn release(version: &str) -> Option<(u32, u32)> {
    let (_, behind) = version.split_once("release ")?;
    let (major, behind) = behind.split_once('.')?;
    let minor = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether the value of `NATV2_LINEINFO` asks for line information, which it does unless it is 0.
pub fn wants_line_information(value: Option<&str>) -> bool {
    value.is_none_or(|value| value.trim() != "0")
}

impl Architecture {
    /// Its name, as `sm_90`.
    pub fn name(&self) -> &str {
        &self.name
    }
}
