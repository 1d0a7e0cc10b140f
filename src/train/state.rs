//! Everything that a resumed training needs, as the files of one checkpoint.

use super::record::{BeganWith, read_state, write_state};
use super::tally::{nothing, untaught};
use super::team::{read_supernet, read_weights, write_weights};
use super::training_loop::{self, Monitor};
use super::{Error, LossScale, TeamState};
use crate::run::{Checkpoint as Stored, Transaction};
use crate::supernet::Supernet;
use serde::{Deserialize, Serialize};

/// Version of the state's form.
pub(super) const VERSION: u32 = 1;

/// Files of a checkpoint, besides the state.
const BEST: &str = "best.safetensors";
const TEACHER: &str = "teacher.safetensors";

/// How an epoch went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The phase's name.
    pub phase: String,
    /// From 1, in the phase.
    pub epoch: u64,
    /// Steps of the whole training so far.
    pub step: u64,
    /// Mean loss of a sub-network: cross entropy, and the teacher's term where there is a teacher.
    pub loss: f64,
    /// Weight of the teacher's term in it; 0 without a teacher.
    #[serde(default, skip_serializing_if = "untaught")]
    pub kd_ratio: f64,
    /// Accuracy on the training images as they were augmented, per cent.
    pub train_top1: f64,
    /// Mean validation accuracy of the extreme sub-networks, where it was measured, per cent.
    pub validation_top1: Option<f64>,
    /// Rate of the last step.
    pub rate: f64,
    /// Steps that a super-network left out since its gradient overflowed f16.
    #[serde(default, skip_serializing_if = "nothing")]
    pub skipped: u64,
}

/// The validation that a phase's weights are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Mean accuracy of the extreme sub-networks, per cent.
    pub top1: f64,
    /// Epoch of the phase, from 1.
    pub epoch: u64,
}

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it began with.
    #[serde(flatten)]
    pub began_with: BeganWith,
    /// The phase, from 0; as many as there are when all is done.
    pub phase: usize,
    /// Whether the phase has begun: its teacher is chosen, channels are sorted and the watch is new, once.
    /// Checkpoints of earlier versions do not say so at step 0.
    #[serde(default)]
    pub begun: bool,
    /// Steps of the phase.
    pub step: u64,
    /// Steps of the whole training.
    pub total: u64,
    /// Divergences that were rolled back.
    pub rollbacks: u32,
    /// The steps of this epoch so far, and the watch over the phase's losses.
    #[serde(flatten)]
    pub monitor: Monitor,
    /// The best validation of the phase so far.
    pub best: Option<Best>,
    /// Every epoch so far.
    pub history: Vec<Epoch>,
    /// Steps that each tensor of each super-network has taken.
    pub(super) tensor_steps: Vec<u64>,
    /// The scale of each super-network's losses, where it is not what a training begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) loss_scales: Vec<LossScale>,
}

/// A training's state with its weights.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// Weights and optimisers.
    pub team: TeamState,
    /// The weights of the phase's best validation.
    pub best: Option<Vec<Supernet>>,
    /// The super-network that teaches.
    pub teacher: Option<Supernet>,
}

impl training_loop::Snapshot for Snapshot {
    type Error = Error;

    fn steps(&self) -> u64 {
        self.state.total
    }

    fn monitor(&mut self) -> &mut Monitor {
        &mut self.state.monitor
    }

    fn count_rollback(&mut self) {
        self.state.rollbacks += 1;
    }

    fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        let (tensor_steps, loss_scales) = (self.team.tensor_steps(), self.team.loss_scales());
        let state = State { tensor_steps, loss_scales, ..self.state.clone() };
        write_state(checkpoint, &state)?;
        self.team.write(checkpoint)?;
        write_weights(checkpoint, BEST, self.best.as_deref().unwrap_or_default())?;
        write_weights(checkpoint, TEACHER, self.teacher.as_slice())
    }
}

impl Snapshot {
    /// Reads a checkpoint; `like` are the super-networks that training began with, of which the widest teaches.
    pub(super) fn read(stored: &Stored, like: &[Supernet]) -> Result<Snapshot, Error> {
        let state: State = read_state(stored, VERSION)?;
        let has = |name: &str| stored.names().any(|other| other == name);
        let best = has(BEST).then(|| read_weights(stored, BEST, like)).transpose()?;
        let widest = like.last().filter(|_| has(TEACHER));
        let teacher = widest.map(|widest| read_supernet(stored, TEACHER, widest)).transpose()?;
        let team = TeamState::read(stored, like, &state.tensor_steps, &state.loss_scales)?;
        Ok(Snapshot { team, best, teacher, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_earlier_versions_do_not_say_that_their_phase_has_begun() {
        let state = State { begun: true, ..State::default() };
        let mut value = serde_json::to_value(&state).unwrap();
        assert_eq!(serde_json::from_value::<State>(value.clone()).unwrap(), state);
        value.as_object_mut().unwrap().remove("begun");
        assert!(!serde_json::from_value::<State>(value).unwrap().begun);
    }
}
