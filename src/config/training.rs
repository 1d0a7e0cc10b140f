//! `[train]` and `[warmup]`: how a super-network is trained, and a phase of a training as data.
//!
//! Both sections have the same keys. A phase is an entry of `[[train.phases]]`, or comes from a
//! built-in schedule; either way it is a [`Phase`], and nothing else tells a training what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::schema::{Precision, words};

/// `[train]`, `[warmup]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The built-in schedule, where `phases` gives none.
    pub schedule: Schedule,
    /// The phases, in order; `None`: those of `schedule`.
    pub phases: Option<Vec<Phase>>,
    /// Factor on the epochs of a built-in schedule.
    pub scale: f64,
    /// Factor on every phase's rates.
    pub rate_scale: f64,
    /// Images of a step.
    pub batch: usize,
    /// Images of an epoch; `None`: all training images, once each.
    pub epoch_images: Option<usize>,
    /// Sides of which each step draws one, in pixels; `None`: as the card and the data set say.
    pub resolutions: Option<Vec<u32>>,
    /// What maps and their gradients are stored as in a step; weights are f32.
    pub precision: Precision,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Momentum of SGD, in [0, 1); the first beta of AdamW.
    pub momentum: f64,
    /// Whether SGD's momentum is Nesterov's.
    pub nesterov: bool,
    /// Weight decay, in [0, 1).
    pub weight_decay: f64,
    /// What decays.
    pub decay: Decay,
    /// Largest norm of a step's gradient; 0 does not clip.
    pub clip: f64,
    /// The teacher of phases that do not name theirs.
    pub teacher: Teacher,
    /// Weights of the exits, in joint training and in the teacher's ensemble.
    pub exit_weights: ExitWeights,
    /// Epochs between validations; the end of a phase is always one.
    pub validation_epochs: usize,
    /// Sub-networks of a validation.
    pub validation_networks: usize,
    /// Validation images of a validation; `None`: all.
    pub validation_images: Option<usize>,
    /// Images for batch-norm statistics; `None`: as the card says.
    pub calibration_images: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

/// A phase of a training.
///
/// The lists say which values sub-networks are drawn from; a dimension without one stays at its
/// largest. `branches` matters to families with parallel blocks only, `exits` to those with early
/// exits only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name, unlike that of any other phase of the training.
    pub name: String,
    /// Epochs after the warm-up, along the cosine.
    pub epochs: usize,
    /// Rate at the start of the cosine.
    pub rate: f64,
    /// Epochs before that.
    #[serde(default)]
    pub warmup_epochs: usize,
    /// Rate at the start of the warm-up; `None` is a flat warm-up at `rate`.
    #[serde(default)]
    pub warmup_rate: Option<f64>,
    /// Sub-networks of a step, whose gradients are added up.
    #[serde(default = "one")]
    pub networks: usize,
    /// Whether the largest network alone is trained, at all its exits together.
    #[serde(default)]
    pub full: bool,
    /// Depthwise kernels.
    #[serde(default = "largest::kernels")]
    pub kernels: Vec<u8>,
    /// Expansion ratios.
    #[serde(default = "largest::expansions")]
    pub expansions: Vec<u8>,
    /// Depths.
    #[serde(default = "largest::depths")]
    pub depths: Vec<u8>,
    /// Numbers of parallel branches.
    #[serde(default = "largest::branches")]
    pub branches: Vec<u8>,
    /// Exits, from 1.
    #[serde(default = "largest::exits")]
    pub exits: Vec<u8>,
    /// Channels are sorted by importance on entry, where this is given: all of them at 0; from 1 on
    /// the channels that the s largest expansions below the largest have in common stay in front.
    #[serde(default)]
    pub sort: Option<usize>,
    /// Which of the super-networks that train together are trained.
    #[serde(default)]
    pub widths: Widths,
    /// The teacher; `None` is the training's, and none in a phase of the largest network alone.
    #[serde(default)]
    pub teacher: Option<Teacher>,
    /// Weight of the distillation loss.
    #[serde(default = "full_ratio")]
    pub kd_ratio: f64,
    /// Label smoothing, in [0, 1).
    #[serde(default = "smoothing")]
    pub label_smoothing: f64,
    /// Dropout before the classifiers, in [0, 1).
    #[serde(default = "smoothing")]
    pub dropout: f64,
}

fn one() -> usize {
    1
}

fn full_ratio() -> f64 {
    1.0
}

fn smoothing() -> f64 {
    0.1
}

/// Dimensions that a phase does not name.
mod largest {
    pub(super) fn kernels() -> Vec<u8> {
        vec![7]
    }

    pub(super) fn expansions() -> Vec<u8> {
        vec![6]
    }

    pub(super) fn depths() -> Vec<u8> {
        vec![4]
    }

    pub(super) fn branches() -> Vec<u8> {
        vec![3]
    }

    pub(super) fn exits() -> Vec<u8> {
        vec![5]
    }
}

impl Phase {
    /// A phase with every dimension at its largest and the usual losses.
    pub fn new(name: &str, epochs: usize, rate: f64) -> Phase {
        Phase {
            name: name.into(),
            epochs,
            rate,
            warmup_epochs: 0,
            warmup_rate: None,
            networks: one(),
            full: false,
            kernels: largest::kernels(),
            expansions: largest::expansions(),
            depths: largest::depths(),
            branches: largest::branches(),
            exits: largest::exits(),
            sort: None,
            widths: Widths::All,
            teacher: None,
            kd_ratio: full_ratio(),
            label_smoothing: smoothing(),
            dropout: smoothing(),
        }
    }

    /// All its epochs, warm-up included.
    pub fn total_epochs(&self) -> usize {
        self.warmup_epochs + self.epochs
    }
}

words!(
    /// A built-in schedule.
    Schedule {
        /// Extended progressive shrinking (OFAv2).
        Eps = "eps",
        /// Progressive shrinking (OFA).
        Ofa = "ofa",
        /// The largest network alone.
        Full = "full",
        /// Warm-up on a target data set (NATv2).
        Target = "target",
    }
);
words!(
    /// An optimiser.
    Optimiser {
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Adam with decoupled weight decay.
        Adamw = "adamw",
    }
);
words!(
    /// Which parameters decay.
    Decay {
        /// All but those of batch norms and biases.
        Weights = "weights",
        /// All.
        All = "all",
    }
);
words!(
    /// Who teaches the sub-networks of a phase.
    Teacher {
        /// Nobody.
        None = "none",
        /// The largest network as it was after the first phase that trains it alone.
        Fixed = "fixed",
        /// The largest network as it was after the phase before (progressively extracted, OFAv2).
        Pet = "pet",
    }
);
words!(
    /// Which super-networks a phase trains, where two of different widths train together.
    #[derive(Default)]
    Widths {
        /// Both; each sub-network is one of either.
        #[default]
        All = "all",
        /// The narrow one.
        Narrow = "narrow",
        /// The wide one.
        Wide = "wide",
    }
);
words!(
    /// How the exits are weighted, in their joint loss and in the sum of their logits (AEP).
    ExitWeights {
        /// The last exit most.
        Asc = "asc",
        /// The first exit most.
        Desc = "desc",
        /// All alike.
        Unif = "unif",
        /// The first most in the loss, the last most in the sum.
        Mix = "mix",
    }
);
