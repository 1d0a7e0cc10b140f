//! Post-processing: networks that a search has found become networks of their own.
//!
//! Each picked network is taken out of the super-network with its batch norms recalibrated, then
//! trained twice (NATv2, arXiv 2307.00960):
//!
//! 1. on the training split, until the validation loss has not fallen for a while; the epoch E* of
//!    the best validation accuracy is remembered;
//! 2. again from the inherited weights, on training and validation split, for E* epochs.
//!
//! The inherited weights themselves are epoch 0. If no epoch of the first training makes a better network by
//! validation, the second does not happen and the network stays as it was inherited (`finetune.keep`). Only
//! after both trainings are the test images looked at, once.
//!
//! Training steps may be made in 16 bits (`finetune.precision`), as in any training. Recalibration, validations
//! and tests are f32, and so are the weights.
//!
//! Networks of early-exit families may be trained with all their exits as an ensemble (AEP, arXiv 2301.12168).
//! The exits that are best together on the validation split at E* are kept, with weights that sum to one.
//!
//! - [`pick`]: which networks; [`prune`]: which exits;
//! - [`finetune()`]: both trainings of all networks in a run directory, from its newest checkpoint to the end;
//! - [`Snapshot`]: all that a checkpoint holds; [`results`]: what is left at the end.

mod inputs;
mod looping;
mod measure;
pub mod pick;
pub mod prune;
pub mod results;
mod state;

pub use inputs::Inputs;
pub use looping::{Outcome, STAGE, finetune};
pub use pick::{Picked, Reason};
pub use results::{Finetuned, Measured, Summary};
pub use state::{Best, Epoch, Part, Snapshot, State};

use crate::exit::exits;
use crate::train::training_loop::Diverges;
use crate::{data, device, engine, run, space, supernet, train};

/// What can go wrong in fine-tuning.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The run directory failed.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The data failed.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// Weights that do not fit.
    #[error(transparent)]
    Supernet(#[from] supernet::Error),
    /// An architecture that is none.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// A training step failed.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// A front that cannot be read.
    #[error("{file}: {reason}")]
    Front {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Limits that leave nothing.
    #[error("{0}")]
    NothingPicked(String),
    /// Exits that the family does not have.
    #[error(
        "finetune.exits = {exits:?}: family {family} has one plain head: use \"single\", or a super-network with early exits"
    )]
    NoExits {
        /// The setting.
        exits: &'static str,
        /// The family.
        family: String,
    },
    /// No validation images.
    #[error(
        "data set {dataset} has no validation images, and fine-tuning stops by them: set data.validation_images or data.validation_fraction"
    )]
    NoValidation {
        /// The data set.
        dataset: String,
    },
    /// A result that cannot be read.
    #[error(
        "{file}: {reason}; the command that made the run (natv2 run, search or finetune, with --run) writes it anew"
    )]
    Result {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A finished network whose file and checkpoint are both gone.
    #[error(
        "{file}: {reason}; its checkpoint is lost, too: restore the file from a copy, or make the network again in a run of its own, with natv2 finetune and the settings of this run, finetune.number={number} and finetune.search (the search's run directory)"
    )]
    Lost {
        /// The file.
        file: String,
        /// The network.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// A training that diverges however small the rate.
    #[error("network {number}: {hopeless}")]
    KeepsDiverging {
        /// The network.
        number: usize,
        /// How often, why, and what to do.
        hopeless: train::checks::KeepsDiverging,
    },
}

exits! { Error:
    Usage [NothingPicked, NoExits],
    Failure [Front, NoValidation, Result, Lost, KeepsDiverging];
    held [Device, Engine, Run, Data, Supernet, Space, Train]
}

impl Diverges for Error {
    fn divergence(&self) -> Option<train::checks::Reason> {
        match self {
            Error::Train(error) => error.divergence(),
            Error::Engine(error) => train::checks::validated(error),
            _ => None,
        }
    }
}
