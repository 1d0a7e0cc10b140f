//! The trees again, plainly: the twin that the fast growth is checked against.
//!
//! Every cut is found by trying every threshold of every column and adding up the gradients of the
//! rows left of it: no histograms, no packing, no subtraction, no tables kept between trees.

use super::bins::Binned;
use super::tree::{Limits, Node, Tree, gain};
use super::{Features, model, tree};

struct Leaf {
    rows: Vec<usize>,
    parent: Option<(usize, usize)>,
}

/// The best cut of some rows as (gain, feature, threshold).
fn best_cut(
    features: &Features,
    binned: &Binned,
    gradients: &[i64],
    rows: &[usize],
    limits: Limits,
) -> Option<(f64, u16, u8)> {
    let inverse: Vec<f64> = (0..=rows.len()).map(|n| if n == 0 { 0.0 } else { 1.0 / n as f64 }).collect();
    let sum = |rows: &[usize]| rows.iter().map(|&row| gradients[row]).sum::<i64>();
    let mut best: Option<(f64, u16, u8)> = None;
    for column in &binned.columns {
        // From the highest threshold down, so that the first of equal gains is the highest.
        for &threshold in column.upper[..column.upper.len() - 1].iter().rev() {
            let (left, right): (Vec<usize>, Vec<usize>) =
                rows.iter().partition(|&&row| features.row(row)[usize::from(column.feature)] <= threshold);
            if left.len() < limits.rows || right.len() < limits.rows {
                continue;
            }
            let gain = gain(sum(&left), left.len() as i64, sum(rows), rows.len() as i64, &inverse);
            if gain > best.map_or(0.0, |b| b.0) {
                best = Some((gain, column.feature, threshold));
            }
        }
    }
    best
}

/// Grows a tree; row numbers are those of the table. Returns each leaf's rows too.
pub(super) fn grow(
    features: &Features,
    binned: &Binned,
    gradients: &[i64],
    step: f64,
    limits: Limits,
) -> (Tree, Vec<Vec<usize>>) {
    let mut nodes: Vec<Node> = Vec::new();
    let mut leaves = vec![Leaf { rows: (0..features.rows()).collect(), parent: None }];
    while leaves.len() < limits.leaves {
        let mut best: Option<(usize, (f64, u16, u8))> = None;
        for (index, leaf) in leaves.iter().enumerate() {
            if let Some(cut) = best_cut(features, binned, gradients, &leaf.rows, limits)
                && best.is_none_or(|(_, best)| cut.0 > best.0)
            {
                best = Some((index, cut));
            }
        }
        let Some((index, (_, feature, threshold))) = best else { break };
        let child = [!(index as i32), !(leaves.len() as i32)];
        if let Some((parent, side)) = leaves[index].parent {
            nodes[parent].child[side] = nodes.len() as i32;
        }
        let (left, right) =
            leaves[index].rows.iter().partition(|&&row| features.row(row)[usize::from(feature)] <= threshold);
        leaves[index] = Leaf { rows: left, parent: Some((nodes.len(), 0)) };
        leaves.push(Leaf { rows: right, parent: Some((nodes.len(), 1)) });
        nodes.push(Node { feature, threshold, child });
    }
    let value = |leaf: &Leaf| {
        let sum: i64 = leaf.rows.iter().map(|&row| gradients[row]).sum();
        -(sum as f64) * (1.0 / leaf.rows.len() as f64) * step
    };
    let values = leaves.iter().map(value).collect();
    (Tree { nodes, values }, leaves.into_iter().map(|leaf| leaf.rows).collect())
}

/// Boosts on all rows of a table, targets standardised.
pub(super) fn boosted(settings: &super::Settings, features: &Features, targets: &[f64]) -> Vec<Tree> {
    let gbdt = &settings.gbdt;
    let all: Vec<usize> = (0..features.rows()).collect();
    let binned = Binned::new(features, &all, gbdt.min_data_in_bin).unwrap();
    let (mean, deviation) = model::moments(targets).unwrap();
    let fixed = tree::fixed_point(features.rows(), gbdt.huber_alpha);
    let mut score = vec![0.0; targets.len()];
    let mut trees = Vec::new();
    for _ in 0..gbdt.trees {
        let gradient = |(score, target): (&f64, &f64)| {
            let difference: f64 = score - (target - mean) / deviation;
            let huber = if difference.abs() <= gbdt.huber_alpha {
                difference
            } else {
                difference.signum() * gbdt.huber_alpha
            };
            (huber * fixed).round_ties_even() as i64
        };
        let gradients: Vec<i64> = score.iter().zip(targets).map(gradient).collect();
        let (tree, leaves) = grow(features, &binned, &gradients, gbdt.learning_rate / fixed, gbdt.limits());
        if tree.nodes.is_empty() {
            break;
        }
        for (value, rows) in tree.values.iter().zip(leaves) {
            rows.into_iter().for_each(|row| score[row] += value);
        }
        trees.push(tree);
    }
    trees
}
