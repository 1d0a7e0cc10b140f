//! `[run]`, `[data]`, `[supernet]`: what a run works on.

use super::keys::{IMAGES, Kind, section};
use super::profiles::Given;
use super::words;
use crate::data::NAMES;
use crate::data::augment::Preset;
use crate::space::{ExitScaling, Family};
use std::path::PathBuf;

section! {
    /// `[run]`: what `natv2 run` does.
    Run, pub(super) fn usual();

    /// Whether `natv2 run` warms given weights up on the data set: where they come from another, always,
    /// never.
    warmup: RunWarmup => RunWarmup::Auto;
}

section! {
    /// `[data]`. What is `None` is up to the weights' card and the data set.
    Data, pub(super) fn usual();

    /// The data set.
    #[absent = "the one on the weights' card, else digits, which are built in"]
    name: Option<String>, Kind::Choice(&NAMES) => None;

    /// The folder with the data set's files.
    #[absent = "the data set is built in"]
    dir: Option<PathBuf> => None;

    /// CIFAR: how many images at the end of the training files are the validation split.
    #[absent = "as the weights' card says, else a tenth"]
    validation_images: Option<usize>, IMAGES => None;

    /// Folders: the part of each class, at its end, that is the validation split.
    #[absent = "0.1; for tiny-imagenet 0.15 in the published work"]
    validation_fraction: Option<f64>, Kind::Between(0.0, 1.0) => None;

    /// What happens to training images: nothing, small shifts, flip, flip and AutoAugment, shifts over a border and
    /// flip, crops within the image and flip.
    #[absent = "none for digits, tiny-imagenet for that and CIFAR, photos for folders; with profile paper cifar for CIFAR"]
    augmentation: Option<Preset> => None;
}

section! {
    /// `[supernet]`. What is `None` is up to the weights' card.
    Supernet, pub(super) fn usual(given: &Given);

    /// The super-network's weights (safetensors, a card beside them).
    #[absent = "what this run has trained, else the small super-network for digits that is built in"]
    weights: Option<PathBuf> => None;

    /// The weights of a second super-network of another width, trained and searched side by side.
    #[absent = "one super-network, unless this run has trained two"]
    wide_weights: Option<PathBuf> => None;

    /// The family of super-networks: single or early exit; basic, dense, parallel, both.
    #[absent = "as the weights' card says, else SE_B where they have a plain head, else EE_B"]
    family: Option<Family> => None;

    /// The width multiplier of a super-network that is trained from random weights.
    #[absent = "that of the weights, else 1.0; 0.25 in the small profiles"]
    width: Option<f64>, Kind::Between(0.05, 8.0) => given.of(None, Some(0.25), Some(0.25));

    /// The width multiplier of a second super-network that is trained from random weights (the paper: 1.0
    /// and 1.2).
    #[absent = "one super-network"]
    wide_width: Option<f64>, Kind::Between(0.05, 8.0) => None;

    /// The number of classes of a super-network that is trained from random weights.
    #[absent = "those of the data set"]
    classes: Option<usize>, Kind::Whole(1, 1 << 20) => None;

    /// How often the width multiplier applies to the exits' heads: once as in OFA, twice as the authors ran
    /// it.
    exit_scaling: ExitScaling => ExitScaling::Once;
}

words!(
    /// When given weights are warmed up before the search of a whole run.
    RunWarmup {
        /// Where they come from another data set or family.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
);
