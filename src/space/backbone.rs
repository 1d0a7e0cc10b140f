//! The backbone that all families share: OFA's MobileNetV3 (arXiv 1908.09791), stage by stage.
//!
//! A stem convolution, one fixed MBConv block, five stages of up to four elastic MBConv layers, and
//! heads. Channel counts scale with the width multiplier and are rounded to multiples of 8 by
//! [`div8`], which is what lets every kernel vectorise over channels without a tail.

use crate::words::words;

/// Number of elastic stages.
pub const STAGES: usize = 5;
/// Layers that a stage can have; the super-network holds all of them.
pub const MAX_DEPTH: usize = 4;
/// Elastic layers of a super-network.
pub const LAYERS: usize = STAGES * MAX_DEPTH;
/// Depthwise kernel sizes.
pub const KERNELS: [u8; 3] = [3, 5, 7];
/// Expansion ratios.
pub const EXPANSIONS: [u8; 3] = [3, 4, 6];
/// Depths of a stage.
pub const DEPTHS: [u8; 3] = [2, 3, 4];
/// Branch masks of a parallel layer in the order of the genotype: by number of branches.
/// Bit 2 is the MBConv, bit 1 the 1x1 convolution, bit 0 the transform.
pub const BRANCH_MASKS: [u8; 7] = [1, 2, 4, 3, 5, 6, 7];
/// Width multipliers of the paper's pair of super-networks.
pub const PAPER_WIDTHS: [f64; 2] = [1.0, 1.2];
/// Resolutions of the paper's search.
pub const PAPER_RESOLUTIONS: [u32; 3] = [48, 56, 64];

/// Element-wise activations of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// x
    None = 0,
    /// max(x, 0)
    Relu = 1,
    /// x relu6(x + 3) / 6
    HSwish = 2,
    /// relu6(x + 3) / 6
    HSigmoid = 3,
}

/// One row of the stage table.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Output channels at width multiplier 1.
    pub channels: usize,
    /// Stride of the first layer; the others have 1.
    pub stride: usize,
    /// Activation of all layers.
    pub activation: Activation,
    /// Whether the layers have squeeze-and-excitation.
    pub squeeze_excite: bool,
}

/// The five elastic stages.
pub const STAGE_TABLE: [Stage; STAGES] = [
    Stage { channels: 24, stride: 2, activation: Activation::Relu, squeeze_excite: false },
    Stage { channels: 40, stride: 2, activation: Activation::Relu, squeeze_excite: true },
    Stage { channels: 80, stride: 2, activation: Activation::HSwish, squeeze_excite: false },
    Stage { channels: 112, stride: 1, activation: Activation::HSwish, squeeze_excite: true },
    Stage { channels: 160, stride: 2, activation: Activation::HSwish, squeeze_excite: true },
];

/// OFA's `make_divisible`: the nearest multiple of 8, at least 8, and not below 0.9 of `value`.
pub fn div8(value: f64) -> usize {
    let rounded = (((value + 4.0) / 8.0).floor() * 8.0).max(8.0);
    (if rounded < 0.9 * value { rounded + 8.0 } else { rounded }) as usize
}

/// Hidden channels of an MBConv with `cin` inputs and expansion ratio `expansion`.
pub fn expanded(cin: usize, expansion: u8) -> usize {
    div8((cin * usize::from(expansion)) as f64)
}

/// Hidden units of the squeeze-and-excitation on `channels` channels.
pub fn squeezed(channels: usize) -> usize {
    div8((channels / 4) as f64)
}

/// Side of a map after a "same" convolution or a ceil-mode pool of this stride.
pub fn strided(side: usize, stride: usize) -> usize {
    side.div_ceil(stride)
}

words!(
    /// How the widths of the exits' heads follow the width multiplier.
    #[derive(Default)]
    ExitScaling {
        /// From the stage's scaled channels, as OFA scales its head.
        #[default]
        Once = "once",
        /// The multiplier a second time, as the authors' programs do at width 1.2.
        Twice = "twice",
    }
);

/// A classification head: 1x1 convolution to `expand`, global pool, 1x1 to `mix`, linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Head {
    /// Input channels.
    pub cin: usize,
    /// Channels of the first 1x1 convolution (`final_expand_layer`).
    pub expand: usize,
    /// Features of the second (`feature_mix_layer`), which the classifier reads.
    pub mix: usize,
}

/// Every channel count of the backbone at one width multiplier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Channels {
    /// The width multiplier.
    pub width: f64,
    /// Outputs of the stem convolution.
    pub stem: usize,
    /// Outputs of the fixed first block.
    pub first: usize,
    /// Outputs of each stage.
    pub stages: [usize; STAGES],
    /// The plain head of SE families.
    pub head: Head,
    /// The exits of EE families, one after each stage.
    pub exits: [Head; STAGES],
}

impl Channels {
    /// The channel counts at width multiplier `width`.
    pub fn new(width: f64, scaling: ExitScaling) -> Channels {
        let stages = STAGE_TABLE.map(|stage| div8(stage.channels as f64 * width));
        let again = match scaling {
            ExitScaling::Once => 1.0,
            ExitScaling::Twice => width,
        };
        Channels {
            width,
            stem: div8(16.0 * width),
            first: div8(16.0 * width),
            stages,
            head: Head { cin: stages[STAGES - 1], expand: div8(960.0 * width), mix: div8(1280.0 * width) },
            exits: stages.map(|c| Head {
                cin: c,
                expand: div8(6.0 * c as f64 * again),
                mix: div8(8.0 * c as f64 * again),
            }),
        }
    }

    /// Input channels of layer `index` (0..20).
    pub fn layer_input(&self, index: usize) -> usize {
        let stage = index / MAX_DEPTH;
        match (index % MAX_DEPTH, stage) {
            (0, 0) => self.first,
            (0, _) => self.stages[stage - 1],
            _ => self.stages[stage],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_match_the_published_tables() {
        let narrow = Channels::new(1.0, ExitScaling::Once);
        assert_eq!((narrow.stem, narrow.first, narrow.stages), (16, 16, [24, 40, 80, 112, 160]));
        let pairs = narrow.exits.map(|h| (h.expand, h.mix));
        assert_eq!(pairs, [(144, 192), (240, 320), (480, 640), (672, 896), (960, 1280)]);
        let wide = Channels::new(1.2, ExitScaling::Twice);
        assert_eq!((wide.stem, wide.stages), (24, [32, 48, 96, 136, 192]));
        let pairs = wide.exits.map(|h| (h.expand, h.mix));
        assert_eq!(pairs, [(232, 304), (344, 464), (688, 920), (976, 1304), (1384, 1840)]);
        let once = Channels::new(1.2, ExitScaling::Once).exits[4];
        assert_eq!((once.expand, once.mix), (1152, 1536));
    }

    #[test]
    fn rounding_never_loses_a_tenth() {
        assert_eq!([4.0, 6.0, 10.0, 19.2, 28.0, 134.4].map(div8), [8, 8, 16, 24, 32, 136]);
    }
}
