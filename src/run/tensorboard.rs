//! Curves for TensorBoard: the scalars of a stage in one event file.
//!
//! An event file is a row of records, each `length (u64), masked CRC of the length, bytes, masked
//! CRC of the bytes`, all little-endian, CRC-32C (TensorFlow's `record_writer.cc`). The bytes are an
//! `Event` in protocol buffers (`event.proto`, `summary.proto`), of which scalars need five fields:
//!
//! ```text
//! Event   1 wall_time double   2 step int64   3 file_version string   5 summary Summary
//! Summary 1 value Value, repeated
//! Value   1 tag string         2 simple_value float
//! ```
//!
//! The curves are a by-product: a run never reads them. But they are as exact as the journal: a run
//! that resumes from the checkpoint of step S calls [`Curves::rewind`], which cuts off what came
//! after it, so the curves of an interrupted run are those of one never interrupted, but for the
//! times. Records survive `kill -9` at once, a power cut from the next [`Curves::sync`] on.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::appender::Appender;
use super::error::{Failed, Result};
use super::read_if_there;
use super::storage::{self, Storage};

/// TensorBoard takes any file with `tfevents` in its name.
const FILE: &str = "events.out.tfevents.1.natv2";
const FILE_VERSION: &str = "brain.Event:2";

/// The event file of a stage, open for writing.
#[derive(Debug)]
pub struct Curves {
    appender: Appender,
    /// The step of each record after the first, and where the record ends.
    records: Vec<(u64, u64)>,
    /// Where the first record, which names the format, ends.
    start: u64,
    warning: Option<String>,
}

impl Curves {
    pub(super) fn open(folder: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        storage.create_dir_all(folder).failed("create", folder)?;
        for parent in folder.ancestors().skip(1).take(2) {
            storage.sync_dir(parent).failed("sync", parent)?;
        }
        let path = folder.join(FILE);
        let bytes = read_if_there(&path)?.unwrap_or_default();
        let mut ends = Vec::new();
        let mut at = 0;
        while let Some((event, end)) = record(&bytes, at) {
            let Some(step) = step_of(event) else { break };
            ends.push((step, end as u64));
            at = end;
        }
        let warning = (at < bytes.len()).then(|| {
            format!("{}: the last {} bytes are no whole records; removed", path.display(), bytes.len() - at)
        });
        let mut appender = Appender::open(&path, at as u64, storage.clone())?;
        let records = ends.split_off(ends.len().min(1));
        let start = match ends.first() {
            Some(&(_, end)) => end,
            None => {
                let header = framed(&event(0, &|out| bytes_field(out, 3, FILE_VERSION.as_bytes())));
                appender.append(&header)?;
                appender.sync()?;
                storage.sync_dir(storage::folder_of(&path)).failed("sync", folder)?;
                header.len() as u64
            }
        };
        Ok(Self { appender, records, start, warning })
    }

    /// What opening removed, for the log.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Adds the values of some curves at a step. Steps are added in order.
    ///
    /// # Errors
    /// What the file system says; the file holds all of them then, or none.
    pub fn add(&mut self, step: u64, scalars: &[(impl AsRef<str>, f64)]) -> Result<()> {
        let summary = |out: &mut Vec<u8>| {
            let mut values = Vec::new();
            for (tag, value) in scalars {
                let mut one = Vec::new();
                bytes_field(&mut one, 1, tag.as_ref().as_bytes());
                one.push(2 << 3 | 5);
                one.extend((*value as f32).to_le_bytes());
                bytes_field(&mut values, 1, &one);
            }
            bytes_field(out, 5, &values);
        };
        let record = framed(&event(step, &summary));
        self.appender.append(&record)?;
        let end = self.records.last().map_or(self.start, |&(_, end)| end) + record.len() as u64;
        self.records.push((step, end));
        Ok(())
    }

    /// Removes the values of steps after `kept`, or all of them where that is `None` (no checkpoint
    /// yet). Returns how many records that were.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rewind(&mut self, kept: Option<u64>) -> Result<usize> {
        let stay = self.records.iter().take_while(|(step, _)| kept.is_some_and(|kept| *step <= kept)).count();
        let removed = self.records.len() - stay;
        if removed > 0 {
            let end = self.records[..stay].last().map_or(self.start, |&(_, end)| end);
            self.appender.cut(end)?;
            self.records.truncate(stay);
        }
        Ok(removed)
    }

    /// Forces what was added to disk. Call it before a checkpoint is committed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<()> {
        self.appender.sync()
    }
}

/// The event of a step: the time, the step, and what `rest` adds.
fn event(step: u64, rest: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let mut out = vec![1 << 3 | 1];
    out.extend(now.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    rest(&mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of text, bytes or a message.
fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend(masked(bytes).to_le_bytes());
    out
}

/// TensorFlow's mask: a CRC of data that hold CRCs is no good one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The bytes of the record at `at`, and where it ends; nothing where there is no whole one.
fn record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let number = |at: usize| Some(u32::from_le_bytes(rest.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let length: &[u8; 8] = rest.get(..8)?.try_into().ok()?;
    if number(8)? != masked(length) {
        return None;
    }
    let end = usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_add(12)?;
    let event = rest.get(12..end)?;
    (number(end)? == masked(event)).then_some((event, at + end + 4))
}

/// The step of an event that [`event`] made.
fn step_of(event: &[u8]) -> Option<u64> {
    let rest = event.get(9..)?.strip_prefix(&[2 << 3])?;
    let mut value = 0u64;
    for (place, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * place as u32)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
