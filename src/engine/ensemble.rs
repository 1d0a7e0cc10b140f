//! The exits of a network as an ensemble (AEP: anticipate, ensemble and prune, arXiv 2301.12168).
//!
//! All exits come from one pass; their logits are summed with weights `beta`, and training weighs
//! their losses with `alpha`.

use super::evaluate::summarise;
use super::{Calibration, Engine, Error, Evaluation, Images};
use crate::ops::{Threads, score};
pub use crate::space::{ExitWeights, Strategy};

use crate::space::Arch;
use crate::space::walk::Exits;

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
            let args = score::Args { logits, labels: &labels, out: &mut out };
            score::cpu::run(&params, args, Threads::One);
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
    fn logits_are_summed_by_weight() {
        let logits = [vec![1.0, -2.0], vec![3.0, 6.0]];
        assert_eq!(combine(&logits, &[0.25, 0.75]), [2.5, 4.0]);
    }
}
