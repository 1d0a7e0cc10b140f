//! The keys of `[train]` and `[warmup]`, which are the same, and those of a phase.

use super::{Key, Kind, PRECISIONS, STEP_PRECISION, key, optional};

/// Keys of a training section.
pub(super) const KEYS: usize = 21;

/// The keys of the section `$section`.
macro_rules! section {
    ($section:literal) => {
        [
            key(
                concat!($section, ".schedule"),
                Kind::Choice(&["eps", "ofa", "full", "target"]),
                "The phases: extended progressive shrinking (OFAv2), progressive shrinking (OFA), the largest network alone, NATv2's warm-up.",
            ),
            optional(
                concat!($section, ".phases"),
                Kind::Phases,
                "Phases of your own, in order: tables with name, epochs, rate, and what else differs from the usual.",
                "those of the schedule",
            ),
            key(
                concat!($section, ".scale"),
                Kind::Between(0.0, 1000.0),
                "Factor on the epochs of the schedule, of which each phase keeps at least one; 1 is as published.",
            ),
            key(
                concat!($section, ".rate_scale"),
                Kind::Between(0.0, 1e6),
                "Factor on every phase's rates; published rates are for SGD and the published batch.",
            ),
            key(concat!($section, ".batch"), Kind::Whole(2, 65_536), "Images of a step."),
            optional(
                concat!($section, ".epoch_images"),
                Kind::Whole(1, 1_000_000_000),
                "Images of an epoch, drawn anew for each.",
                "all training images, once each",
            ),
            optional(
                concat!($section, ".resolutions"),
                Kind::Ascending(32, 1024),
                "Sides in pixels, of which each step draws one.",
                "those of the weights' card and the multiples of 4 between, else 48 to 64 in steps of 4",
            ),
            key(
                concat!($section, ".precision"),
                Kind::Choice(PRECISIONS),
                STEP_PRECISION,
            ),
            key(concat!($section, ".optimiser"), Kind::Choice(&["sgd", "adamw"]), "The optimiser."),
            key(
                concat!($section, ".momentum"),
                Kind::From(0.0, 1.0),
                "SGD's momentum; the first beta of AdamW.",
            ),
            key(concat!($section, ".nesterov"), Kind::Flag, "Whether SGD's momentum is Nesterov's."),
            key(concat!($section, ".weight_decay"), Kind::From(0.0, 1.0), "Weight decay."),
            key(
                concat!($section, ".decay"),
                Kind::Choice(&["weights", "all"]),
                "What decays: all but batch norms and biases, or all.",
            ),
            key(
                concat!($section, ".clip"),
                Kind::From(0.0, 1e9),
                "Largest norm of a step's gradient; 0 does not clip.",
            ),
            key(
                concat!($section, ".teacher"),
                Kind::Choice(&["none", "fixed", "pet"]),
                "Who teaches sub-networks: nobody, the largest network after its own phase, or after the phase before. Follows the schedule.",
            ),
            key(
                concat!($section, ".exit_weights"),
                Kind::Choice(&["asc", "desc", "unif", "mix"]),
                "Weights of early exits in joint training and in a teacher's sum of logits: the last most, the first most, all alike, first in the loss and last in the sum.",
            ),
            key(
                concat!($section, ".validation_epochs"),
                Kind::Whole(1, 100_000),
                "Epochs between validations; a phase ends with one.",
            ),
            key(
                concat!($section, ".validation_networks"),
                Kind::Whole(1, 1000),
                "Sub-networks of a validation, of the smallest and largest of every dimension.",
            ),
            optional(
                concat!($section, ".validation_images"),
                Kind::Whole(1, 1_000_000_000),
                "Images of the validation split that a validation looks at, the first in file order.",
                "all of them",
            ),
            optional(
                concat!($section, ".calibration_images"),
                Kind::Whole(1, 1_000_000_000),
                "Training images that recompute the batch-norm statistics before a validation.",
                "as the weights' card says, else 1000 for tiny-imagenet, 960 for others",
            ),
            key(
                concat!($section, ".checkpoint_steps"),
                Kind::Whole(1, 1_000_000_000),
                "Steps between checkpoints: the most that an interruption costs.",
            ),
        ]
    };
}

pub(super) const TRAIN: [Key; KEYS] = section!("train");
pub(super) const WARMUP: [Key; KEYS] = section!("warmup");

/// The keys of a phase. Those with nothing in `absent` must be given.
pub const PHASE_KEYS: &[Key] = &[
    key("name", Kind::Name, "Its name."),
    key("epochs", Kind::Whole(1, 100_000), "Epochs along the cosine, after the warm-up."),
    key("rate", Kind::Between(0.0, 100.0), "Rate at the start of the cosine."),
    optional("warmup_epochs", Kind::Whole(0, 100_000), "Epochs of warm-up.", "0"),
    optional("warmup_rate", Kind::From(0.0, 100.0), "Rate at its start.", "as rate: a flat warm-up"),
    optional("networks", Kind::Whole(1, 64), "Sub-networks of a step.", "1"),
    optional("full", Kind::Flag, "Whether the largest network alone is trained.", "false"),
    optional("kernels", Kind::Numbers(&[3, 5, 7]), "Depthwise kernels.", "[7]"),
    optional("expansions", Kind::Numbers(&[3, 4, 6]), "Expansion ratios.", "[6]"),
    optional("depths", Kind::Numbers(&[2, 3, 4]), "Layers of a stage.", "[4]"),
    optional("branches", Kind::Numbers(&[1, 2, 3]), "Parallel branches of a layer.", "[3]"),
    optional("exits", Kind::Numbers(&[1, 2, 3, 4, 5]), "Exits.", "[5]"),
    optional("sort", Kind::Whole(0, 2), "Stage of the channel sorting on entry.", "channels stay"),
    optional(
        "widths",
        Kind::Choice(&["all", "narrow", "wide"]),
        "Which of two super-networks that train together.",
        "all",
    ),
    optional("teacher", Kind::Choice(&["none", "fixed", "pet"]), "Its teacher.", "the training's"),
    optional("kd_ratio", Kind::From(0.0, 1000.0), "Weight of the distillation loss.", "1"),
    optional("label_smoothing", Kind::From(0.0, 1.0), "Label smoothing.", "0.1"),
    optional("dropout", Kind::From(0.0, 1.0), "Dropout before the classifier.", "0.1"),
];
