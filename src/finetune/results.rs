//! What a fine-tuning leaves: `finetuned.json`, and each network's weights with a card.
//!
//! Neither holds a time or a path, so equal runs give equal bytes.

use super::{Epoch, Error, Picked};
use crate::data::Dataset;
use crate::evaluator::Pixels;
use crate::export::{self, Accuracies, Ensemble};
use crate::run::RunDirectory;
use crate::supernet::{Card, Network, Supernet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The summary in the run directory.
pub const SUMMARY_FILE: &str = "finetuned.json";

/// A network on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Accuracy, per cent; none where there are no test images.
    pub top1: Option<f64>,
    /// Mean cross entropy.
    pub loss: Option<f64>,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// A network that has been fine-tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finetuned {
    /// Its number in the front.
    pub number: usize,
    /// Its genotype in the search, where it has one.
    pub genotype: Option<Vec<u8>>,
    /// Its architecture as it was picked.
    pub picked: Value,
    /// And as it is now: shorter, where its last exits were removed.
    pub arch: Value,
    /// `single`, or the strategy of its exits' weights.
    pub strategy: String,
    /// The exits that it has, from 1.
    pub exits: Vec<usize>,
    /// The weights of their logits.
    pub beta: Vec<f64>,
    /// Epochs of the first step.
    pub epochs: u64,
    /// E*, the epochs of the second.
    pub best_epoch: u64,
    /// Validation accuracy in the search, per cent.
    pub search_top1: Option<f64>,
    /// Validation accuracy at E* with the exits that stay, per cent.
    pub validation_top1: f64,
    /// The network as the search left it, with recalibrated batch norms, at its own exit.
    pub before: Measured,
    /// After the second step.
    pub after: Measured,
    /// The weights' file in the run directory.
    pub weights: String,
    /// Every epoch of both steps.
    pub history: Vec<Epoch>,
}

/// What a fine-tuning came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form.
    pub version: u32,
    /// The family.
    pub family: String,
    /// Name of the data set.
    pub data: String,
    /// The networks, by number.
    pub networks: Vec<Finetuned>,
}

impl Finetuned {
    /// How its exits make one output, where it is an ensemble.
    pub fn ensemble(&self) -> Option<Ensemble> {
        let strategy = self.strategy.parse().ok()?;
        Some(Ensemble { strategy, weights: self.beta.clone() })
    }
}

impl Summary {
    /// The summary in a run directory, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is no summary.
    pub fn read(run: &Path) -> Result<Option<Summary>, Error> {
        let path = run.join(SUMMARY_FILE);
        let refuse = |reason: String| Error::State { file: path.display().to_string(), reason };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| refuse(e.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Writes `finetuned.json`.
    ///
    /// # Errors
    /// Writing fails.
    pub fn publish(&self, run: &RunDirectory) -> Result<(), Error> {
        let mut text = serde_json::to_string_pretty(self).expect("a summary holds nothing that JSON cannot");
        text.push('\n');
        Ok(run.write_atomic(SUMMARY_FILE, text.as_bytes())?)
    }
}

/// The name of the weights' file of a network.
pub fn weights_file(picked: &Picked) -> String {
    format!("network-{}.safetensors", picked.number)
}

/// The network of `weights` with all that a file of its own says of it.
///
/// # Errors
/// Weights that are not those of one network.
pub fn network(
    mut weights: Supernet,
    dataset: &Dataset,
    pixels: Pixels,
    result: &Finetuned,
) -> Result<Network, Error> {
    let card = &mut weights.card;
    card.class_names = match dataset.classes().len() == weights.layout.classes() {
        true => dataset.classes().to_vec(),
        false => Vec::new(),
    };
    card.data = Some(dataset.name().into());
    (card.mean, card.std) = (Some(pixels.mean), Some(pixels.std));
    card.trained =
        Some(format!("natv2 finetune: {} epochs on training and validation images", result.best_epoch));
    let mut network = Network::of(weights)?;
    let r = network.arch().r;
    let card = &mut network.weights_mut().card;
    card.resolutions = vec![r];
    if let Some(network) = &mut card.network {
        network.statistics = Some("running means of the fine-tuning".into());
    }
    let known = Accuracies { validation: None, test: result.after.top1 };
    export::describe(&mut network, result.ensemble().as_ref(), known);
    Ok(network)
}

/// Writes a network's weights and card.
///
/// # Errors
/// Writing fails.
pub fn publish(run: &RunDirectory, network: &Network, result: &Finetuned) -> Result<(), Error> {
    let card_file = Card::path(Path::new(&result.weights)).display().to_string();
    run.write_atomic(&card_file, network.weights().card.to_json().as_bytes())?;
    Ok(run.write_atomic(&result.weights, &network.checkpoint().to_bytes()?)?)
}
