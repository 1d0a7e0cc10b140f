//! `[train]` and `[warmup]`: how a super-network is trained, and a phase of a training as data.
//!
//! Both sections have the same keys. A phase is an entry of `[[train.phases]]`, or comes from a
//! built-in schedule; either way it is a [`Phase`], and nothing else tells a training what to do.

use super::keys::{IMAGES, Kind, section};
use super::profiles::Given;
use super::{Precision, words};
use crate::space::Strategy;

/// No schedule or phase has more epochs than this.
pub const MOST_EPOCHS: usize = 100_000;

section! {
    /// `[train]`, `[warmup]`. Progressive shrinking has the once-for-all package's settings, the schedule `target`
    /// those of NAT's and NATv2's programs.
    Training, pub(super) fn usual(given: &Given, schedule: Schedule);

    /// The phases: extended progressive shrinking (OFAv2), progressive shrinking (OFA), the largest network
    /// alone, NATv2's warm-up, all sub-networks at once with the largest as their teacher (BigNAS).
    schedule: Schedule => schedule;

    /// Phases of your own, in order: tables with name, epochs, rate, and what else differs from the usual.
    #[absent = "those of the schedule"]
    phases: Option<Vec<Phase>>, Kind::Phases => None;

    /// How new weights are drawn: as once-for-all, as PyTorch, that with blocks that begin as the identity, or
    /// depthwise filters by their own fan and small classifiers.
    init: Init => given.of(Init::HeFanOut, Init::default(), Init::default());

    // A fifth of the epochs, an eighth where each has all sub-networks; so little that each phase keeps one.
    /// Factor on the epochs of the schedule, of which each phase keeps at least one; 1 is as published.
    scale: f64, Kind::Between(0.0, 1000.0) =>
        given.of(1.0, if schedule == Schedule::Sandwich { 0.12 } else { 0.2 }, 0.001);

    /// Epochs of the whole schedule, shared out among its phases as published, of which each keeps at least one.
    #[absent = "those of the schedule times scale"]
    epochs: Option<usize>, Kind::Whole(1, MOST_EPOCHS as i64) => None;

    /// Factor on every phase's rates; published rates are for SGD and the published batch.
    rate_scale: f64, Kind::Between(0.0, 1e6) => 1.0;

    // Small data sets have few steps an epoch.
    /// Images of a step.
    batch: usize, Kind::Whole(2, 65_536) =>
        if schedule.is_target() { given.of(256, 256, 16) } else { given.of(64, 32, 16) };

    /// Images of an epoch, drawn anew for each.
    #[absent = "all training images, once each"]
    epoch_images: Option<usize>, IMAGES => given.in_tiny(48);

    /// Sides in pixels, of which each step draws one.
    #[absent = "those of the weights' card and the multiples of 4 between, else 48 to 64 in steps of 4"]
    resolutions: Option<Vec<u32>>, Kind::Ascending(32, 1024) =>
        given.of(None, Some(vec![32, 36, 40, 44, 48]), Some(vec![32]));

    /// What maps and their gradients are stored as in a step; weights, their gradients and the optimiser are
    /// f32, and losses of f16 are scaled.
    precision: Precision => Precision::F32;

    /// The optimiser.
    optimiser: Optimiser => Optimiser::Sgd;

    /// SGD's momentum; the first beta of AdamW.
    momentum: f64, Kind::From(0.0, 1.0) => 0.9;

    /// Whether SGD's momentum is Nesterov's.
    nesterov: bool => !schedule.is_target();

    /// Weight decay.
    weight_decay: f64, Kind::From(0.0, 1.0) => if schedule.is_target() { 3e-4 } else { 3e-5 };

    /// What decays: all but batch norms and biases, or all.
    decay: Decays => if schedule.is_target() { Decays::All } else { Decays::Weights };

    /// Largest norm of a step's gradient; 0 does not clip.
    clip: f64, Kind::From(0.0, 1e9) => if schedule.is_target() { 5.0 } else { 0.0 };

    /// Who teaches sub-networks: nobody, the largest network after its own phase, after the phase before, or in
    /// the same step. Follows the schedule.
    teacher: Teacher => match schedule {
        Schedule::Eps => Teacher::Pet,
        Schedule::Ofa | Schedule::Target => Teacher::Fixed,
        Schedule::Full => Teacher::None,
        Schedule::Sandwich => Teacher::Largest,
    };

    /// Weights of early exits in joint training and in a teacher's sum of logits: the last most, the first
    /// most, all alike, first in the loss and last in the sum.
    exit_weights: Strategy => if schedule.is_target() { Strategy::Desc } else { Strategy::Asc };

    /// Epochs between validations; a phase ends with one.
    validation_epochs: usize, Kind::Whole(1, 100_000) =>
        if schedule.is_target() { 10 } else { given.of(1, 5, 5) };

    /// Sub-networks of a validation, of the smallest and largest of every dimension.
    validation_networks: usize, Kind::Whole(1, 1000) => given.of(32, 8, 2);

    /// Images of the validation split that a validation looks at, the first in file order.
    #[absent = "all of them"]
    validation_images: Option<usize>, IMAGES => given.in_tiny(50);

    /// Training images that recompute the batch-norm statistics before a validation.
    #[absent = "as the weights' card says for the same data set, else 960"]
    calibration_images: Option<usize>, IMAGES => given.in_tiny(50);

    /// Steps between checkpoints: the most that an interruption costs.
    checkpoint_steps: usize, IMAGES => given.of(500, 100, 4);
}

