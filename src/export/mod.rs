//! Networks that run elsewhere.
//!
//! A [`Network`] taken out of a super-network is made ready in two steps, and then written in one of
//! two forms:
//!
//! - [`prepare`]: its batch-norm statistics recalibrated on the data set and stored
//!   ([`statistics`]), and its card filled in with data set, classes and pixels; or, where it keeps the
//!   statistics that it holds, [`probe::check`], which sees that it computes with them;
//! - [`describe`]: costs, accuracies and weights of the exits added to the card;
//! - as safetensors: [`Network::checkpoint`] and the card, which loads again as a network;
//! - as ONNX: [`onnx::model`], with the card as [`metadata`].

pub mod onnx;
pub mod probe;
pub mod statistics;

use crate::data::Split;
use crate::engine::CALIBRATION_BATCH;
use crate::engine::ensemble::{Strategy, renormalised};
use crate::evaluator::{self, Evaluator};
use crate::exit::exits;
use crate::space::cost;
use crate::space::walk::Exits;
use crate::supernet::{Card, Network, NetworkCard};
use crate::words::words;
use crate::{device, engine};
use serde_json::{Value, json};

/// What can go wrong while a network is exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data set.
    #[error(transparent)]
    Evaluator(#[from] evaluator::Error),
    /// Running the network.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Statistics that are no numbers.
    #[error(
        "a batch norm's recalibrated statistics hold {value}: the weights are damaged, or come from a training that diverged"
    )]
    NotFinite {
        /// The value found.
        value: f32,
    },
    /// A network that computes no numbers with the statistics that it holds.
    #[error(
        "network {network} of {file} does not compute: a logit of a test image is {value}. Its stored batch-norm statistics may not belong to it: export it without --stored-statistics, or check the weights, which may come from a training that diverged", file = .file.display()
    )]
    NoNumbers {
        /// The architecture.
        network: String,
        /// Where the weights come from.
        file: std::path::PathBuf,
        /// The logit.
        value: f32,
    },
    /// Weights of exits that are not one an exit.
    #[error("{weights} weights for {exits} exits: give one an exit")]
    ExitWeights {
        /// Weights given.
        weights: usize,
        /// Exits of the network.
        exits: usize,
    },
    /// A network that the format cannot hold.
    #[error("the network has {bytes} bytes, and an ONNX file holds less than 2 GiB: write safetensors")]
    TooLarge {
        /// Bytes of its weights.
        bytes: usize,
    },
}

exits! { Error: Failure [NotFinite, NoNumbers, ExitWeights, TooLarge]; held [Evaluator, Engine, Device] }

/// Accuracies of a network that are known, per cent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Accuracies {
    /// On the validation split.
    pub validation: Option<f64>,
    /// On the test split.
    pub test: Option<f64>,
}

/// Recalibrates and stores the statistics of `network` as evaluation recalibrates them, and fills in
/// its card: data set, classes, pixels, resolution.
///
/// # Errors
/// As [`statistics::recalibrate`].
pub fn prepare(network: &mut Network, evaluator: &Evaluator) -> Result<(), Error> {
    let images = evaluator.images(Split::Train, None)?;
    let count = evaluator.calibration_images();
    let device = evaluator.engine().shared_device();
    statistics::recalibrate(network, device, &images, count, CALIBRATION_BATCH)?;
    let (dataset, pixels, r) = (evaluator.dataset(), evaluator.pixels(), network.arch().r);
    let card = &mut network.weights_mut().card;
    card.made_on(dataset);
    if card.class_names.is_empty() {
        card.class_names = dataset.classes().to_vec();
    }
    (card.mean, card.std) = (Some(pixels.mean), Some(pixels.std));
    card.resize = Some("bilinear".into());
    card.resolutions = vec![r];
    card.calibration_images = Some(count);
    let statistics = statistics::recalibrated_on(count, dataset.name(), CALIBRATION_BATCH);
    if let Some(card) = &mut card.network {
        card.statistics = Some(statistics);
        // Accuracies measured with other statistics are not those of this network.
        card.other.remove("top1");
    }
    Ok(())
}

