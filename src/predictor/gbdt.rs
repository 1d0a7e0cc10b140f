//! Gradient boosting with huber's loss as LightGBM has it: the score starts at the mean of the targets; each
//! tree is grown to the gradients clip(score - target, +-alpha) with second derivatives of 1, and adds its
//! leaves' steps times the learning rate.

use super::bins::Binned;
use super::tree::{self, Grower, Limits, Tree};
use super::{Error, Features, Trees, real, whole};
use serde::{Deserialize, Serialize};

/// Gradient boosting; names and defaults are LightGBM's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gbdt {
    /// Trees, one after the other.
    pub trees: usize,
    /// Share of a leaf's step that is taken.
    pub learning_rate: f64,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// Fewest rows of a leaf.
    pub min_child_samples: usize,
    /// Least sum of second derivatives of a leaf; they are 1 a row here.
    pub min_child_weight: f64,
    /// Neighbouring values with fewer rows than this share a bin.
    pub min_data_in_bin: usize,
    /// Where huber's gradient is clipped, in units of the (scaled) target.
    pub huber_alpha: f64,
}

impl Default for Gbdt {
    fn default() -> Self {
        Gbdt {
            trees: 100,
            learning_rate: 0.1,
            leaves: 31,
            min_child_samples: 20,
            min_child_weight: 1e-3,
            min_data_in_bin: 3,
            huber_alpha: 0.9,
        }
    }
}

impl Gbdt {
    /// When a tree ends.
    pub(super) fn limits(&self) -> Limits {
        let by_weight = self.min_child_weight.ceil() as usize;
        Limits { leaves: self.leaves, rows: self.min_child_samples.max(by_weight) }
    }
}

impl Trees for Gbdt {
    fn validate(&self) -> Result<(), Error> {
        whole("gbdt.trees", self.trees, 1)?;
        whole("gbdt.leaves", self.leaves, 2)?;
        whole("gbdt.min_child_samples", self.min_child_samples, 1)?;
        whole("gbdt.min_data_in_bin", self.min_data_in_bin, 1)?;
        let rate = self.learning_rate;
        real("gbdt.learning_rate", rate, rate > 0.0 && rate <= 1.0, "above 0, at most 1")?;
        let alpha = self.huber_alpha;
        real("gbdt.huber_alpha", alpha, (1e-6..=1e6).contains(&alpha), "from 1e-6 to 1e6")?;
        let weight = self.min_child_weight;
        real("gbdt.min_child_weight", weight, (0.0..=1e6).contains(&weight), "from 0 to 1e6")
    }

    fn grow(&self, features: &Features, rows: &[usize], targets: &[f64]) -> Result<Vec<Tree>, Error> {
        let binned = Binned::new(features, rows, self.min_data_in_bin)?;
        let mut grower = Grower::new(&binned, self.limits());
        let alpha = self.huber_alpha;
        let fixed = tree::fixed_point(rows.len(), alpha);
        let step = self.learning_rate / fixed;
        let mut score = vec![0.0; rows.len()];
        let mut gradients = vec![0; rows.len()];
        let mut trees = Vec::with_capacity(self.trees);
        for _ in 0..self.trees {
            for ((gradient, score), target) in gradients.iter_mut().zip(&score).zip(targets) {
                *gradient = tree::nearest((score - target).clamp(-alpha, alpha) * fixed);
            }
            let tree = grower.grow(&gradients, step, |value, rows| {
                for &row in rows {
                    score[row as usize] += value;
                }
            });
            if tree.nodes.is_empty() {
                // No cut is left, and the next gradients would be no other: LightGBM stops here too.
                break;
            }
            trees.push(tree);
        }
        Ok(trees)
    }
}