section! {
    /// A phase of a training.
    ///
    /// The lists say which values sub-networks are drawn from; a dimension without one stays at its
    /// largest. `branches` matters to families with parallel blocks only, `exits` to those with early
    /// exits only.
    // A list such as [7] is a value here, and no link.
    #[allow(rustdoc::broken_intra_doc_links)]
    Phase, pub fn new(name: &str, epochs: usize, rate: f64);

    /// Its name, unlike that of any other phase of the training.
    name: String, Kind::Name => name.into();

    /// Epochs along the cosine, after the warm-up.
    epochs: usize, Kind::Whole(1, MOST_EPOCHS as i64) => epochs;

    /// Rate at the start of the cosine.
    rate: f64, Kind::Between(0.0, 100.0) => rate;

    /// Epochs of warm-up.
    #[absent = "0"]
    warmup_epochs: usize, Kind::Whole(0, MOST_EPOCHS as i64) => 0;

    /// Rate at its start.
    #[absent = "as rate: a flat warm-up"]
    warmup_rate: Option<f64>, Kind::From(0.0, 100.0) => None;

    /// Sub-networks of a step, whose gradients are added up.
    #[absent = "1"]
    networks: usize, Kind::Whole(1, 64) => 1;

    /// Whether the largest network alone is trained, at all its exits together.
    #[absent = "false"]
    full: bool => false;

    /// Depthwise kernels.
    #[absent = "[7]"]
    kernels: Vec<u8>, Kind::Numbers(&[3, 5, 7]) => vec![7];

    /// Expansion ratios.
    #[absent = "[6]"]
    expansions: Vec<u8>, Kind::Numbers(&[3, 4, 6]) => vec![6];

    /// Depths: layers of a stage.
    #[absent = "[4]"]
    depths: Vec<u8>, Kind::Numbers(&[2, 3, 4]) => vec![4];

    /// Numbers of parallel branches of a layer.
    #[absent = "[3]"]
    branches: Vec<u8>, Kind::Numbers(&[1, 2, 3]) => vec![3];

    /// Exits, from 1.
    #[absent = "[5]"]
    exits: Vec<u8>, Kind::Numbers(&[1, 2, 3, 4, 5]) => vec![5];

    /// Channels are sorted by importance on entry, where this is given: all of them at 0; from 1 on the
    /// channels that the s largest expansions below the largest have in common stay in front.
    #[absent = "channels stay"]
    sort: Option<usize>, Kind::Whole(0, 2) => None;

    /// Which of the super-networks that train together are trained.
    #[absent = "all"]
    widths: Widths => Widths::All;

    /// Its teacher: by default none in a phase of the largest network alone.
    #[absent = "the training's"]
    teacher: Option<Teacher> => None;

    /// Weight of the distillation loss.
    #[absent = "1"]
    kd_ratio: f64, Kind::From(0.0, 1000.0) => 1.0;

    /// Label smoothing.
    #[absent = "0.1"]
    label_smoothing: f64, Kind::From(0.0, 1.0) => 0.1;

    /// Dropout before the classifiers.
    #[absent = "0.1"]
    dropout: f64, Kind::From(0.0, 1.0) => 0.1;
}

impl Phase {
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
        /// All sub-networks at once, taught by the largest in every step (BigNAS).
        Sandwich = "sandwich",
    }
);

impl Schedule {
    fn is_target(self) -> bool {
        self == Schedule::Target
    }
}

words!(
    /// How the weights of a new super-network, or the new parts of a converted one, are drawn.
    Init {
        /// As the once-for-all package draws them, `init_models(net, "he_fout")` (arXiv 1502.01852).
        HeFanOut = "he-fan-out",
        /// PyTorch's own default for every layer.
        UniformFanIn = "uniform-fan-in",
        /// The same, and blocks with a shortcut begin as the identity (arXiv 1706.02677).
        ZeroResidual = "zero-residual",
        /// Depthwise filters by their own fan, small classifiers (arXiv 1801.04381).
        Mobilenet = "mobilenet",
    }
);

/// The best of them in short trainings (README, "Training in minutes").
impl Default for Init {
    fn default() -> Init {
        Init::ZeroResidual
    }
}

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
    /// Which tensors decay.
    Decays {
        /// Those of more than one dimension: neither batch norms nor biases, as in OFA.
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
        /// The largest network as it is: every step trains it on labels, with the phase's dropout and label
        /// smoothing, and the smallest and `networks` others on its answers alone (the sandwich rule, BigNAS). Of two
        /// super-networks the wider one's teaches both ends of both.
        Largest = "largest",
    }
);
words!(
    /// Which super-networks a phase trains, where two of different widths train together.
    Widths {
        /// Both; each sub-network is one of either.
        All = "all",
        /// The narrow one.
        Narrow = "narrow",
        /// The wide one.
        Wide = "wide",
    }
);
