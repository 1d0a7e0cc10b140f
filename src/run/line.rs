//! Sealed lines: the record format of the journal and of the caches.
//!
//! A line is one JSON object whose last field, `check`, is the 64-bit FNV-1a of the object without
//! it, in 16 hexadecimal digits. So a reader tells a whole line from one that was torn by a crash
//! or changed by a bad disk, and any JSON tool still reads the file.

use serde::Serialize;

use crate::random::fnv1a64;

const FIELD: &str = r#","check":""#;
const TAIL: usize = FIELD.len() + 16 + r#""}"#.len();

/// The sealed line of an object that has at least one field, with its line end.
pub(super) fn seal(object: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(object)?;
    let check = fnv1a64(text.as_bytes());
    text.pop();
    text.push_str(&format!("{FIELD}{check:016x}\"}}\n"));
    Ok(text)
}

/// The object of a sealed line, or what is wrong with the line.
pub(super) fn unseal(line: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8 text")?;
    let cut = text.len().checked_sub(TAIL).ok_or("too short for a record")?;
    let tail = text.get(cut..).filter(|tail| tail.starts_with(FIELD) && tail.ends_with("\"}"));
    let check =
        tail.and_then(|tail| tail.get(FIELD.len()..FIELD.len() + 16)).ok_or("no checksum at its end")?;
    let object = format!("{}}}", &text[..cut]);
    if format!("{:016x}", fnv1a64(object.as_bytes())) != check {
        return Err("its checksum does not match");
    }
    Ok(object)
}

/// The lines of a file.
pub(super) struct Lines<'a> {
    /// Whole lines, without their ends.
    pub(super) whole: Vec<&'a [u8]>,
    /// Bytes up to the end of the last whole line.
    pub(super) length: usize,
    /// What follows the last line end: empty, or a line that was being written.
    pub(super) rest: &'a [u8],
}

pub(super) fn lines(bytes: &[u8]) -> Lines<'_> {
    let length = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let whole = match length {
        0 => Vec::new(),
        _ => bytes[..length - 1].split(|&b| b == b'\n').collect(),
    };
    Lines { whole, length, rest: &bytes[length..] }
}
