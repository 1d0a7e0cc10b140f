//! The keys of `[finetune]`.

use super::{Key, Kind, PRECISIONS, STEP_PRECISION, key, optional};

const MOST: i64 = 1 << 53;

pub(super) const FINETUNE: &[Key] = &[
    optional(
        "finetune.search",
        Kind::Path,
        "Run directory of the search whose front is picked from; its data and weights count where none are given.",
        "the run directory itself",
    ),
    optional(
        "finetune.arch",
        Kind::Path,
        "One network of the super-network instead: an architecture in JSON, or a file with it.",
        "networks of a front",
    ),
    key(
        "finetune.pick",
        Kind::Choice(&["trade-off", "front", "best"]),
        "Of the networks within the limits: those with the highest trade-off and the most accurate, all of the front, or the most accurate.",
    ),
    key(
        "finetune.count",
        Kind::Whole(1, 1000),
        "How many by trade-off or by accuracy; of several by trade-off one is the most accurate, a single one has the highest trade-off.",
    ),
    optional(
        "finetune.number",
        Kind::Whole(1, 1_000_000),
        "One network of the front, by its number in the table of the search (by MACs, from 1).",
        "as finetune.pick says",
    ),
    optional(
        "finetune.max_macs",
        Kind::Whole(1, MOST),
        "Most multiply-accumulates of a picked network.",
        "any",
    ),
    optional("finetune.max_params", Kind::Whole(1, MOST), "Most parameters of a picked network.", "any"),
    optional(
        "finetune.min_top1",
        Kind::Between(0.0, 100.0),
        "Least validation accuracy of a picked network in the search, per cent.",
        "any",
    ),
    key(
        "finetune.exits",
        Kind::Choice(&["single", "desc", "asc", "unif", "mix"]),
        "Train the network's own exit, or all up to it as an ensemble (AEP) with these weights; early-exit families only.",
    ),
    key("finetune.prune", Kind::Flag, "AEP: keep the exits that are best together on the validation split."),
    key(
        "finetune.keep",
        Kind::Choice(&["best", "always-train"]),
        "best: a network stays as it was inherited where no epoch of training is better on the validation images; always-train is the paper's rule.",
    ),
    key("finetune.precision", Kind::Choice(PRECISIONS), STEP_PRECISION),
    key(
        "finetune.optimiser",
        Kind::Choice(&["auto", "sgd", "adamw"]),
        "The optimiser; auto is SGD for single-exit families and AdamW for early-exit ones, as published.",
    ),
    key("finetune.rate", Kind::Between(0.0, 100.0), "Rate at the start of the cosine."),
    key("finetune.min_rate", Kind::From(0.0, 100.0), "Rate at its end."),
    key("finetune.momentum", Kind::From(0.0, 1.0), "SGD's momentum."),
    optional(
        "finetune.weight_decay",
        Kind::From(0.0, 1.0),
        "Weight decay.",
        "5e-4 with SGD, 0.01 with AdamW",
    ),
    key("finetune.epochs", Kind::Whole(1, 100_000), "Most epochs, and the length of the cosine."),
    key(
        "finetune.patience",
        Kind::Whole(1, 100_000),
        "Epochs without a lower validation loss that end the first step.",
    ),
    key("finetune.batch", Kind::Whole(2, 65_536), "Images of a step."),
    optional(
        "finetune.epoch_images",
        Kind::Whole(1, 1_000_000_000),
        "Images of an epoch, drawn anew for each.",
        "all training images, once each",
    ),
    optional(
        "finetune.validation_images",
        Kind::Whole(1, 1_000_000_000),
        "Images of the validation split that an epoch ends with, the first in file order.",
        "all of them",
    ),
    optional(
        "finetune.calibration_images",
        Kind::Whole(1, 1_000_000_000),
        "Training images that recompute the batch-norm statistics before the first step.",
        "as the weights' card says, else 960",
    ),
];
