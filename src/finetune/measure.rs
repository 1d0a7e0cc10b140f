//! Measuring networks: on the validation images before and during training, on the test images at the end.

use super::inputs::Inputs;
use super::prune::{self, Score};
use super::state::{Best, State, with_tensors};
use super::{Error, Picked};
use crate::data::Split;
use crate::device::Device;
use crate::engine::SplitImages;
use crate::engine::ensemble::ExitWeights;
use crate::engine::{Calibration, Engine};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::{Network, Supernet};
use std::sync::Arc;

/// A network in training.
pub(super) struct NetworkInTraining<'a> {
    pub(super) picked: &'a Picked,
    /// The exits that are trained, and their weights.
    pub(super) exits: Exits,
    pub(super) weights: ExitWeights,
    /// As the super-network has it, recalibrated.
    pub(super) inherited: Supernet,
}

/// What the validation images say of some weights of a network.
pub(super) struct Validation {
    /// Of each exit.
    logits: Vec<Vec<f32>>,
    labels: Vec<u32>,
    /// All exits together.
    ensemble: Score,
    /// The loss as in training, weighted over the exits.
    pub(super) loss: f64,
}

impl Validation {
    /// Accuracy of all exits together, per cent.
    pub(super) fn top1(&self) -> f64 {
        self.ensemble.top1()
    }

    /// The network that these weights would become as those of `epoch`: with all its exits, or where it is
    /// pruned with those that are best together.
    pub(super) fn candidate(&self, subject: &NetworkInTraining<'_>, prune: bool, epoch: u64) -> Best {
        let (kept, scored) = if prune {
            prune::best_subset(&self.logits, &subject.weights.beta, &self.labels)
        } else {
            ((0..self.logits.len()).collect(), self.ensemble)
        };
        let exits: Vec<usize> = subject.exits.iter().collect();
        let kept = kept.into_iter().map(|index| exits[index]).collect();
        Best { epoch, top1: self.top1(), kept, kept_top1: scored.top1() }
    }
}

impl NetworkInTraining<'_> {
    /// The weights of the logits of some of its exits, from 0.
    pub(super) fn beta(&self, kept: &[usize]) -> Vec<f64> {
        let all: Vec<usize> = self.exits.iter().collect();
        let places: Vec<usize> = kept.iter().filter_map(|exit| all.iter().position(|e| e == exit)).collect();
        prune::weights(&self.weights.beta, &places)
    }
}

impl Inputs<'_> {
    /// A network ready to be trained.
    pub(super) fn subject<'a>(
        &self,
        device: &Arc<dyn Device>,
        picked: &'a Picked,
    ) -> Result<NetworkInTraining<'a>, Error> {
        let (exits, weights) = self.exits(&picked.arch);
        Ok(NetworkInTraining { picked, exits, weights, inherited: self.inherited(device, &picked.arch)? })
    }

    /// Weights of a network on the validation images.
    pub(super) fn validation(
        &self,
        device: &Arc<dyn Device>,
        subject: &NetworkInTraining<'_>,
        weights: &Supernet,
    ) -> Result<Validation, Error> {
        let images = &self.material.validation;
        let logits = self.logits(device, weights, &subject.picked.arch, subject.exits, images)?;
        Ok(self.scored(subject, logits))
    }

    /// What logits of every exit on the validation images come to.
    pub(super) fn scored(&self, subject: &NetworkInTraining<'_>, logits: Vec<Vec<f32>>) -> Validation {
        let labels = self.labels(&self.material.validation);
        let ExitWeights { alpha, beta } = &subject.weights;
        let all: Vec<usize> = (0..logits.len()).collect();
        let ensemble = Score::new(&prune::ensemble(&logits, &all, beta), &labels);
        let joint = |(logits, alpha): (&Vec<f32>, &f64)| alpha * Score::new(logits, &labels).loss;
        let loss = logits.iter().zip(alpha).map(joint).sum();
        Validation { logits, labels, ensemble, loss }
    }

    /// Validation loss (as in training, weighted over the exits) and accuracy of the ensemble after an epoch;
    /// `state` remembers the best epoch and the exits that would stay.
    pub(super) fn validate(
        &self,
        subject: &NetworkInTraining<'_>,
        logits: Vec<Vec<f32>>,
        epoch: u64,
        state: &mut State,
    ) -> (f64, f64) {
        let found = self.scored(subject, logits);
        let (loss, top1) = (found.loss, found.top1());
        if state.lowest.is_none_or(|(lowest, _)| loss < lowest) && loss.is_finite() {
            state.lowest = Some((loss, epoch));
        }
        if state.best.as_ref().is_none_or(|best| top1 > best.top1) {
            state.best = Some(found.candidate(subject, self.settings.prune, epoch));
        }
        (loss, top1)
    }

    /// Logits of stand-alone weights with their own statistics.
    pub(super) fn logits(
        &self,
        device: &Arc<dyn Device>,
        weights: &Supernet,
        arch: &Arch,
        exits: Exits,
        images: &[u32],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let engine = Engine::new(device.clone(), Arc::new(weights.clone()))?;
        let images = SplitImages::new(&self.dataset, images, self.material.pixels);
        Ok(engine.logits(arch, exits, &images, Calibration::Stored)?)
    }

    fn labels(&self, images: &[u32]) -> Vec<u32> {
        images.iter().map(|&index| self.dataset.label(index)).collect()
    }

    /// Weights of a network with some of its exits only, from 0, and without what lies behind them.
    pub(super) fn pruned(
        &self,
        picked: &Picked,
        kept: &[usize],
        weights: &Supernet,
    ) -> Result<(Arch, Exits, Supernet), Error> {
        let last = kept.last().copied().unwrap_or(usize::from(picked.arch.nd) - 1);
        let arch = Arch { nd: last as u8 + 1, ..picked.arch.clone() }.canonical();
        let list: Vec<String> = one_based(kept).iter().map(usize::to_string).collect();
        let exits = if picked.arch.family.early_exits {
            Exits::parse(&list.join(","), &arch)?
        } else {
            Exits::single(&arch)
        };
        // Blocks are numbered from the front, so a shorter network has the names of the longer one.
        let shorter = Network::extract(self.supernet_of(&arch)?, &arch, exits)?;
        let pruned = with_tensors(shorter.weights(), &weights.checkpoint())?;
        Ok((arch, exits, pruned))
    }

    /// An ensemble on the test images; `None` where there are none.
    pub(super) fn test(
        &self,
        device: &Arc<dyn Device>,
        weights: &Supernet,
        arch: &Arch,
        exits: Exits,
        beta: &[f64],
    ) -> Result<Option<Score>, Error> {
        let images = self.dataset.split(Split::Test);
        if images.is_empty() {
            return Ok(None);
        }
        let logits = self.logits(device, weights, arch, exits, images)?;
        let all: Vec<usize> = (0..logits.len()).collect();
        Ok(Some(Score::new(&prune::ensemble(&logits, &all, beta), &self.labels(images))))
    }
}

/// Exits as people count them.
pub(super) fn one_based(exits: &[usize]) -> Vec<usize> {
    exits.iter().map(|exit| exit + 1).collect()
}
