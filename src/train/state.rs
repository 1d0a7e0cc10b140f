//! Everything that a resumed training needs, as the files of one checkpoint.

use super::checks::Watch;
use super::tally::{nothing, untaught};
use super::team::{read_supernet, read_weights, write_weights};
use super::{Error, LossScale, Tally, TeamState};
use crate::run::{self, Checkpoint as Stored, Transaction};
use crate::supernet::Supernet;
use serde::{Deserialize, Serialize};

/// Version of the state's form.
const VERSION: u32 = 1;

/// Files of a checkpoint.
const STATE: &str = "state.json";
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// What the result depends on besides the configuration.
    pub fingerprint: String,
    /// The device's arithmetic, for messages.
    pub arithmetic: String,
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
    /// The steps of this epoch so far.
    #[serde(flatten)]
    pub tally: Tally,
    /// The watch over the phase's losses.
    pub watch: Watch,
    /// The best validation of the phase so far.
    pub best: Option<Best>,
    /// Every epoch so far.
    pub history: Vec<Epoch>,
    /// Steps that each tensor of each super-network has taken.
    tensor_steps: Vec<u64>,
    /// The scale of each super-network's losses, where it is not what a training begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    loss_scales: Vec<LossScale>,
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

impl State {
    /// The state of a training that has not begun.
    pub fn new(fingerprint: String, arithmetic: String) -> State {
        State {
            version: VERSION,
            fingerprint,
            arithmetic,
            phase: 0,
            begun: false,
            step: 0,
            total: 0,
            rollbacks: 0,
            tally: Tally::default(),
            watch: Watch::new(),
            best: None,
            history: Vec::new(),
            tensor_steps: Vec::new(),
            loss_scales: Vec::new(),
        }
    }
}

impl Snapshot {
    /// Adds everything to a checkpoint.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        let (tensor_steps, loss_scales) = (self.team.tensor_steps(), self.team.loss_scales());
        let state = State { tensor_steps, loss_scales, ..self.state.clone() };
        let bytes = serde_json::to_vec(&state).expect("a state holds nothing that JSON cannot");
        checkpoint.add(STATE, &bytes)?;
        self.team.write(checkpoint)?;
        write_weights(checkpoint, BEST, self.best.as_deref().unwrap_or_default())?;
        write_weights(checkpoint, TEACHER, self.teacher.as_slice())
    }

    /// Reads what [`Snapshot::write`] wrote; `like` are the super-networks that training began
    /// with, of which the widest teaches.
    ///
    /// # Errors
    /// Files that are not those of a training of this version and these super-networks.
    pub fn read(stored: &Stored, like: &[Supernet]) -> Result<Snapshot, Error> {
        let file = stored.path().join(STATE);
        let refuse = |reason: String| run::Error::State { path: file.clone(), reason };
        let state: State = serde_json::from_slice(&stored.read(STATE)?).map_err(|e| refuse(e.to_string()))?;
        if state.version != VERSION {
            return Err(refuse(format!("version {}, and {VERSION} is known", state.version)).into());
        }
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
        let state = State { begun: true, ..State::new("f".into(), "cpu".into()) };
        let mut value = serde_json::to_value(&state).unwrap();
        assert_eq!(serde_json::from_value::<State>(value.clone()).unwrap(), state);
        value.as_object_mut().unwrap().remove("begun");
        assert!(!serde_json::from_value::<State>(value).unwrap().begun);
    }
}
