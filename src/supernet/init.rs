//! Random super-networks.
//!
//! How weights are drawn is an [`Init`]; whatever it is, batch norms begin as the identity with running mean 0
//! and variance 1 (but for [`Init::ZeroResidual`]), and kernel-transform matrices as the identity. The fan-in
//! of a convolution is what one output reads, `k * k * cin / groups`; its fan-out, here as in PyTorch,
//! `k * k * cout`, where a depthwise filter counts all its channels.
//!
//! | | convolutions | linear layers | biases |
//! | --- | --- | --- | --- |
//! | `he-fan-out` | normal, variance 2 / fan-out | uniform within 1 / sqrt(fan-in) | 0 |
//! | `uniform-fan-in` | uniform within 1 / sqrt(fan-in) | the same | uniform within 1 / sqrt(fan-in) |
//! | `zero-residual` | as `uniform-fan-in`; the last batch norm of a block with a shortcut has weight 0 | | |
//! | `mobilenet` | normal, variance 2 / fan-out, where a depthwise filter counts one channel | normal, deviation 0.01 | 0 |
//!
//! A batch norm takes the scale of the weights before it out of the forward pass, and leaves it in the step: the
//! gradient of weights that are `s` times as large is `1 / s` of theirs, so a step turns them by `1 / s^2`. That is
//! what these draws differ in.
//!
//! Every tensor has a random stream of its own, named after it, so a tensor gets the same numbers
//! whatever other tensors the super-network has.

use super::{Card, Checkpoint, Error, Layout, Names, Parts, Supernet, Tensor, TensorLayout, Unit};
pub use crate::config::Init;
use crate::random::stream;
use crate::space::visit::Place;
use crate::space::walk::{Exits, Part, parts};
use crate::space::{Arch, Channels, ExitScaling, Family, MIN_RESOLUTION};
use rand::{Rng, RngExt};
use std::path::PathBuf;

/// The draws of a layout's tensors.
#[derive(Debug, Clone, Copy)]
pub struct Draws<'a> {
    /// The layout, a super-network's.
    pub layout: &'a Layout,
    /// How.
    pub init: Init,
    /// Whose streams.
    pub seed: u64,
}

impl Draws<'_> {
    /// One of the layout's tensors.
    pub fn tensor(&self, TensorLayout { name, shape, .. }: &TensorLayout) -> Tensor {
        let count: usize = shape.iter().product();
        let mut rng = stream(self.seed, &format!("init/{name}"), 0, 0);
        let uniform = self.init.is_uniform();
        let data = match (name.rsplit('.').next().unwrap_or(name), &shape[..]) {
            ("running_mean", _) => vec![0.0; count],
            ("bias", _) => match self.fan_in_of_bias(name).filter(|_| uniform) {
                Some(fan_in) => draw_uniform(count, fan_in, &mut rng),
                None => vec![0.0; count],
            },
            ("running_var", _) => vec![1.0; count],
            ("weight", [_]) if self.init == Init::ZeroResidual && self.ends_residual(name) => {
                vec![0.0; count]
            }
            ("weight", [_]) => vec![1.0; count],
            (last, &[rows, columns]) if last.ends_with("_matrix") && rows == columns => {
                (0..count).map(|i| if i % (columns + 1) == 0 { 1.0 } else { 0.0 }).collect()
            }
            (_, shape) if uniform => draw_uniform(count, fan_in(shape), &mut rng),
            (_, &[_, features]) => match self.init {
                Init::Mobilenet => draw_normal(count, CLASSIFIER_DEVIATION, &mut rng),
                _ => draw_uniform(count, features, &mut rng),
            },
            (_, shape) => {
                let window: usize = shape.iter().skip(2).product();
                // A depthwise filter reads one channel.
                let outputs = if self.init == Init::Mobilenet && shape[1] == 1 { 1 } else { shape[0] };
                draw_normal(count, (2.0 / (window * outputs) as f64).sqrt(), &mut rng)
            }
        };
        Tensor { shape: shape.clone(), data }
    }

    /// The fan-in of the layer that a bias belongs to; none for that of a batch norm.
    fn fan_in_of_bias(&self, name: &str) -> Option<usize> {
        let weight = format!("{}.weight", name.strip_suffix(".bias")?);
        let weight = self.layout.tensors().iter().find(|tensor| tensor.name == weight)?;
        (weight.shape.len() > 1).then(|| fan_in(&weight.shape))
    }

    /// Whether a tensor is the weight of the last batch norm of a block with a shortcut.
    fn ends_residual(&self, name: &str) -> bool {
        let largest = Arch::largest(Family::SE_B, MIN_RESOLUTION, None);
        let place = |part| match part {
            Part::First(first) if first.shortcut() => Some(Place::FirstProject),
            Part::Layer(layer) if layer.shortcut => Some(Place::Project(layer.index)),
            _ => None,
        };
        parts(self.layout.channels(), &largest, Exits::single(&largest))
            .filter_map(place)
            .any(|place| Names::Shared.tensor(Unit::Norm(place), "weight") == name)
    }
}

