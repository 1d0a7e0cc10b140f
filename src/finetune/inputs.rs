//! What a fine-tuning is told: which networks, on which data, with which settings. All of it is checked here.

use super::state::Part;
use super::{Error, Picked};
use crate::config::{self, Finetune, FinetuneOptimiser, Training};
use crate::data::Dataset;
use crate::data::augment::Preset;
use crate::data::loader;
use crate::device::Device;
use crate::engine::{CALIBRATION_BATCH, Calibration, Engine, Precision, SplitImages};
use crate::space::walk::Exits;
use crate::space::{Arch, ExitWeights, Family};
use crate::supernet::{Network, Supernet, of_width};
use crate::train::checks::Remedy;
use crate::train::material::fingerprint;
use crate::train::{self, Decays, Material, Optimiser, Rule};
use std::f64::consts::PI;
use std::sync::Arc;

/// What is fine-tuned, on what and how.
pub struct Inputs<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The settings.
    pub settings: &'a Finetune,
    /// The super-networks that networks inherit from, ascending by width.
    pub supernets: Vec<Supernet>,
    /// Their family.
    pub family: Family,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// The networks.
    pub picked: Vec<Picked>,
    /// Images and transforms of the first training, at any resolution.
    pub(super) material: Material,
    /// Of the second: with the validation images.
    pub(super) whole: Material,
}

impl<'a> Inputs<'a> {
    /// Checks that everything fits. `training` says what settings of a training fine-tuning has
    /// none of its own for, `augmentation` what happens to images.
    ///
    /// # Errors
    /// Data with other classes or without validation images; an ensemble of a family without exits.
    pub fn new(
        (seed, settings, training): (u64, &'a Finetune, &Training),
        augmentation: Preset,
        supernets: Vec<Supernet>,
        dataset: Arc<Dataset>,
        picked: Vec<Picked>,
    ) -> Result<Inputs<'a>, Error> {
        let first = supernets.first().ok_or(train::Error::NoSupernet)?;
        let family = first.family;
        if settings.exits != config::Exits::Single && !family.early_exits {
            let family = family.to_string();
            return Err(Error::NoExits { exits: settings.exits.as_str(), family });
        }
        let training = Training {
            calibration_images: settings.calibration_images,
            validation_images: settings.validation_images,
            ..training.clone()
        };
        let material = |with| Material::new(&training, first, dataset.clone(), augmentation, with);
        let (material, whole) = (material(false)?, material(true)?);
        if material.validation.is_empty() {
            return Err(Error::NoValidation { dataset: dataset.name().into() });
        }
        Ok(Inputs { seed, settings, family, supernets, dataset, picked, material, whole })
    }

    pub(super) fn material(&self, part: Part) -> &Material {
        match part {
            Part::Train => &self.material,
            Part::Final => &self.whole,
        }
    }

    /// The super-network of a network's width.
    pub(super) fn supernet_of(&self, arch: &Arch) -> Result<&Supernet, Error> {
        let missing = || Error::Front {
            file: "the network".into(),
            reason: format!("width {:?} is that of no super-network: give the search's weights", arch.w),
        };
        of_width(&self.supernets, arch).ok_or_else(missing)
    }

    /// Steps of an epoch.
    pub fn epoch_steps(&self, part: Part) -> u64 {
        let images = self.material(part).images.len();
        loader::steps_per_epoch(self.settings.epoch_images.unwrap_or(images).min(images), self.settings.batch)
    }

    /// The rate of a step of a part: a cosine over as many epochs as there may be, which the
    /// second training leaves early.
    pub fn rate(&self, part: Part, step: u64) -> f64 {
        let (high, low) = (self.settings.rate, self.settings.min_rate);
        let all = self.settings.epochs as u64 * self.epoch_steps(part);
        low + 0.5 * (high - low) * (1.0 + (PI * step as f64 / all as f64).cos())
    }

    /// The optimiser of the settings, or the published one for the family.
    pub fn optimiser(&self) -> Optimiser {
        let optimiser = match self.settings.optimiser {
            FinetuneOptimiser::Auto if self.family.early_exits => config::Optimiser::Adamw,
            FinetuneOptimiser::Auto => config::Optimiser::Sgd,
            FinetuneOptimiser::Given(optimiser) => optimiser,
        };
        let (rule, decay) = match optimiser {
            config::Optimiser::Adamw => (Rule::AdamW, 0.01),
            config::Optimiser::Sgd => {
                (Rule::Sgd { momentum: self.settings.momentum as f32, nesterov: false }, 5e-4)
            }
        };
        let decay = self.settings.weight_decay.unwrap_or(decay) as f32;
        Optimiser { rule, decay, decays: Decays::All, clip: None }
    }

    /// What can be done where it diverges.
    pub(super) fn remedy(&self) -> Remedy {
        let Finetune { rate, batch, .. } = *self.settings;
        Remedy { section: "finetune", rate: ("rate", rate), clip: None, batch }
    }

    /// What maps are stored as in a step.
    pub fn precision(&self) -> Precision {
        self.settings.precision
    }

    /// The exits of a network that are trained, and their weights.
    pub(super) fn exits(&self, arch: &Arch) -> (Exits, ExitWeights) {
        match self.settings.exits {
            config::Exits::Single => (Exits::single(arch), ExitWeights { alpha: vec![1.0], beta: vec![1.0] }),
            config::Exits::Ensemble(strategy) => {
                let exits = Exits::up_to(arch);
                (exits, strategy.weights(exits.len()))
            }
        }
    }

    /// Takes a network out of the super-network, its batch norms recalibrated.
    ///
    /// # Errors
    /// A network that the super-network does not have, a device that fails.
    pub fn inherited(&self, device: &Arc<dyn Device>, arch: &Arch) -> Result<Supernet, Error> {
        let exits = self.exits(arch).0;
        let network = Network::extract(self.supernet_of(arch)?, arch, exits)?;
        let engine = Engine::new(device.clone(), Arc::new(network.weights().clone()))?;
        let images = SplitImages::new(&self.dataset, &self.material.calibration, self.material.pixels);
        let count = self.material.calibration.len();
        let calibration = Calibration::Batches { images: &images, count, batch: CALIBRATION_BATCH };
        Ok(engine.recalibrated(arch, exits, calibration)?)
    }

    pub(super) fn fingerprint(&self, device: &dyn Device) -> String {
        let archs: Vec<&Arch> = self.picked.iter().map(|picked| &picked.arch).collect();
        let archs = serde_json::to_string(&archs).expect("architectures are JSON");
        let data = format!("{} {} {archs}", self.material.fingerprint, self.whole.fingerprint);
        fingerprint(&self.supernets, &data, &self.precision().arithmetic(device))
    }
}
