//! Everything that a resumed fine-tuning needs, as the files of one checkpoint.
//!
//! Inherited weights are not among them: they are taken out of the super-network again.

use super::{Error, Finetuned};
use crate::run::{Checkpoint as Stored, Transaction};
use crate::supernet::{Checkpoint, Supernet};
use crate::train::checks::sound;
use crate::train::record::{BeganWith, read_state, write_state};
use crate::train::tally::nothing;
use crate::train::training_loop::{self, Monitor};
use crate::train::{self, LossScale, OptimiserState};
use serde::{Deserialize, Serialize};

/// Version of the state's form. The first had no epoch 0, and ensembles whose weights did not sum to one.
pub(super) const VERSION: u32 = 2;

/// Files of a checkpoint, besides the state.
const WEIGHTS: &str = "weights.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";

/// The two trainings of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// On the training split, to find how long.
    #[default]
    Train,
    /// From the inherited weights on training and validation split, that long.
    Final,
}

/// How an epoch went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The training.
    pub part: Part,
    /// From 1, in the part.
    pub epoch: u64,
    /// Steps of the whole fine-tuning so far, over all networks.
    pub step: u64,
    /// Mean loss.
    pub loss: f64,
    /// Accuracy of the last exit on the training images as they were augmented, per cent.
    pub train_top1: f64,
    /// Validation loss, in the first part, where it is a number.
    pub validation_loss: Option<f64>,
    /// Validation accuracy of the ensemble of all exits trained, in the first part, per cent.
    pub validation_top1: Option<f64>,
    /// Rate of the last step.
    pub rate: f64,
    /// Steps that were left out since their gradient overflowed f16.
    #[serde(default, skip_serializing_if = "nothing")]
    pub skipped: u64,
}

/// An epoch as the one that a network is taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch: E*; 0 for the inherited weights, recalibrated.
    pub epoch: u64,
    /// Validation accuracy with all exits that are trained, per cent.
    pub top1: f64,
    /// The exits to keep, from 0.
    pub kept: Vec<usize>,
    /// Validation accuracy with these, per cent.
    pub kept_top1: f64,
}

/// Where a fine-tuning stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it began with.
    #[serde(flatten)]
    pub began_with: BeganWith,
    /// The network, from 0; as many as were picked when all is done.
    pub network: usize,
    /// Its training.
    pub part: Part,
    /// Steps of that.
    pub step: u64,
    /// Steps of everything.
    pub total: u64,
    /// The steps of this epoch so far, and the watch over the losses.
    #[serde(flatten)]
    pub monitor: Monitor,
    /// The lowest validation loss and its epoch.
    pub lowest: Option<(f64, u64)>,
    /// Epoch 0; `None` before it is measured.
    pub inherited: Option<Best>,
    /// The trained epoch of the best validation accuracy so far; once it is chosen, that or epoch 0.
    pub best: Option<Best>,
    /// This network's epochs.
    pub history: Vec<Epoch>,
    /// Networks that are finished.
    pub finished: Vec<Finetuned>,
    pub(super) tensor_steps: Vec<u64>,
    /// The scale of the losses, where it is not what a training begins with.
    #[serde(default, skip_serializing_if = "LossScale::is_fresh")]
    pub(super) loss_scale: LossScale,
}

/// A state with the weights in training; none before a part's first step.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// Tensors by name, and the optimiser's state.
    pub weights: Option<(Checkpoint, OptimiserState)>,
}

impl Snapshot {
    /// Whether it may be written.
    pub(super) fn sound(&self) -> Result<(), Error> {
        let Some((weights, optimiser)) = &self.weights else { return Ok(()) };
        let tensors = weights.tensors().map(|(name, tensor)| (name, &tensor.data[..]));
        Ok(sound(tensors.chain(optimiser.vectors())).map_err(train::Error::from)?)
    }

    pub(super) fn read(stored: &Stored) -> Result<Snapshot, Error> {
        let state: State = read_state(stored, VERSION)?;
        if !stored.names().any(|name| name == WEIGHTS) {
            return Ok(Snapshot { state, weights: None });
        }
        let at = |name: &str| stored.path().join(name);
        let weights = Checkpoint::parse(&stored.read(WEIGHTS)?, &at(WEIGHTS))?;
        let (vectors, steps) = (stored.read(OPTIMISER)?, state.tensor_steps.clone());
        let optimiser = OptimiserState::parse(&vectors, &at(OPTIMISER), steps, state.loss_scale)?;
        Ok(Snapshot { weights: Some((weights, optimiser)), state })
    }
}

impl training_loop::Snapshot for Snapshot {
    type Error = Error;

    fn steps(&self) -> u64 {
        self.state.total
    }

    fn monitor(&mut self) -> &mut Monitor {
        &mut self.state.monitor
    }

    fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        self.sound()?;
        let optimiser = self.weights.as_ref().map(|(_, optimiser)| optimiser);
        let tensor_steps = optimiser.map(|optimiser| optimiser.steps.clone()).unwrap_or_default();
        let loss_scale = optimiser.map(|optimiser| optimiser.loss_scale).unwrap_or_default();
        let state = State { tensor_steps, loss_scale, ..self.state.clone() };
        write_state(checkpoint, &state)?;
        if let Some((weights, optimiser)) = &self.weights {
            checkpoint.add(WEIGHTS, &weights.to_bytes()?)?;
            checkpoint.add(OPTIMISER, &optimiser.to_bytes()?)?;
        }
        Ok(())
    }
}

/// `like` with the tensors of a checkpoint.
pub(super) fn with_tensors(like: &Supernet, tensors: &Checkpoint) -> Result<Supernet, Error> {
    Ok(Supernet { packed: like.layout.pack(tensors)?, ..like.clone() })
}
