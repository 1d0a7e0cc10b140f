//! The model of one fold: boosted trees, or one tree.
//!
//! Gradient boosting with huber's loss as LightGBM has it: the score starts at the mean of the
//! targets; each tree is grown to the gradients clip(score - target, +-alpha) with second derivatives
//! of 1, and adds its leaves' steps times the learning rate. CART is the same tree grown to the
//! targets themselves, unclipped, in one step of size 1.

use super::bins::Binned;
use super::tree::{self, Grower, Limits, Tree};
use super::{Error, Features, Kind, Settings, TargetScaling};

/// A fitted model: base + scale x (sum of its trees).
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub base: f64,
    pub scale: f64,
    pub trees: Vec<Tree>,
}

/// Mean and standard deviation (of the population; 1 where there is no spread).
pub(super) fn moments(targets: &[f64]) -> Result<(f64, f64), Error> {
    let n = targets.len() as f64;
    let mean = targets.iter().sum::<f64>() / n;
    let deviation = (targets.iter().map(|t| (t - mean) * (t - mean)).sum::<f64>() / n).sqrt();
    if !mean.is_finite() || !deviation.is_finite() {
        return Err(Error::Overflow);
    }
    // Below that the spread is rounding, and dividing by it could overflow.
    let spread = deviation > 1e-12 * mean.abs() && deviation > 1e-300;
    Ok((mean, if spread { deviation } else { 1.0 }))
}

/// Fits a model to the chosen rows.
pub(super) fn fit(
    settings: &Settings,
    features: &Features,
    targets: &[f64],
    rows: &[usize],
) -> Result<Model, Error> {
    let targets: Vec<f64> = rows.iter().map(|&row| targets[row]).collect();
    let (mean, deviation) = moments(&targets)?;
    let scale = match settings.target_scaling {
        TargetScaling::Standard => deviation,
        TargetScaling::None => 1.0,
    };
    // The score starts at the mean, whatever the scaling, so the trees see centred targets.
    let centred: Vec<f64> = targets.iter().map(|t| (t - mean) / scale).collect();
    let trees = match settings.kind {
        Kind::Gbdt => boosted(settings, features, rows, &centred)?,
        Kind::Cart => vec![cart(settings, features, rows, &centred)?],
    };
    Ok(Model { base: mean, scale, trees })
}

fn boosted(
    settings: &Settings,
    features: &Features,
    rows: &[usize],
    targets: &[f64],
) -> Result<Vec<Tree>, Error> {
    let gbdt = &settings.gbdt;
    let binned = Binned::new(features, rows, gbdt.min_data_in_bin)?;
    let mut grower = Grower::new(&binned, limits(settings));
    let alpha = gbdt.huber_alpha;
    let fixed = tree::fixed_point(rows.len(), alpha);
    let step = gbdt.learning_rate / fixed;
    let mut score = vec![0.0; rows.len()];
    let mut gradients = vec![0; rows.len()];
    let mut trees = Vec::with_capacity(gbdt.trees);
    for _ in 0..gbdt.trees {
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

fn cart(settings: &Settings, features: &Features, rows: &[usize], targets: &[f64]) -> Result<Tree, Error> {
    let binned = Binned::new(features, rows, 1)?;
    let largest = targets.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
    let fixed = tree::fixed_point(rows.len(), largest);
    let gradients: Vec<i64> = targets.iter().map(|t| tree::nearest(-t * fixed)).collect();
    Ok(Grower::new(&binned, limits(settings)).grow(&gradients, 1.0 / fixed, |_, _| ()))
}

/// When the trees of a kind end.
pub(super) fn limits(settings: &Settings) -> Limits {
    match settings.kind {
        Kind::Gbdt => {
            let by_weight = settings.gbdt.min_child_weight.ceil() as usize;
            Limits { leaves: settings.gbdt.leaves, rows: settings.gbdt.min_child_samples.max(by_weight) }
        }
        Kind::Cart => Limits { leaves: usize::MAX, rows: settings.cart.min_samples_leaf },
    }
}
