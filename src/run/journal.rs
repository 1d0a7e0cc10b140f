//! The journal: what a run did, one event a line, never rewritten.
//!
//! An event belongs to a stage and a step of it, and is on disk when [`Journal::append`] returns.
//! The convention that makes a resumed run exact: a step's events come before its checkpoint. A
//! run that resumes from the checkpoint of step S calls [`Journal::rewind`], which appends a mark
//! that voids the stage's events of later steps: they are about to happen again. The history stays
//! in the file; [`Journal::events`] is what counts.
//!
//! A line torn by a crash (no line end) is cut off on opening. Any other damage is an error: the
//! journal was on disk, so something else has changed it, and guessing would hide that.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::appender::Appender;
use super::error::{Error, Result};
use super::storage::Storage;
use super::{VERSION, check_name, line, read_if_there};

const REWIND: &str = "rewind";
const REMEDY: &str = "Restore the file from a copy, or begin a new run with --run (checkpoints and results here stay readable)";

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Schema of the line.
    pub version: u32,
    /// Place in the journal, from 0, without gaps.
    pub sequence: u64,
    /// Milliseconds since 1970. Nothing is computed from it.
    pub time: u64,
    /// The stage: `train`, `search`, ..
    pub stage: String,
    /// The step of the stage.
    pub step: u64,
    /// What happened.
    pub kind: String,
    /// The particulars, whose form the kind decides.
    pub data: Value,
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    appender: Appender,
    next: u64,
    events: Vec<Event>,
    warning: Option<String>,
}

impl Journal {
    pub(super) fn open(path: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        let bytes = read_if_there(path)?.unwrap_or_default();
        let parsed = parse(path, &bytes)?;
        let appender = Appender::open(path, parsed.length as u64, storage)?;
        let warning = (parsed.torn > 0).then(|| {
            format!(
                "{}: the last {} bytes are of a line that was never finished; removed",
                path.display(),
                parsed.torn
            )
        });
        Ok(Self { appender, next: parsed.next, events: parsed.events, warning })
    }

    /// The events that count, in order: all but the voided and the marks that voided them.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What opening repaired, for the log.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Records an event. It is on disk when this returns. Floats that are not finite become
    /// `null`, as JSON has no others.
    ///
    /// # Errors
    /// [`Error::BadName`] for the stage or the kind (`rewind` is taken); [`Error::Json`];
    /// [`Error::NoSpace`] and the like: the journal holds the event whole or not at all, and can be
    /// appended to again.
    pub fn append(&mut self, stage: &str, step: u64, kind: &str, data: &impl Serialize) -> Result<()> {
        if kind == REWIND {
            return Err(Error::BadName { name: kind.into() });
        }
        let event = self.write(stage, step, kind, data)?;
        self.events.push(event);
        Ok(())
    }

    /// Voids the events of a stage after the step `kept`, or all of the stage's where that is
    /// `None` (no checkpoint yet). Returns how many; where there are none, nothing is written.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn rewind(&mut self, stage: &str, kept: Option<u64>) -> Result<usize> {
        let void = self.events.iter().filter(|event| is_void(event, stage, kept)).count();
        if void > 0 {
            self.write(stage, kept.unwrap_or(0), REWIND, &Mark { kept })?;
            self.events.retain(|event| !is_void(event, stage, kept));
        }
        Ok(void)
    }

    fn write(&mut self, stage: &str, step: u64, kind: &str, data: &impl Serialize) -> Result<Event> {
        check_name(stage)?;
        check_name(kind)?;
        let json = |source| Error::Json { path: self.appender.path.clone(), source };
        let event = Event {
            version: VERSION,
            sequence: self.next,
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64),
            stage: stage.into(),
            step,
            kind: kind.into(),
            data: serde_json::to_value(data).map_err(json)?,
        };
        let text = line::seal(&event).map_err(json)?;
        self.appender.append(&text)?;
        // The line is whole from here on, even if the sync fails.
        self.next += 1;
        self.appender.sync()?;
        Ok(event)
    }
}

/// The particulars of a rewind.
#[derive(Serialize, Deserialize)]
struct Mark {
    kept: Option<u64>,
}

fn is_void(event: &Event, stage: &str, kept: Option<u64>) -> bool {
    event.stage == stage && kept.is_none_or(|kept| event.step > kept)
}

/// The events that count in a journal that another process may be writing.
pub(super) fn read(path: &Path) -> Result<Vec<Event>> {
    Ok(parse(path, &read_if_there(path)?.unwrap_or_default())?.events)
}

struct Parsed {
    events: Vec<Event>,
    next: u64,
    /// Bytes of whole lines, and after them.
    length: usize,
    torn: usize,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Parsed> {
    let lines = line::lines(bytes);
    let mut events: Vec<Event> = Vec::new();
    for (at, text) in lines.whole.iter().enumerate() {
        let damaged =
            |reason: String| Error::Damaged { path: path.into(), line: Some(at + 1), reason, remedy: REMEDY };
        let object = line::unseal(text).map_err(|reason| damaged(reason.into()))?;
        // The version first: another one may have other fields.
        let Version { version } = serde_json::from_str(&object).map_err(|e| damaged(e.to_string()))?;
        if version != VERSION {
            return Err(Error::OtherVersion { path: path.into(), found: version, known: VERSION });
        }
        let event: Event = serde_json::from_str(&object).map_err(|e| damaged(e.to_string()))?;
        if event.sequence != at as u64 {
            return Err(damaged(format!(
                "event {} where {at} belongs: lines are missing or moved",
                event.sequence
            )));
        }
        if event.kind == REWIND {
            let mark: Mark = serde_json::from_value(event.data).map_err(|e| damaged(e.to_string()))?;
            events.retain(|earlier| !is_void(earlier, &event.stage, mark.kept));
        } else {
            events.push(event);
        }
    }
    Ok(Parsed { events, next: lines.whole.len() as u64, length: lines.length, torn: lines.rest.len() })
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}