/// Spread of a small classifier's weights, as in MobileNets' programs.
const CLASSIFIER_DEVIATION: f64 = 0.01;

impl Init {
    fn is_uniform(self) -> bool {
        matches!(self, Init::UniformFanIn | Init::ZeroResidual)
    }
}

/// What one output of a layer reads.
fn fan_in(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

fn draw_uniform(count: usize, fan_in: usize, rng: &mut impl Rng) -> Vec<f32> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    (0..count).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect()
}

fn draw_normal(count: usize, deviation: f64, rng: &mut impl Rng) -> Vec<f32> {
    (0..count).map(|_| (deviation * normal(rng)) as f32).collect()
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
    /// How its weights are drawn.
    pub init: Init,
}

impl Blank {
    /// With exits' heads that scale once, drawn as the once-for-all package draws its own.
    pub fn new(family: Family, width: f64, classes: usize) -> Blank {
        Blank { family, width, classes, scaling: ExitScaling::Once, init: Init::HeFanOut }
    }
}

impl Supernet {
    /// A super-network of random weights. The same seed gives the same weights.
    ///
    /// # Errors
    /// A width outside 0.05..=8, or no classes.
    pub fn random(blank: &Blank, seed: u64) -> Result<Supernet, Error> {
        let &Blank { family, width, classes, scaling, init } = blank;
        let refuse = |what: String| Err(Error::Blank { what });
        if !(0.05..=8.0).contains(&width) {
            return refuse(format!("width multiplier {width}: choose from 0.05 to 8"));
        }
        if classes == 0 || classes > 1 << 20 {
            return refuse(format!("{classes} classes: choose from 1 to {}", 1 << 20));
        }
        let layout = Layout::new(Channels::new(width, scaling), classes, parts_of(family));
        let draws = Draws { layout: &layout, init, seed };
        let tensors = layout.tensors().iter().map(|wanted| (wanted.name.clone(), draws.tensor(wanted)));
        let file = PathBuf::from(format!("(random {family}, seed {seed})"));
        let packed = layout.pack(&Checkpoint::from_tensors(&file, tensors.collect()))?;
        let trained = Some(format!("not trained: random weights, {}, seed {seed}", init.as_str()));
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

    /// A tensor of that name and shape, whatever layout it is none of.
    fn drawn(init: Init, name: &str, shape: &[usize]) -> Tensor {
        let layout = Layout::new(Channels::new(0.25, ExitScaling::Once), 10, parts_of(Family::SE_B));
        let wanted = TensorLayout { name: name.into(), shape: shape.into(), ..layout.tensors()[0].clone() };
        Draws { layout: &layout, init, seed: 3 }.tensor(&wanted)
    }

    /// What differs between the draws beside spreads: biases, and the last batch norms of blocks with a shortcut.
    #[test]
    fn biases_and_batch_norms_begin_as_each_draw_says() {
        let family: Family = "EE_P".parse().unwrap();
        for init in Init::ALL {
            let supernet = Supernet::random(&Blank { init, ..Blank::new(family, 0.25, 10) }, 1).unwrap();
            let tensors = supernet.layout.unpack(&supernet.packed);
            for (name, Tensor { shape, data }) in &tensors {
                let norm = tensors
                    .contains_key(&name.replace(".bias", ".running_var").replace(".weight", ".running_var"));
                let all = |value: f32| data.iter().all(|&v| v == value);
                if name.ends_with(".bias") {
                    assert_eq!(all(0.0), norm || !init.is_uniform(), "{init:?} {name}");
                } else if name.ends_with(".weight") && shape.len() == 1 {
                    let layer = name
                        .strip_prefix("blocks.")
                        .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
                    let shortcut = layer.is_some_and(|layer| layer == 0 || layer % 4 != 1);
                    let zero = init == Init::ZeroResidual && shortcut && name.contains("point_linear");
                    assert!(all(if zero { 0.0 } else { 1.0 }), "{init:?} {name}");
                }
            }
            let bias = &tensors["blocks.5.conv.depth_conv.se.fc.reduce.bias"];
            let fan_in = tensors["blocks.5.conv.depth_conv.se.fc.reduce.weight"].shape[1] as f32;
            assert!(bias.data.iter().all(|value| value.abs() <= 1.0 / fan_in.sqrt()));
            assert!(supernet.card.trained.unwrap().contains(init.as_str()));
        }
    }

    #[test]
    fn spreads_are_those_of_each_draw() {
        let uniform = |fan_in: f64| 1.0 / (3.0 * fan_in).sqrt();
        let normal = |fan_out: f64| (2.0 / fan_out).sqrt();
        // He fan-out, uniform, and that of MobileNets.
        for (shape, deviations) in [
            (&[160, 960, 1, 1][..], [normal(160.0), uniform(960.0), normal(160.0)]),
            (&[960, 1, 7, 7], [normal(49.0 * 960.0), uniform(49.0), normal(49.0)]),
            (&[64, 3, 3, 3], [normal(9.0 * 64.0), uniform(27.0), normal(9.0 * 64.0)]),
            (&[200, 1280], [uniform(1280.0), uniform(1280.0), 0.01]),
        ] {
            for (init, deviation) in
                [Init::HeFanOut, Init::UniformFanIn, Init::Mobilenet].iter().zip(deviations)
            {
                let tensor = drawn(*init, "some.weight", shape);
                let (mean, found) = moments(&tensor);
                assert!(
                    (found / deviation - 1.0).abs() < 0.05,
                    "{init:?} {shape:?}: {found} against {deviation}"
                );
                assert!(mean.abs() < 0.1 * deviation, "{init:?} {shape:?}: {mean}");
                let largest = tensor.data.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let bounded = f64::from(largest) <= deviation * 3.0f64.sqrt() * 1.000_001;
                let is_uniform = init.is_uniform() || (*init == Init::HeFanOut && shape.len() == 2);
                assert_eq!(bounded, is_uniform, "{init:?} {shape:?}: {largest}");
            }
        }
    }

    #[test]
    fn a_tensor_is_the_same_in_every_family_and_another_with_another_seed() {
        let blank = |family| Blank::new(family, 0.25, 10);
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
        let blank = Blank::new(Family::SE_B, 0.25, 0);
        assert!(Supernet::random(&blank, 0).unwrap_err().to_string().contains("0 classes"));
        let wide = Blank { width: f64::NAN, classes: 2, ..blank };
        assert!(Supernet::random(&wide, 0).unwrap_err().to_string().contains("NaN"));
    }
}
