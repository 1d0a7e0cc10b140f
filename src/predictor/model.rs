//! The model of one fold: a base, and trees that add up to what is missing.

use super::tree::Tree;
use super::{Error, Features, Settings, TargetScaling};

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
    Ok(Model { base: mean, scale, trees: settings.chosen().grow(features, rows, &centred)? })
}
