//! The exits of a network as an ensemble (AEP: anticipate, ensemble and prune, arXiv 2301.12168).
//!
//! All exits come from one pass; their logits are summed with weights `beta`, and training weighs
//! their losses with `alpha`. Both are positive and sum to one, up to the rounding of the published
//! weights.

use super::evaluate::summarise;
use super::{Calibration, Engine, Error, Evaluation, Images};
use crate::ops::score;
use crate::space::Arch;
use crate::space::walk::Exits;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How exits are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The first exit most, in the loss and in the output.
    Desc,
    /// The last exit most, in both.
    Asc,
    /// All alike.
    Unif,
    /// The first exit most in the loss, the last most in the output.
    Mix,
}

/// Weights of the exits, from the first on.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitWeights {
    /// Of the losses.
    pub alpha: Vec<f64>,
    /// Of the logits.
    pub beta: Vec<f64>,
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Strategy, String> {
        match text.to_ascii_lowercase().as_str() {
            "desc" => Ok(Strategy::Desc),
            "asc" => Ok(Strategy::Asc),
            "unif" => Ok(Strategy::Unif),
            "mix" => Ok(Strategy::Mix),
            _ => Err("strategies are desc, asc, unif and mix".into()),
        }
    }
}

impl Strategy {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Desc => "desc",
            Strategy::Asc => "asc",
            Strategy::Unif => "unif",
            Strategy::Mix => "mix",
        }
    }

    /// The weights for `n` exits: `i / (n (n + 1) / 2)` for the i-th, rounded to four decimals, or its
    /// mirror image; `1 / n` where all are alike.
    pub fn weights(self, n: usize) -> ExitWeights {
        let total = (n * (n + 1) / 2) as f64;
        let ascending: Vec<f64> = (1..=n).map(|i| (1e4 * i as f64 / total).round() / 1e4).collect();
        let descending: Vec<f64> = ascending.iter().rev().copied().collect();
        let (alpha, beta) = match self {
            Strategy::Desc => (descending.clone(), descending),
            Strategy::Asc => (ascending.clone(), ascending),
            Strategy::Unif => (vec![1.0 / n as f64; n], vec![1.0 / n as f64; n]),
            Strategy::Mix => (descending, ascending),
        };
        ExitWeights { alpha, beta }
    }
}

/// Weights of the exits that are left of an ensemble, scaled to sum to one: with less the logits would be
/// too small, probabilities too flat and losses too large, whatever exits were removed. Weights that sum to
/// one as they are, as those of a [`Strategy`] do, stay the same to the bit.
pub fn renormalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    // More than the rounding of a sum, less than any weight that could be missing.
    let rounding = 1e-9;
    if (sum - 1.0).abs() <= rounding || !sum.is_finite() || sum <= 0.0 {
        return weights.to_vec();
    }
    weights.iter().map(|weight| weight / sum).collect()
}

/// The weighted sum of the logits of exits, each `[images][classes]`: in f64, exit by exit, rounded
/// once.
pub fn combine(logits: &[Vec<f32>], beta: &[f64]) -> Vec<f32> {
    let len = logits.iter().map(Vec::len).min().unwrap_or(0);
    let sum = |i: usize| logits.iter().zip(beta).map(|(exit, b)| b * f64::from(exit[i])).sum::<f64>();
    (0..len).map(|i| sum(i) as f32).collect()
}

/// How good the exits of a network are, each alone and together.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitEvaluations {
    /// Each exit, from the first on.
    pub exits: Vec<Evaluation>,
    /// Their weighted sum, where weights were given.
    pub ensemble: Option<Evaluation>,
}

impl Engine {
    /// How good `arch` is at each exit of `exits` and, with weights `beta`, as their ensemble. One
    /// pass over the images gives all of it.
    ///
    /// # Errors
    /// As [`Engine::logits`], and a loss that is no number.
    pub fn evaluate_exits(
        &self,
        arch: &Arch,
        exits: Exits,
        beta: Option<&[f64]>,
        images: &dyn Images,
        calibration: Calibration<'_>,
    ) -> Result<ExitEvaluations, Error> {
        let logits = self.logits(arch, exits, images, calibration)?;
        let labels: Vec<f32> = (0..images.len()).map(|index| images.label(index) as f32).collect();
        let classes = self.supernet().classes() as u32;
        let count = images.len() as u32;
        let params = score::Params { images: count, classes, stride: classes, labelled: count };
        let evaluate = |logits: &[f32]| {
            let mut out = vec![0.0; score::PER_IMAGE * images.len()];
            score::cpu::run(&params, score::Args { logits, labels: &labels, out: &mut out });
            summarise(std::iter::once(&out[..]), arch)
        };
        Ok(ExitEvaluations {
            exits: logits.iter().map(|exit| evaluate(exit)).collect::<Result<_, Error>>()?,
            ensemble: beta.map(|beta| evaluate(&combine(&logits, beta))).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_left_sum_to_one() {
        for n in 1..=5 {
            for strategy in [Strategy::Desc, Strategy::Asc, Strategy::Unif, Strategy::Mix] {
                let beta = strategy.weights(n).beta;
                assert_eq!(renormalised(&beta), beta);
                for mask in 1u32..1 << n {
                    let left: Vec<f64> = (0..n).filter(|i| mask >> i & 1 == 1).map(|i| beta[i]).collect();
                    let scaled = renormalised(&left);
                    assert!((scaled.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{left:?}");
                    for (a, b) in scaled.iter().zip(&left) {
                        assert!((a * left[0] - b * scaled[0]).abs() < 1e-12, "{left:?}");
                    }
                }
                assert_eq!(renormalised(&beta[..1]), [1.0]);
            }
        }
        for odd in [&[][..], &[0.0, 0.0], &[f64::NAN], &[f64::INFINITY, 1.0], &[-1.0]] {
            assert_eq!(format!("{:?}", renormalised(odd)), format!("{odd:?}"));
        }
    }

    #[test]
    fn weights_are_the_published_ones() {
        let ascending = vec![0.0667, 0.1333, 0.2, 0.2667, 0.3333];
        let descending: Vec<f64> = ascending.iter().rev().copied().collect();
        assert_eq!(
            Strategy::Asc.weights(5),
            ExitWeights { alpha: ascending.clone(), beta: ascending.clone() }
        );
        assert_eq!(Strategy::Desc.weights(5).beta, descending);
        assert_eq!(Strategy::Mix.weights(5), ExitWeights { alpha: descending, beta: ascending });
        assert_eq!(Strategy::Unif.weights(4).alpha, [0.25; 4]);
        assert_eq!(Strategy::Asc.weights(1).beta, [1.0]);
    }

    #[test]
    fn logits_are_summed_by_weight() {
        let logits = [vec![1.0, -2.0], vec![3.0, 6.0]];
        assert_eq!(combine(&logits, &[0.25, 0.75]), [2.5, 4.0]);
    }
}
