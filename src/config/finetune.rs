//! `[finetune]`: which networks of a search are trained on their own, and how.

use super::keys::{IMAGES, Kind, section};
use super::profiles::Given;
use super::training::Optimiser;
use super::{Precision, words};
use crate::space::Strategy;
use std::path::PathBuf;

/// The largest count that a number of TOML and JSON holds exactly.
const MOST: i64 = 1 << 53;

section! {
    /// `[finetune]`: as NATv2's programs do it, with a tenth of the epochs, or next to none.
    Finetune, pub(super) fn usual(given: &Given);

    /// Run directory of the search whose front is picked from; its data and weights count where none are
    /// given.
    #[absent = "the run directory itself"]
    search: Option<PathBuf> => None;

    /// One network of the super-network instead: an architecture in JSON, or a file with it.
    #[absent = "networks of a front"]
    arch: Option<String>, Kind::Path => None;

    /// Of the networks within the limits: those with the highest trade-off and the most accurate, all of the
    /// front, or the most accurate.
    pick: Pick => Pick::TradeOff;

    /// How many by trade-off or by accuracy; of several by trade-off one is the most accurate, a single one
    /// has the highest trade-off.
    count: usize, Kind::Whole(1, 1000) => 4;

    /// One network of the front, by its number in the table of the search (by MACs, from 1).
    #[absent = "as finetune.pick says"]
    number: Option<usize>, Kind::Whole(1, 1_000_000) => None;

    /// Most multiply-accumulates of a picked network.
    #[absent = "any"]
    max_macs: Option<u64>, Kind::Whole(1, MOST) => None;

    /// Most parameters of a picked network.
    #[absent = "any"]
    max_params: Option<u64>, Kind::Whole(1, MOST) => None;

    /// Least validation accuracy of a picked network in the search, per cent.
    #[absent = "any"]
    min_top1: Option<f64>, Kind::Between(0.0, 100.0) => None;

    /// Train the network's own exit, or all up to it as an ensemble (AEP) with these weights; early-exit
    /// families only.
    exits: Exits => Exits::Single;

    /// AEP: keep the exits that are best together on the validation split.
    prune: bool => true;

    /// best: a network stays as it was inherited where no epoch of training is better on the validation
    /// images; always-train is the paper's rule.
    keep: Keep => Keep::Best;

    /// What maps and their gradients are stored as in a step; weights, their gradients and the optimiser are
    /// f32, and losses of f16 are scaled.
    precision: Precision => Precision::F32;

    /// The optimiser; auto is SGD for single-exit families and AdamW for early-exit ones, as published.
    optimiser: FinetuneOptimiser => FinetuneOptimiser::Auto;

    /// Rate at the start of the cosine.
    rate: f64, Kind::Between(0.0, 100.0) => 1e-4;

    /// Rate at its end.
    min_rate: f64, Kind::From(0.0, 100.0) => 1e-8;

    /// SGD's momentum.
    momentum: f64, Kind::From(0.0, 1.0) => 0.9;

    /// Weight decay.
    #[absent = "5e-4 with SGD, 0.01 with AdamW"]
    weight_decay: Option<f64>, Kind::From(0.0, 1.0) => None;

    /// Most epochs, and the length of the cosine.
    epochs: usize, Kind::Whole(1, 100_000) => given.of(150, 15, 2);

    /// Epochs without a lower validation loss that end the first step.
    patience: usize, Kind::Whole(1, 100_000) => given.of(30, 5, 2);

    /// Images of a step.
    batch: usize, Kind::Whole(2, 65_536) => given.of(64, 64, 16);

    /// Images of an epoch, drawn anew for each.
    #[absent = "all training images, once each"]
    epoch_images: Option<usize>, IMAGES => given.in_tiny(48);

    /// Images of the validation split that an epoch ends with, the first in file order.
    #[absent = "all of them"]
    validation_images: Option<usize>, IMAGES => given.in_tiny(50);

    /// Training images that recompute the batch-norm statistics before the first step.
    #[absent = "as the weights' card says for the same data set, else 960"]
    calibration_images: Option<usize>, IMAGES => given.in_tiny(50);
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
    /// The exits that fine-tuning trains.
    Exits {
        /// The network's own.
        Single = "single",
    }
    or
    /// All up to it as an ensemble (AEP), with the weights of a strategy.
    Ensemble(Strategy): Desc, Asc, Unif, Mix
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
    }
    or
    /// This one.
    Given(Optimiser): Sgd, Adamw
);
