//! Everything that a resumed search needs, as one JSON file of a checkpoint.

use super::adaptation::{Adapted, Progress};
use super::{Archive, Error};
use crate::run::{Checkpoint, Restored};
use crate::space::Genotype;
use serde::{Deserialize, Serialize};

/// The name of the search's checkpoints and journal entries.
pub const STAGE: &str = "search";
/// The file of a checkpoint.
pub const STATE_FILE: &str = "state.json";

/// Version of the state's form.
const VERSION: u32 = 2;

/// What an iteration did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Iteration {
    /// From 1; 0 is the initial archive.
    pub iteration: u64,
    /// Networks evaluated so far.
    pub evaluations: usize,
    /// Networks in the archive.
    pub archive: usize,
    /// Networks in its front.
    pub front: usize,
    /// Best validation accuracy in the archive, per cent.
    pub best_top1: f64,
    /// Share of the reference box that the archive dominates.
    pub hypervolume: f64,
    /// Root mean square error of the predictions on this iteration's candidates, in points.
    pub rmse: Option<f64>,
    /// Spearman's rank correlation on them.
    pub spearman: Option<f64>,
    /// Kendall's tau on them.
    pub kendall: Option<f64>,
    /// What adaptation did; the other figures of the archive are from after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptation: Option<Adapted>,
}

/// The state of a search after an iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// What accuracies depend on besides the networks.
    pub fingerprint: String,
    /// The device's arithmetic, for messages.
    pub arithmetic: String,
    /// Iterations done.
    pub iteration: u64,
    /// The archive, in the order in which its networks came.
    pub archive: Archive,
    /// Every network evaluated so far, sorted.
    pub seen: Vec<Genotype>,
    /// Networks evaluated so far.
    pub evaluations: usize,
    /// The hypervolume's reference point, fixed at the start.
    pub reference: Vec<f64>,
    /// Where adaptation stands.
    pub adaptation: Progress,
    /// What each iteration did.
    pub history: Vec<Iteration>,
    /// Test accuracies of the front, by its order, once the search is over.
    pub test_top1: Option<Vec<f64>>,
}

impl State {
    /// The state of a search that has its initial archive.
    pub fn new(
        fingerprint: String,
        arithmetic: String,
        archive: Archive,
        seen: Vec<Genotype>,
        reference: Vec<f64>,
    ) -> State {
        State {
            version: VERSION,
            fingerprint,
            arithmetic,
            iteration: 0,
            archive,
            evaluations: seen.len(),
            seen,
            reference,
            adaptation: Progress::default(),
            history: Vec::new(),
            test_top1: None,
        }
    }

    /// The state in what was restored of a search's checkpoints, if there is one.
    ///
    /// # Errors
    /// As [`State::parse`]; a checkpoint that is damaged.
    pub fn restored(restored: Restored) -> Result<Option<State>, Error> {
        restored.checkpoint.as_ref().map(State::read).transpose()
    }

    /// The state in a search's checkpoint.
    ///
    /// # Errors
    /// As [`State::parse`]; a checkpoint that is damaged.
    pub fn read(checkpoint: &Checkpoint) -> Result<State, Error> {
        let file = checkpoint.path().join(STATE_FILE).display().to_string();
        State::parse(&checkpoint.read(STATE_FILE)?, &file)
    }

    /// Reads a state; `file` is for messages.
    ///
    /// # Errors
    /// Bytes that are no state of this version.
    pub fn parse(bytes: &[u8], file: &str) -> Result<State, Error> {
        let refuse = |reason: String| Error::State { file: file.into(), reason };
        let state: State = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
        match state.version {
            VERSION => Ok(state),
            other => Err(refuse(format!("version {other}, and {VERSION} is known"))),
        }
    }

    /// The state's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state holds nothing that JSON cannot")
    }
}
