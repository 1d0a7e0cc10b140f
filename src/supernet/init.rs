//! Random super-networks: He fan-out, as the once-for-all package initialises its own
//! (`init_models(net, "he_fout")`).
//!
//! - convolutions, depthwise and squeeze-and-excitation included: normal with variance
//!   `2 / (k * k * cout)`, where a depthwise filter counts all its channels as outputs; biases 0;
//! - linear layers: uniform within `1 / sqrt(cin)`; biases 0;
//! - batch norms: weight 1, bias 0, running mean 0, running variance 1;
//! - kernel-transform matrices: the identity.
//!
//! Every tensor has a random stream of its own, named after it, so a tensor gets the same numbers
//! whatever other tensors the super-network has.

use super::{Card, Checkpoint, Error, Layout, Parts, Supernet, Tensor};
use crate::random::stream;
use crate::space::{Channels, ExitScaling, Family};
use rand::{Rng, RngExt};
use std::path::PathBuf;

/// The tensor `name` of a new super-network.
pub fn tensor(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut rng = stream(seed, &format!("init/{name}"), 0, 0);
    let data = match (name.rsplit('.').next().unwrap_or(name), shape) {
        ("running_mean" | "bias", _) => vec![0.0; count],
        ("running_var", _) | ("weight", [_]) => vec![1.0; count],
        (last, &[rows, columns]) if last.ends_with("_matrix") && rows == columns => {
            (0..count).map(|i| if i % (columns + 1) == 0 { 1.0 } else { 0.0 }).collect()
        }
        (_, &[_, features]) => {
            let bound = 1.0 / (features as f64).sqrt();
            (0..count).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect()
        }
        (_, _) => {
            let window: usize = shape.iter().skip(2).product();
            let deviation = (2.0 / (window * shape[0]) as f64).sqrt();
            (0..count).map(|_| (deviation * normal(&mut rng)) as f32).collect()
        }
    };
    Tensor { shape: shape.to_vec(), data }
}

/// A standard normal draw (Box and Muller's; the second of the pair is not used, so that the n-th
/// number of a tensor is the n-th of its stream).
fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The parts that a family needs and no more.
pub fn parts_of(family: Family) -> Parts {
    Parts { head: !family.early_exits, exits: family.early_exits, parallel: family.parallel }
}

/// What a new super-network is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Blank {
    /// Its family.
    pub family: Family,
    /// Its width multiplier.
    pub width: f64,
    /// Its number of classes.
    pub classes: usize,
    /// How its exits scale with the width.
    pub scaling: ExitScaling,
}

impl Supernet {
    /// A super-network of random weights. The same seed gives the same weights.
    ///
    /// # Errors
    /// A width outside 0.05..=8, or no classes.
    pub fn random(blank: &Blank, seed: u64) -> Result<Supernet, Error> {
        let &Blank { family, width, classes, scaling } = blank;
        let refuse = |what: String| Err(Error::Blank { what });
        if !(0.05..=8.0).contains(&width) {
            return refuse(format!("width multiplier {width}: choose from 0.05 to 8"));
        }
        if classes == 0 || classes > 1 << 20 {
            return refuse(format!("{classes} classes: choose from 1 to {}", 1 << 20));
        }
        let layout = Layout::new(Channels::new(width, scaling), classes, parts_of(family));
        let tensors = layout.tensors().iter().map(|t| (t.name.clone(), tensor(&t.name, &t.shape, seed)));
        let file = PathBuf::from(format!("(random {family}, seed {seed})"));
        let packed = layout.pack(&Checkpoint::from_tensors(&file, tensors.collect()))?;
        let trained = Some(format!("not trained: random weights, He fan-out, seed {seed}"));
        let card = Card {
            family: Some(family),
            width: Some(width),
            classes: Some(classes),
            trained,
            ..Card::default()
        };
        Ok(Supernet { family, layout, packed, card, file, notes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(tensor: &Tensor) -> (f64, f64) {
        let n = tensor.data.len() as f64;
        let mean = tensor.data.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = tensor.data.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn spreads_are_those_of_he_fan_out_and_of_linear_layers() {
        for (shape, deviation) in [
            (&[160, 960, 1, 1][..], (2.0f64 / 160.0).sqrt()),
            (&[960, 1, 7, 7], (2.0f64 / (49.0 * 960.0)).sqrt()),
            (&[64, 3, 3, 3], (2.0f64 / (9.0 * 64.0)).sqrt()),
            (&[200, 1280], 1.0 / (3.0f64 * 1280.0).sqrt()),
        ] {
            let tensor = tensor("some.weight", shape, 3);
            let (mean, found) = moments(&tensor);
            assert!((found / deviation - 1.0).abs() < 0.05, "{shape:?}: {found} against {deviation}");
            assert!(mean.abs() < 0.1 * deviation, "{shape:?}: {mean}");
        }
        let linear = tensor("classifier.linear.weight", &[200, 1280], 3);
        let bound = 1.0 / 1280f32.sqrt();
        assert!(linear.data.iter().all(|v| v.abs() <= bound));
    }

    #[test]
    fn a_tensor_is_the_same_in_every_family_and_another_with_another_seed() {
        let blank = |family| Blank { family, width: 0.25, classes: 10, scaling: ExitScaling::Once };
        let net = |family, seed| {
            let supernet = Supernet::random(&blank(family), seed).unwrap();
            supernet.layout.unpack(&supernet.packed)
        };
        let plain = net(Family::SE_B, 1);
        for family in Family::all() {
            let other = net(family, 1);
            let shared: Vec<_> = plain.iter().filter(|(name, _)| other.contains_key(*name)).collect();
            assert!(shared.len() > 400, "{family}: {}", shared.len());
            assert!(shared.iter().all(|(name, tensor)| other[*name] == **tensor), "{family}");
        }
        let name = "blocks.3.conv.point_linear.conv.conv.weight";
        assert_ne!(net(Family::SE_B, 2)[name], plain[name]);
        assert_ne!(plain["blocks.4.conv.point_linear.conv.conv.weight"].data, plain[name].data);
        let matrix = &plain["blocks.1.conv.depth_conv.conv.5to3_matrix"];
        assert_eq!((matrix.data[0], matrix.data[1], matrix.data[80]), (1.0, 0.0, 1.0));
        assert!(plain["first_conv.bn.running_var"].data.iter().all(|&v| v == 1.0));
        assert!(plain["classifier.linear.bias"].data.iter().all(|&v| v == 0.0));
    }

    #[test]
    fn impossible_super_networks_are_refused() {
        let blank = Blank { family: Family::SE_B, width: 0.25, classes: 0, scaling: ExitScaling::Once };
        assert!(Supernet::random(&blank, 0).unwrap_err().to_string().contains("0 classes"));
        let wide = Blank { width: f64::NAN, classes: 2, ..blank };
        assert!(Supernet::random(&wide, 0).unwrap_err().to_string().contains("NaN"));
    }
}
