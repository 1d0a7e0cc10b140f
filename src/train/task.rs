//! What a training is of: its data, its settings, and what follows from them.

use super::checks::Remedy;
use super::{Error, Optimiser, Rule, Weighting};
use crate::config::{self, Phase, Training};
use crate::data::augment::Augmentation;
use crate::data::loader::{self, Loader};
use crate::data::{Dataset, Pixels};
use crate::device::Device;
use crate::engine::{
    CALIBRATION_BATCH, Calibration, Engine, Evaluation, Precision, SplitImages, evaluate_widths,
};
use crate::space::walk::Exits;
use crate::space::{Arch, ExitWeights, Family, Strategy};
use crate::supernet::Supernet;
use std::sync::Arc;

/// What a training learns from.
#[derive(Debug, Clone)]
pub struct Material {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its training images, in file order.
    pub images: Vec<u32>,
    /// Its validation images.
    pub validation: Vec<u32>,
    /// The training images that statistics are recalibrated on before a validation.
    pub calibration: Vec<u32>,
    /// Normalisation.
    pub pixels: Pixels,
    /// What may happen to an image.
    pub augmentation: Augmentation,
    /// The resolutions that a step draws from.
    pub resolutions: Vec<usize>,
    /// What of all this a result depends on, as a short name.
    pub fingerprint: String,
}

/// One training of a run: its stage's name, settings, phases and data.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Name of its checkpoints and journal entries: `train`, `train-wide`, `warmup`.
    pub stage: &'static str,
    /// Whether it is the training of the wider of two super-networks alone.
    pub wide: bool,
    /// The run's seed.
    pub seed: u64,
    /// The settings.
    pub training: &'a Training,
    /// The phases.
    pub phases: Vec<Phase>,
    /// The data.
    pub material: Material,
}

impl Task<'_> {
    /// The optimiser of the settings.
    pub fn optimiser(&self) -> Optimiser {
        let t = self.training;
        Optimiser {
            rule: match t.optimiser {
                config::Optimiser::Sgd => Rule::Sgd { momentum: t.momentum as f32, nesterov: t.nesterov },
                config::Optimiser::Adamw => Rule::AdamW,
            },
            decay: t.weight_decay as f32,
            decays: t.decay,
            clip: (t.clip > 0.0).then_some(t.clip as f32),
        }
    }

    /// What maps are stored as in a step.
    pub fn precision(&self) -> Precision {
        self.training.precision
    }

    /// Steps of an epoch.
    pub fn epoch_steps(&self) -> u64 {
        let images = self.training.epoch_images.unwrap_or(self.material.images.len());
        loader::steps_per_epoch(images.min(self.material.images.len()), self.training.batch)
    }

    /// The section of its settings.
    pub fn section(&self) -> &'static str {
        if self.stage == "warmup" { "warmup" } else { "train" }
    }

    /// What can be done where it diverges.
    pub(super) fn remedy(&self) -> Remedy {
        let section = self.section();
        let Training { rate_scale, clip, batch, .. } = *self.training;
        Remedy { section, rate: ("rate_scale", rate_scale), clip: Some(clip), batch }
    }

    pub(super) fn fingerprint(&self, start: &[Supernet], device: &dyn Device) -> String {
        let arithmetic = self.precision().arithmetic(device);
        super::material::fingerprint(start, &self.material.fingerprint, &arithmetic)
    }
}

impl Material {
    /// The batches of a training on that device, from a step on that is counted through all epochs; each step
    /// draws from `resolutions`.
    pub(crate) fn loader(
        &self,
        device: &dyn Device,
        (batch, seed): (usize, u64),
        resolutions: Vec<usize>,
        step: u64,
    ) -> Result<Loader, Error> {
        let settings =
            loader::Settings::new(batch, seed, self.augmentation.clone(), resolutions, self.pixels);
        Ok(super::batches(device, self.dataset.clone(), self.images.clone(), settings, step)?)
    }
}

/// Weights of the exits of a family in a joint loss and in a teacher's answer; without early exits there is only
/// a network's own.
pub fn exit_weights(family: Family, strategy: Strategy) -> (Weighting, Weighting) {
    if !family.early_exits {
        return (Weighting::Own, Weighting::Own);
    }
    let ExitWeights { alpha, beta } = strategy.training_weights();
    let joint = |weights: Vec<f64>| Weighting::Joint(std::array::from_fn(|exit| weights[exit] as f32));
    (joint(alpha), joint(beta))
}

/// Evaluates networks of `weights`, each of the super-network of its width, on some images, with
/// recalibrated statistics.
///
/// # Errors
/// The device fails.
pub fn evaluate(
    device: &Arc<dyn Device>,
    weights: &[Supernet],
    networks: &[Arch],
    material: &Material,
    images: &[u32],
) -> Result<Vec<Evaluation>, Error> {
    let split = |indices| SplitImages::new(&material.dataset, indices, material.pixels);
    let calibration = split(&material.calibration);
    let batches = Calibration::Batches {
        images: &calibration,
        count: material.calibration.len(),
        batch: CALIBRATION_BATCH,
    };
    let engine = |supernet: &Supernet| Engine::new(device.clone(), Arc::new(supernet.clone()));
    let engines = weights.iter().map(engine).collect::<Result<Vec<Engine>, _>>()?;
    let networks: Vec<(Arch, Exits)> =
        networks.iter().map(|arch| (arch.clone(), Exits::single(arch))).collect();
    let population = evaluate_widths(&engines, &networks, &split(images), batches, &|| false, &|_, _| ())?;
    let results = population.map(|population| population.results).unwrap_or_default();
    Ok(results.into_iter().map(|exits| exits[0]).collect())
}
