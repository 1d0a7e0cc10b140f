//! Which exits of an ensemble are worth keeping (AEP's pruning).
//!
//! Every non-empty subset of the exits is tried on the validation images. Its weights are those of its exits,
//! scaled to sum to one, as in the network that it would become.

use crate::engine::ensemble::{combine, renormalised};
use crate::ops::{Threads, score};

/// How good logits are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Images whose first largest logit is their class's.
    pub correct: usize,
    /// Images with fewer than five logits larger than their class's.
    pub top5: usize,
    /// Mean cross entropy.
    pub loss: f64,
    /// Images.
    pub images: usize,
}

impl Score {
    /// Scores logits `[images][classes]`.
    pub fn new(logits: &[f32], labels: &[u32]) -> Score {
        let images = labels.len();
        let classes = logits.len() / images.max(1);
        let params = score::Params {
            images: images as u32,
            classes: classes as u32,
            stride: classes as u32,
            labelled: images as u32,
        };
        let as_numbers: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
        let mut out = vec![0.0; 2 * images];
        let args = score::Args { logits, labels: &as_numbers, out: &mut out };
        score::cpu::run(&params, args, Threads::One);
        let correct = out.iter().skip(1).step_by(2).filter(|&&correct| correct == 1.0).count();
        let loss = out.iter().step_by(2).map(|&loss| f64::from(loss)).sum::<f64>() / images as f64;
        let rows = logits.chunks_exact(classes.max(1)).zip(labels);
        let close = |(row, label): &(&[f32], &u32)| {
            row.iter().filter(|&&logit| logit > row[**label as usize]).count() < 5
        };
        Score { correct, top5: rows.filter(close).count(), loss, images }
    }

    /// Accuracy in per cent.
    pub fn top1(&self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }
}

/// The subset of exits that is best together: by accuracy, then by top-5 accuracy, then the one
/// with fewer exits, then the one that ends earlier. `logits` has a list `[images][classes]` for
/// each exit from the first on, `beta` their weights. Returns the exits, from 0, and their score.
/// See [`weights`] for those of the subset.
pub fn best_subset(logits: &[Vec<f32>], beta: &[f64], labels: &[u32]) -> (Vec<usize>, Score) {
    let mut best: Option<(Vec<usize>, Score)> = None;
    for mask in 1u32..1 << logits.len() {
        let kept: Vec<usize> = (0..logits.len()).filter(|exit| mask >> exit & 1 == 1).collect();
        let scored = Score::new(&ensemble(logits, &kept, &weights(beta, &kept)), labels);
        let better = best.as_ref().is_none_or(|(other, than)| {
            let gain = (scored.correct, scored.top5).cmp(&(than.correct, than.top5));
            // Masks come in ascending order, so of equal sizes the one that ends earlier came first.
            gain.then(other.len().cmp(&kept.len())).is_gt()
        });
        if better {
            best = Some((kept, scored));
        }
    }
    best.unwrap_or_else(|| (Vec::new(), Score::new(&[], &[])))
}

/// The weights of the exits that are kept, from 0, of an ensemble with the weights `beta`.
pub fn weights(beta: &[f64], kept: &[usize]) -> Vec<f64> {
    let left: Vec<f64> = kept.iter().map(|&exit| beta[exit]).collect();
    renormalised(&left)
}

/// The weighted sum of the logits of some exits; `beta` has one weight for each of them.
pub fn ensemble(logits: &[Vec<f32>], kept: &[usize], beta: &[f64]) -> Vec<f32> {
    let chosen: Vec<Vec<f32>> = kept.iter().map(|&exit| logits[exit].clone()).collect();
    combine(&chosen, beta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ensemble::Strategy;
    use crate::random::stream;
    use rand::RngExt;

    /// Accuracies by plain loops, from the definition.
    fn accuracies(logits: &[Vec<f32>], kept: &[usize], beta: &[f64], labels: &[u32]) -> (usize, usize) {
        let classes = logits[0].len() / labels.len();
        let all: f64 = kept.iter().map(|&exit| beta[exit]).sum();
        let (mut top1, mut top5) = (0, 0);
        for (image, &label) in labels.iter().enumerate() {
            let sum = |class: usize| -> f32 {
                let logit = |exit: usize| f64::from(logits[exit][image * classes + class]);
                let terms = kept.iter().map(|&exit| beta[exit] / all * logit(exit));
                terms.sum::<f64>() as f32
            };
            let mut order: Vec<usize> = (0..classes).collect();
            order.sort_by(|&a, &b| sum(b).total_cmp(&sum(a)));
            top1 += usize::from(order[0] == label as usize);
            top5 += usize::from(order[..5].contains(&(label as usize)));
        }
        (top1, top5)
    }

    #[test]
    fn pruning_is_brute_force_over_all_subsets() {
        let (images, classes) = (40, 8);
        for seed in 0..20 {
            let mut random = stream(seed, "test/logits", 0, 0);
            let labels: Vec<u32> = (0..images).map(|_| random.random_range(0..classes as u32)).collect();
            let exits = 1 + seed as usize % 5;
            let logits: Vec<Vec<f32>> = (0..exits)
                .map(|_| {
                    let noise = |random: &mut crate::random::Stream| random.random_range(-1.0f32..1.0);
                    (0..images * classes)
                        .map(|i| {
                            let right = labels[i / classes] as usize == i % classes;
                            noise(&mut random) + if right { 0.6 } else { 0.0 }
                        })
                        .collect()
                })
                .collect();
            let strategies = [Strategy::Desc, Strategy::Asc, Strategy::Unif, Strategy::Mix];
            let beta = strategies[seed as usize % 4].weights(exits).beta;
            let (kept, scored) = best_subset(&logits, &beta, &labels);
            assert_eq!((scored.correct, scored.top5), accuracies(&logits, &kept, &beta, &labels));
            for mask in 1u32..1 << exits {
                let other: Vec<usize> = (0..exits).filter(|e| mask >> e & 1 == 1).collect();
                let found = accuracies(&logits, &other, &beta, &labels);
                let ours = (scored.correct, scored.top5);
                assert!(found <= ours, "{other:?} {found:?} is better than {kept:?} {ours:?}");
                if found == ours {
                    let size = |exits: &[usize]| (exits.len(), exits.last().copied());
                    assert!(size(&kept) <= size(&other), "{other:?} is smaller than {kept:?}");
                }
            }
        }
    }

    #[test]
    fn an_exit_that_only_disturbs_is_dropped() {
        // Two images of two classes: the first exit is right, the second wrong and loud.
        let logits = [vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 9.0, 9.0, 0.0]];
        let (kept, scored) = best_subset(&logits, &[0.5, 0.5], &[0, 1]);
        assert_eq!((kept, scored.correct), (vec![0], 2));
        // Alone it is as sure of itself as it was: its loss is its own.
        assert_eq!(weights(&[0.5, 0.5], &[0]), [1.0]);
        assert_eq!(scored, Score::new(&logits[0], &[0, 1]));
        assert!((scored.loss - (1.0 + (-1f64).exp()).ln()).abs() < 1e-6, "{}", scored.loss);
    }
}
