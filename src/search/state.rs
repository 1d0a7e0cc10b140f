//! Everything that a resumed search needs, as one JSON file of a checkpoint.

use super::adaptation::{Adapted, Plan, Progress};
use super::{Archive, Error};
use crate::evaluator::Evaluator;
use crate::run::{Checkpoint, Restored, Transaction};
use crate::space::Genotype;
use crate::supernet::Supernet;
use crate::train::TeamState;
use crate::train::record::{BeganWith, parse_state, read_state, write_state};
use crate::train::training_loop::{self, Monitor};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The name of the search's checkpoints and journal entries.
pub const STAGE: &str = "search";

/// Version of the state's form.
pub(super) const VERSION: u32 = 2;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it began with.
    #[serde(flatten)]
    pub began_with: BeganWith,
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
        Ok(read_state(checkpoint, VERSION)?)
    }

    /// Reads a state; `file` is for messages.
    ///
    /// # Errors
    /// Bytes that are no state of this version.
    pub fn parse(bytes: &[u8], file: &str) -> Result<State, Error> {
        Ok(parse_state(bytes, Path::new(file), VERSION)?)
    }
}

/// A search's state with the weights in training; none before the first step.
pub(super) struct Snapshot {
    pub(super) state: State,
    pub(super) team: Option<TeamState>,
    pub(super) plan: Plan,
}

impl Snapshot {
    /// Reads the checkpoint of a search that `evaluator` has the super-networks of.
    pub(super) fn read(stored: &Checkpoint, evaluator: &Evaluator, plan: Plan) -> Result<Snapshot, Error> {
        let state = State::read(stored)?;
        let team = match state.adaptation.steps {
            0 => None,
            _ => {
                let start: Vec<Supernet> = evaluator.supernets().cloned().collect();
                let Progress { tensor_steps, loss_scales, .. } = &state.adaptation;
                Some(TeamState::read(stored, &start, tensor_steps, loss_scales)?)
            }
        };
        Ok(Snapshot { state, team, plan })
    }
}

impl training_loop::Snapshot for Snapshot {
    type Error = Error;
    const PLACE: &'static str = "adaptation, ";
    const EPOCH: &'static str = "adaptation";
    const CURVES: bool = false;

    fn steps(&self) -> u64 {
        self.state.adaptation.steps
    }

    fn number(&self) -> u64 {
        self.plan.number(&self.state)
    }

    fn monitor(&mut self) -> &mut Monitor {
        &mut self.state.adaptation.monitor
    }

    fn count_rollback(&mut self) {
        self.state.adaptation.rollbacks += 1;
    }

    fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        if let Some(team) = &self.team {
            team.write(checkpoint)?;
        }
        Ok(write_state(checkpoint, &self.state)?)
    }
}
