//! A training's side in the run directory: checkpoints, journal and curves, and the way back along them.

use super::Error;
use super::checks::{Reason, Remedy};
use super::tally::Figures;
use super::training_loop::{Run, Snapshot};
use crate::run::{self, Checkpoint, Curves, Output, RunDirectory, StopFlag, Transaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of a checkpoint that says where its training stands.
const STATE_FILE: &str = "state.json";

/// What trains, where and how.
pub(crate) struct Stage<'a> {
    /// The name of its checkpoints, journal entries and curves.
    pub name: &'static str,
    /// The settings' section that has its precision.
    pub section: &'static str,
    /// What it begins with, in words.
    pub inputs: &'static str,
    /// What can be done where it diverges.
    pub remedy: Remedy,
    pub began_with: BeganWith,
    pub directory: &'a RunDirectory,
    pub stop: &'a StopFlag,
    pub output: Output,
}

/// What a training began with; the first part of every state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BeganWith {
    /// Of the state's form.
    pub version: u32,
    /// What the result depends on besides the configuration.
    pub fingerprint: String,
    /// The device's arithmetic, for messages.
    pub arithmetic: String,
}

/// A run that began with other inputs than it is to go on with.
#[derive(Debug, thiserror::Error)]
#[error(
    "{directory}: {name} began with other {inputs} or arithmetic ({before}; now {now}): {remedy}, or another --run"
)]
pub struct OtherInputs {
    /// The stage that began.
    pub name: &'static str,
    /// What it began with, in words.
    pub inputs: &'static str,
    /// The run directory.
    pub directory: String,
    /// The device's arithmetic then.
    pub before: String,
    /// And now.
    pub now: String,
    /// What to do, in words.
    pub remedy: String,
}

impl<'a, S: Snapshot> Run<'a, S> {
    /// A stage from its newest checkpoint, as `read` reads it, or where there is none from `fresh`, and whether that
    /// is so. What was written down since the checkpoint is void.
    pub(crate) fn open(
        stage: Stage<'a>,
        fresh: impl FnOnce(BeganWith) -> S,
        read: impl Fn(&Checkpoint) -> Result<S, S::Error> + 'a,
    ) -> Result<(Run<'a, S>, bool), S::Error> {
        let journal = stage.directory.journal()?;
        let restored = stage.directory.latest_checkpoint(stage.name)?;
        let curves = if S::CURVES { Some(stage.directory.curves(stage.name)?) } else { None };
        let opened = [journal.warning(), curves.as_ref().and_then(Curves::warning)].into_iter().flatten();
        let warnings = restored.warnings.iter().map(String::as_str);
        opened.chain(warnings).for_each(|warning| stage.output.note(warning));
        let snapshot = match &restored.checkpoint {
            Some(checkpoint) => {
                // First: the weights of other super-networks cannot be read.
                stage.check(read_state(checkpoint, stage.began_with.version)?)?;
                read(checkpoint)?
            }
            None => fresh(stage.began_with.clone()),
        };
        let kept = restored.checkpoint.map(|checkpoint| checkpoint.step());
        let mut run = Run { stage, journal, curves, read: Box::new(read), snapshot };
        run.rewind(kept)?;
        Ok((run, kept.is_none()))
    }

    /// Appends to the journal.
    pub(crate) fn append(&mut self, kind: &str, data: &impl Serialize) -> Result<(), run::Error> {
        self.journal.append(self.stage.name, self.snapshot.number(), kind, data)
    }

    /// Adds an epoch to the curves.
    pub(super) fn draw(&mut self, figures: &Figures) -> Result<(), run::Error> {
        let number = self.snapshot.number();
        self.curves.as_mut().map_or(Ok(()), |curves| curves.add(number, &figures.scalars()))
    }

    /// Commits the snapshot as it is; `proven` is one to go back to when later steps turn out to be bad.
    pub(crate) fn commit(&mut self, proven: bool) -> Result<(), S::Error> {
        self.curves.as_ref().map_or(Ok(()), Curves::sync)?;
        let mut checkpoint = self.stage.directory.checkpoint(self.stage.name, self.snapshot.number())?;
        self.snapshot.write(&mut checkpoint)?;
        let checkpoint = if proven { checkpoint.proven() } else { checkpoint };
        Ok(checkpoint.commit()?)
    }

    /// Back to the last proven checkpoint, with half the rate.
    pub(super) fn roll_back(&mut self, reason: &Reason) -> Result<(), S::Error> {
        let checkpoint = self.stage.directory.latest_proven(self.stage.name)?.checkpoint;
        let mut restored = (self.read)(&checkpoint.ok_or(run::Error::NoCheckpoint)?)?;
        let proven = restored.monitor().watch.clone();
        let watch = self.snapshot.monitor().watch.rolled_back(proven, reason, self.stage.remedy);
        let watch = watch.map_err(Error::from)?;
        let (at, to, factor) = (self.snapshot.steps(), restored.steps(), watch.rate_factor());
        let back = format!("step {at}: {reason}; back to step {to} with {factor} of the rate");
        self.stage.output.note(&(S::PLACE.to_string() + &back));
        restored.monitor().watch = watch;
        restored.count_rollback();
        self.snapshot = restored;
        self.rewind(Some(self.snapshot.number()))?;
        self.append("rollback", &reason.to_string())?;
        self.commit(true)
    }

    /// Voids what was written down after a checkpoint.
    fn rewind(&mut self, kept: Option<u64>) -> Result<(), run::Error> {
        self.journal.rewind(self.stage.name, kept)?;
        self.curves.as_mut().map_or(Ok(0), |curves| curves.rewind(kept))?;
        Ok(())
    }
}

impl Stage<'_> {
    fn check(&self, began: BeganWith) -> Result<(), Error> {
        if began.fingerprint == self.began_with.fingerprint {
            return Ok(());
        }
        let &Stage { name, section, inputs, .. } = self;
        let directory = self.directory.path().display().to_string();
        let (before, now) = (began.arithmetic, self.began_with.arithmetic.clone());
        let remedy = if before == now {
            "give what it began with".into()
        } else {
            format!(
                "choose the device, instruction set and precision that it began with (--device, --isa, {section}.precision)"
            )
        };
        Err(Box::new(OtherInputs { name, inputs, directory, before, now, remedy }).into())
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A state of version `known` from its bytes in the file `path`.
pub(crate) fn parse_state<S: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    known: u32,
) -> Result<S, run::Error> {
    let refuse = |reason: String| run::Error::State { path: path.into(), reason };
    // The version first: another one may have other fields.
    let Version { version } = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
    if version != known {
        return Err(refuse(format!("version {version}, and {known} is known")));
    }
    serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))
}

/// As [`parse_state`], of a checkpoint.
pub(crate) fn read_state<S: DeserializeOwned>(checkpoint: &Checkpoint, known: u32) -> Result<S, run::Error> {
    parse_state(&checkpoint.read(STATE_FILE)?, &checkpoint.path().join(STATE_FILE), known)
}

/// Adds a state to a checkpoint.
pub(crate) fn write_state(checkpoint: &mut Transaction, state: &impl Serialize) -> Result<(), run::Error> {
    let bytes = serde_json::to_vec(state).expect("a state holds nothing that JSON cannot");
    checkpoint.add(STATE_FILE, &bytes)
}
