//! What a fine-tuning leaves: `finetuned.json`, and each network's weights with a card.
//!
//! Neither holds a time. The only path is the folder of the data set on a card, so equal runs give equal bytes.
//! A finished network is also a checkpoint of its own: if its files are lost or damaged, they are written again
//! from there.

use super::{Epoch, Error, Picked, Reason};
use crate::engine::CALIBRATION_BATCH;
use crate::export::{self, Accuracies, Ensemble, NetworkState};
use crate::run::{self, RunDirectory};
use crate::supernet::{Card, Network, Supernet};
use crate::train::Material;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

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
    /// Why it was picked; nothing in files of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub picked_for: Vec<Reason>,
    /// Whether it was trained, or is kept as it was inherited since no epoch was better.
    #[serde(default = "trained")]
    pub state: NetworkState,
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
    /// The weights of their logits; they sum to one.
    pub beta: Vec<f64>,
    /// Epochs of the first step.
    pub epochs: u64,
    /// E*, the epochs of the second; 0 where it is kept as it was inherited.
    pub best_epoch: u64,
    /// Validation accuracy in the search, per cent.
    pub search_top1: Option<f64>,
    /// Validation accuracy of epoch 0, the inherited weights, with the exits that would stay, per cent;
    /// nothing in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_top1: Option<f64>,
    /// Validation accuracy at E* with the exits that stay, per cent.
    pub validation_top1: f64,
    /// The network as the search left it, with recalibrated batch norms, at its own exit.
    pub before: Measured,
    /// As it is now: after the second step, or as it was inherited, with the exits that stay.
    pub after: Measured,
    /// The weights' file in the run directory.
    pub weights: String,
    /// Every epoch of both steps.
    pub history: Vec<Epoch>,
}

/// Earlier versions kept no network as it was inherited.
fn trained() -> NetworkState {
    NetworkState::FineTuned
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
        let refuse = |reason: String| Error::Result { file: path.display().to_string(), reason };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| refuse(format!("it is damaged ({e}), or of another version"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_string_pretty(self).expect("a summary holds nothing that JSON cannot");
        text.push('\n');
        text.into_bytes()
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
pub(super) fn network(
    mut weights: Supernet,
    material: &Material,
    result: &Finetuned,
) -> Result<Network, Error> {
    let dataset = &material.dataset;
    let card = &mut weights.card;
    card.made_on(dataset);
    card.class_names = if dataset.classes().len() == weights.layout.classes() {
        dataset.classes().to_vec()
    } else {
        Vec::new()
    };
    (card.mean, card.std) = (Some(material.pixels.mean), Some(material.pixels.std));
    let calibration = material.calibration.len();
    let (trained, statistics) = match result.state {
        NetworkState::FineTuned => (
            format!("natv2 finetune: {} epochs on training and validation images", result.best_epoch),
            "running means of the fine-tuning".into(),
        ),
        NetworkState::Inherited => (
            format!(
                "{}natv2 finetune: kept as inherited, since none of {} epochs was better on the validation images",
                card.trained.as_deref().map(|before| format!("{before}; ")).unwrap_or_default(),
                result.epochs
            ),
            export::statistics::recalibrated_on(calibration, dataset.name(), CALIBRATION_BATCH),
        ),
    };
    card.trained = Some(trained);
    let mut network = Network::of(weights)?;
    let r = network.arch().r;
    let card = &mut network.weights_mut().card;
    card.resolutions = vec![r];
    if let Some(network) = &mut card.network {
        network.statistics = Some(statistics);
    }
    result.state.mark(card);
    // A network that was trained on the validation images has no accuracy on them.
    let validation = (result.state == NetworkState::Inherited).then_some(result.validation_top1);
    let known = Accuracies { validation, test: result.after.top1 };
    export::describe(&mut network, result.ensemble().as_ref(), known);
    Ok(network)
}

/// The files of a network's checkpoint.
const WEIGHTS: &str = "network.safetensors";
const CARD: &str = "network.card.json";

/// The checkpoint of a finished network: never replaced by those of later steps, nor cleared with them.
fn stage(number: usize) -> String {
    format!("network-{number}")
}

/// Keeps a finished network: a checkpoint of its own, and its files.
///
/// # Errors
/// Writing fails.
pub(super) fn store(run: &RunDirectory, network: &Network, result: &Finetuned) -> Result<(), Error> {
    let (weights, card) = (network.checkpoint().to_bytes()?, network.weights().card.to_json().into_bytes());
    let mut checkpoint = run.checkpoint(&stage(result.number), 0)?;
    checkpoint.add(WEIGHTS, &weights)?;
    checkpoint.add(CARD, &card)?;
    checkpoint.commit()?;
    write(run, result, &weights, &card)
}

/// The card first, so that weights are never without it.
fn write(run: &RunDirectory, result: &Finetuned, weights: &[u8], card: &[u8]) -> Result<(), Error> {
    let card_file = Card::path(Path::new(&result.weights)).display().to_string();
    run.write_atomic(&card_file, card)?;
    Ok(run.write_atomic(&result.weights, weights)?)
}

/// Writes all results: `finetuned.json`, and the files of networks that are not as they were left.
///
/// # Errors
/// Writing fails; a network is lost with its checkpoint.
pub(super) fn publish(run: &RunDirectory, summary: &Summary) -> Result<(), Error> {
    for network in &summary.networks {
        let lost = |reason: String| Error::Lost {
            file: run.path().join(&network.weights).display().to_string(),
            number: network.number,
            reason,
        };
        let stored = match run.latest_checkpoint(&stage(network.number)) {
            Ok(restored) => restored.checkpoint,
            Err(error @ run::Error::Damaged { .. }) => {
                readable(run, network).map_err(|reason| lost(format!("{reason}; {error}")))?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        match stored {
            Some(stored) => write(run, network, &stored.read(WEIGHTS)?, &stored.read(CARD)?)?,
            None => readable(run, network).map_err(lost)?,
        }
    }
    Ok(run.write_atomic(SUMMARY_FILE, &summary.to_bytes())?)
}

/// A finished network of the run in `run` and its file, which must be as the fine-tuning left it.
///
/// # Errors
/// Files that are lost or damaged.
pub fn read(run: &Path, result: &Finetuned) -> Result<(PathBuf, Supernet), Error> {
    let file = run.join(&result.weights);
    let refuse = |reason: String| Error::Result { file: file.display().to_string(), reason };
    // Bytes that have changed may still be a network. Where the checkpoint is gone, what can be read counts.
    if let Ok(run::Restored { checkpoint: Some(stored), .. }) =
        run::latest_checkpoint(run, &stage(result.number))
    {
        for (name, path) in [(WEIGHTS, file.clone()), (CARD, Card::path(&file))] {
            let found =
                std::fs::read(&path).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
            if stored.read(name)? != found {
                return Err(refuse(format!("{} has changed since it was written", path.display())));
            }
        }
    }
    let supernet = Supernet::load(&file, None).map_err(|error| refuse(error.to_string()))?;
    Ok((file, supernet))
}

/// Whether a network's files are those of the network, as far as they say it themselves.
fn readable(run: &RunDirectory, result: &Finetuned) -> Result<(), String> {
    let network = Network::load(&run.path().join(&result.weights)).map_err(|error| error.to_string())?;
    let exits: Vec<usize> = network.exits().iter().map(|exit| exit + 1).collect();
    let arch = serde_json::to_value(network.arch()).unwrap_or_default();
    if arch == result.arch && exits == result.exits { Ok(()) } else { Err("it is another network's".into()) }
}