/// Adds to the card what a network costs, how its exits are weighted, and what is known of its
/// accuracy.
pub fn describe(network: &mut Network, ensemble: Option<&Ensemble>, known: Accuracies) {
    let (arch, exits) = (network.arch().clone(), network.exits());
    let weights = network.weights_mut();
    let cost = cost(weights.channels(), &arch, exits, weights.classes());
    let card = weights.card.network.get_or_insert_with(|| NetworkCard {
        arch,
        exits,
        statistics: None,
        other: Default::default(),
    });
    let facts = &mut card.other;
    facts.insert("params".into(), json!(cost.params));
    facts.insert("macs".into(), json!(cost.macs));
    facts.insert("natv2_version".into(), json!(env!("CARGO_PKG_VERSION")));
    let run = "natv2 evaluate --weights NAME.safetensors, or natv2 logits; for other programs, natv2 export \
               --weights NAME.safetensors --out NAME.onnx";
    facts.insert("run".into(), json!(run));
    for key in ["aep", "exit_weights"] {
        facts.remove(key);
    }
    if let Some(ensemble) = ensemble {
        facts.insert("aep".into(), json!(ensemble.strategy));
        facts.insert("exit_weights".into(), json!(ensemble.weights));
    }
    let top1: serde_json::Map<String, Value> = [("validation", known.validation), ("test", known.test)]
        .into_iter()
        .filter_map(|(split, top1)| Some((split.to_string(), json!(top1?))))
        .collect();
    if !top1.is_empty() {
        facts.insert("top1".into(), Value::Object(top1));
    }
}

words!(
    /// Whether a network was trained on its own.
    NetworkState {
        /// Its weights are those of the super-network that it was taken out of.
        Inherited = "inherited",
        /// It was fine-tuned since.
        FineTuned = "fine-tuned",
    }
);

impl NetworkState {
    /// The key of a network's card.
    const KEY: &str = "state";

    /// What the card of a stand-alone network says; `None` where it says nothing, as those of earlier
    /// versions, or where the card is a super-network's.
    pub fn of(card: &Card) -> Option<NetworkState> {
        serde_json::from_value(card.network.as_ref()?.other.get(NetworkState::KEY)?.clone()).ok()
    }

    /// Writes it on the card of a network.
    pub fn mark(self, card: &mut Card) {
        if let Some(network) = &mut card.network {
            network.other.insert(NetworkState::KEY.into(), json!(self));
        }
    }
}

/// How a network's exits make one output (AEP).
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// The strategy that the weights come from.
    pub strategy: Strategy,
    /// The weight of each exit's logits; they sum to one, whatever exits were removed.
    pub weights: Vec<f64>,
}

impl Ensemble {
    /// The weights that `strategy` gives to so many exits.
    pub fn new(strategy: Strategy, exits: usize) -> Ensemble {
        Ensemble { strategy, weights: strategy.weights(exits).beta }
    }

    /// What the card of a network says of its exits.
    pub fn of(network: &Network) -> Option<Ensemble> {
        Ensemble::said_by(network.weights().card.network.as_ref()?)
    }

    /// As [`Ensemble::of`], of the card's field alone. Cards of earlier versions have weights that do not
    /// sum to one.
    pub fn said_by(card: &NetworkCard) -> Option<Ensemble> {
        let facts = &card.other;
        let strategy = facts.get("aep")?.as_str()?.parse().ok()?;
        let weights: Vec<f64> =
            facts.get("exit_weights")?.as_array()?.iter().filter_map(Value::as_f64).collect();
        let fits = weights.len() == card.exits.len();
        fits.then(|| Ensemble { strategy, weights: renormalised(&weights) })
    }

