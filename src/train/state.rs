//! Everything that a resumed training needs, as the files of one checkpoint.

use super::checks::Watch;
use super::{Error, OptimiserState, Tally};
use crate::run::{Checkpoint as Stored, Transaction};
use crate::supernet::{Checkpoint, Supernet, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the state's form.
const VERSION: u32 = 1;

/// Files of a checkpoint.
const STATE: &str = "state.json";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
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
    /// Mean loss of a sub-network.
    pub loss: f64,
    /// Accuracy on the training images as they were augmented, per cent.
    pub train_top1: f64,
    /// Mean validation accuracy of the extreme sub-networks, where it was measured, per cent.
    pub validation_top1: Option<f64>,
    /// Rate of the last step.
    pub rate: f64,
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
    /// Steps that each tensor has taken.
    tensor_steps: Vec<u64>,
}

/// A training's state with its weights.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// The weights in training.
    pub weights: Supernet,
    /// The optimiser's state.
    pub optimiser: OptimiserState,
    /// The weights of the phase's best validation.
    pub best: Option<Supernet>,
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
            step: 0,
            total: 0,
            rollbacks: 0,
            tally: Tally::default(),
            watch: Watch::new(),
            best: None,
            history: Vec::new(),
            tensor_steps: Vec::new(),
        }
    }
}

impl Snapshot {
    /// Adds everything to a checkpoint.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        let state = State { tensor_steps: self.optimiser.steps.clone(), ..self.state.clone() };
        let bytes = serde_json::to_vec(&state).expect("a state holds nothing that JSON cannot");
        checkpoint.add(STATE, &bytes)?;
        add_weights(checkpoint, &self.weights, &self.optimiser)?;
        for (name, supernet) in [(BEST, &self.best), (TEACHER, &self.teacher)] {
            if let Some(supernet) = supernet {
                checkpoint.add(name, &supernet.checkpoint().to_bytes()?)?;
            }
        }
        Ok(())
    }

    /// Reads what [`Snapshot::write`] wrote; `like` is the super-network that training began with.
    ///
    /// # Errors
    /// Files that are not those of a training of this version and super-network.
    pub fn read(stored: &Stored, like: &Supernet) -> Result<Snapshot, Error> {
        let file = stored.path().join(STATE);
        let refuse = |reason: String| Error::State { file: file.display().to_string(), reason };
        let state: State = serde_json::from_slice(&stored.read(STATE)?).map_err(|e| refuse(e.to_string()))?;
        if state.version != VERSION {
            return Err(refuse(format!("version {}, and {VERSION} is known", state.version)));
        }
        let has = |name: &str| stored.names().any(|other| other == name);
        let optional = |name: &str| has(name).then(|| supernet(stored, name, like)).transpose();
        let (weights, optimiser) = read_weights(stored, like, state.tensor_steps.clone())?;
        Ok(Snapshot { weights, optimiser, best: optional(BEST)?, teacher: optional(TEACHER)?, state })
    }
}

/// Adds a super-network in training and its optimiser's vectors to a checkpoint. The steps that each
/// tensor has taken are the caller's to keep.
///
/// # Errors
/// Writing fails.
pub fn add_weights(
    checkpoint: &mut Transaction,
    weights: &Supernet,
    optimiser: &OptimiserState,
) -> Result<(), Error> {
    checkpoint.add(WEIGHTS, &weights.checkpoint().to_bytes()?)?;
    Ok(checkpoint.add(OPTIMISER, &vectors(optimiser).to_bytes()?)?)
}

/// Reads what [`add_weights`] added; `like` is the super-network that training began with, `steps`
/// are those that each tensor has taken.
///
/// # Errors
/// Files that are not those of a training of this super-network.
pub fn read_weights(
    stored: &Stored,
    like: &Supernet,
    steps: Vec<u64>,
) -> Result<(Supernet, OptimiserState), Error> {
    let path = stored.path().join(OPTIMISER);
    let file = Checkpoint::parse(&stored.read(OPTIMISER)?, &path)?;
    let vector = |name: &str| file.tensor(name).map(|tensor| tensor.data.clone());
    let first = vector("first").ok_or_else(|| Error::State {
        file: path.display().to_string(),
        reason: "the optimiser has no tensor `first`".into(),
    })?;
    let optimiser = OptimiserState { first, second: vector("second"), steps };
    Ok((supernet(stored, WEIGHTS, like)?, optimiser))
}

fn supernet(stored: &Stored, name: &str, like: &Supernet) -> Result<Supernet, Error> {
    let path = stored.path().join(name);
    let checkpoint = Checkpoint::parse(&stored.read(name)?, &path)?;
    Ok(Supernet { packed: like.layout.pack(&checkpoint)?, file: path, ..like.clone() })
}

fn vectors(state: &OptimiserState) -> Checkpoint {
    let tensor = |data: &Vec<f32>| Tensor { shape: vec![data.len()], data: data.clone() };
    let mut tensors = BTreeMap::from([("first".to_string(), tensor(&state.first))]);
    tensors.extend(state.second.as_ref().map(|second| ("second".to_string(), tensor(second))));
    Checkpoint::from_tensors(Path::new(OPTIMISER), tensors)
}
