//! The whole method in one run directory: NATv2 (arXiv 2307.00960) from random weights, or from a
//! trained super-network, to networks that run elsewhere.
//!
//! ```text
//! train     a super-network from random weights     supernet.safetensors, training.json
//!  or warm up a given one on the data set
//! search    with adaptation                         archive.json, front.json, adapted.safetensors
//! finetune  the networks with the best trade-offs   finetuned.json, network-N.safetensors
//! export                                            network-N.onnx
//! report                                            report.html
//! ```
//!
//! Each stage has its own checkpoints in the run directory, and is over when its result is there. So
//! [`whole()`] goes on where it was interrupted and ends with the same bytes. `natv2 train`, `search` and
//! `finetune` call the functions here too, one stage each:
//!
//! - [`training`]: from a configuration to a training that is ready to run;
//! - [`found`]: which weights, data and networks a fine-tuning begins with;
//! - [`networks`]: the networks of a run by number or architecture, each in its best state;
//! - [`stored`]: what a run directory says of its own beginning;
//! - [`standing`]: which command works in a run directory, and which stages are over;
//! - [`whole`](mod@whole): one stage after the other.

pub mod found;
pub mod networks;
pub mod standing;
pub mod stored;
pub mod training;
pub mod whole;

pub use whole::{FirstStage, Outcome, Summary, begin, whole};

use crate::config::Config;
use crate::exit::exits;
use crate::{config, data, device, engine, evaluator, export, finetune, run, search, space, supernet, train};

/// What can go wrong in a stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Weights and data together.
    #[error(transparent)]
    Evaluator(#[from] evaluator::Error),
    /// The weights.
    #[error(transparent)]
    Supernet(#[from] supernet::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The search space.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// Running networks.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// A configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// Training.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The search.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// Fine-tuning.
    #[error(transparent)]
    Finetune(#[from] finetune::Error),
    /// Writing networks for other programs.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// An architecture or genotype that was given, and where.
    #[error("{place}: {source}")]
    Given {
        /// The flag or the setting, or the file and line.
        place: String,
        /// What is wrong.
        source: space::Error,
    },
    /// Text that was given, or a file, that is not there or cannot be read as what it should be.
    #[error("{place}: {reason}")]
    Unusable {
        /// The flag, the setting or the file, and its line.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

exits! { Error:
    Usage [Given, Unusable];
    held [Evaluator, Supernet, Data, Space, Engine, Device, Config, Run, Train, Search, Finetune, Export]
}

/// The weights and data of a configuration.
pub fn options(config: &Config) -> evaluator::Options {
    evaluator::Options {
        weights: config.supernet.weights.clone(),
        wide_weights: config.supernet.wide_weights.clone(),
        family: config.supernet.family,
        data: config.data.name.clone(),
        data_dir: config.data.dir.clone(),
        validation_images: config.data.validation_images,
        validation_fraction: config.data.validation_fraction,
        calibration_images: config.search.calibration_images,
        stored_statistics: false,
        precision: config.search.precision,
    }
}