    /// The ensemble of those of its exits, `had`, that are kept; `None` where there is another among them.
    pub fn keeping(&self, had: Exits, kept: Exits) -> Option<Ensemble> {
        let weight = |exit: usize| had.iter().position(|other| other == exit).map(|at| self.weights[at]);
        let weights: Vec<f64> = kept.iter().map(weight).collect::<Option<_>>()?;
        Some(Ensemble { strategy: self.strategy, weights: renormalised(&weights) })
    }
}

/// What a file in another format says of a network: its card as pairs of text, nested values as JSON.
pub fn metadata(network: &Network) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    // A card's text is a JSON object.
    let card: Value = serde_json::from_str(&network.weights().card.to_json()).unwrap_or_default();
    let mut pairs = vec![
        ("layout".to_string(), "NCHW, RGB".to_string()),
        ("resolution".to_string(), network.arch().r.to_string()),
    ];
    for (key, value) in card.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("network", Value::Object(network)) => {
                // How to run the other kind of file is of no use here.
                let facts = network.iter().filter(|(key, _)| *key != "run");
                pairs.extend(facts.map(|(key, value)| (key.clone(), text(value))));
            }
            // A folder of this machine says nothing to another program.
            ("resolutions" | "data_dir", _) => {}
            _ => pairs.push((key.clone(), text(value))),
        }
    }
    pairs.sort();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::walk::Exits;
    use crate::space::{Arch, Family};
    use crate::supernet::Supernet;

    #[test]
    fn metadata_holds_what_a_reader_needs() {
        let supernet = Supernet::open(None, None).unwrap();
        let arch = Arch::largest(Family::SE_B, 48, None);
        let mut network = Network::extract(&supernet, &arch, Exits::single(&arch)).unwrap();
        describe(&mut network, None, Accuracies { validation: Some(97.5), test: None });
        let pairs = metadata(&network);
        let value = |key: &str| &pairs.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("{key}")).1;
        assert_eq!((&**value("family"), &**value("resolution"), &**value("exits")), ("SE_B", "48", "[5]"));
        assert_eq!(value("mean"), "[0.3053,0.3053,0.3053]");
        assert_eq!(value("top1"), r#"{"validation":97.5}"#);
        assert_eq!(Arch::parse(Family::SE_B, value("arch")).unwrap(), arch.canonical());
        assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0), "{pairs:?}");
        assert_eq!(Ensemble::of(&network), None);
        let asc = Ensemble::new(Strategy::Asc, 1);
        describe(&mut network, Some(&asc), Accuracies::default());
        assert_eq!(Ensemble::of(&network), Some(asc));
        // Earlier versions left an exit the weight that it had among others.
        let half = Ensemble { strategy: Strategy::Unif, weights: vec![0.5] };
        describe(&mut network, Some(&half), Accuracies::default());
        assert_eq!(Ensemble::of(&network), Some(Ensemble { weights: vec![1.0], ..half }));
        assert_eq!(NetworkState::of(&network.weights().card), None);
        NetworkState::Inherited.mark(&mut network.weights_mut().card);
        assert_eq!(NetworkState::of(&network.weights().card), Some(NetworkState::Inherited));
        assert!(metadata(&network).contains(&("state".into(), "inherited".into())));
    }

    #[test]
    fn exits_that_are_kept_of_an_ensemble_weigh_one_together() {
        let arch = Arch::largest("EE_B".parse().unwrap(), 32, None);
        let exits = |list: &str| Exits::parse(list, &arch).unwrap();
        let ensemble = Ensemble { strategy: Strategy::Asc, weights: vec![0.2, 0.3, 0.5] };
        let kept = |list: &str| ensemble.keeping(exits("1,3,4"), exits(list)).map(|left| left.weights);
        assert_eq!(kept("1,3,4"), Some(vec![0.2, 0.3, 0.5]));
        assert_eq!(kept("1,3"), Some(vec![0.4, 0.6]));
        assert_eq!(kept("4"), Some(vec![1.0]));
        assert_eq!(kept("1,2"), None);
    }
}
