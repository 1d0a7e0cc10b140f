//! `[finetune]`: which networks of a search are trained on their own, and how.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::schema::{Precision, words};

/// `[finetune]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// Run directory of the search; `None`: the run's own.
    pub search: Option<PathBuf>,
    /// An architecture, or the path of a file with it, in place of a search's.
    pub arch: Option<String>,
    /// Which networks of the front.
    pub pick: Pick,
    /// How many, where `pick` is [`Pick::TradeOff`] or [`Pick::Best`].
    pub count: usize,
    /// One network, by its number.
    pub number: Option<usize>,
    /// Most multiply-accumulates.
    pub max_macs: Option<u64>,
    /// Most parameters.
    pub max_params: Option<u64>,
    /// Least validation accuracy, per cent.
    pub min_top1: Option<f64>,
    /// The exits that are trained.
    pub exits: Exits,
    /// Whether exits that do not help are removed.
    pub prune: bool,
    /// When inherited weights are kept.
    pub keep: Keep,
    /// What maps and their gradients are stored as in a step; weights are f32.
    pub precision: Precision,
    /// The optimiser.
    pub optimiser: FinetuneOptimiser,
    /// Rate at the start of the cosine.
    pub rate: f64,
    /// Rate at its end.
    pub min_rate: f64,
    /// Momentum of SGD, in [0, 1).
    pub momentum: f64,
    /// Weight decay; `None`: the optimiser's usual.
    pub weight_decay: Option<f64>,
    /// Most epochs, and the length of the cosine.
    pub epochs: usize,
    /// Epochs without a lower validation loss before the first step ends.
    pub patience: usize,
    /// Images of a step.
    pub batch: usize,
    /// Images of an epoch; `None`: all.
    pub epoch_images: Option<usize>,
    /// Validation images; `None`: all.
    pub validation_images: Option<usize>,
    /// Images for batch-norm statistics; `None`: as the card says.
    pub calibration_images: Option<usize>,
}

words!(
    /// Which networks of a front are fine-tuned.
    Pick {
        /// Those with the highest trade-off, and in place of the last of several the most accurate.
        TradeOff = "trade-off",
        /// All.
        Front = "front",
        /// Those with the best accuracy.
        Best = "best",
    }
);
words!(
    /// The exits that fine-tuning trains: the network's own, or all up to it as an ensemble (AEP)
    /// with one of the weight strategies.
    Exits {
        /// The network's own.
        Single = "single",
        /// The first exit most, in the loss and in the sum of logits.
        Desc = "desc",
        /// The last most, in both.
        Asc = "asc",
        /// All alike.
        Unif = "unif",
        /// The first most in the loss, the last most in the sum.
        Mix = "mix",
    }
);
words!(
    /// When a network stays as the super-network has it.
    Keep {
        /// Where no epoch of training is better on the validation images.
        Best = "best",
        /// Never: the paper's rule.
        AlwaysTrain = "always-train",
    }
);
words!(
    /// The optimiser of a fine-tuning.
    FinetuneOptimiser {
        /// SGD for networks with a single exit, AdamW for those of families with early exits.
        Auto = "auto",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Adam with decoupled weight decay.
        Adamw = "adamw",
    }
);
