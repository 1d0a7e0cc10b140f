//! Trainable parameters and multiply-accumulates of a stand-alone network, in closed form.
//!
//! Parameters are those of the extracted network: convolutions, squeeze-and-excitation, linear
//! layers, and the weight and bias of batch norms; kernel-transform matrices belong to the
//! super-network and are not counted. Multiply-accumulates are those of convolutions and linear
//! layers (squeeze-and-excitation included) for one image.

use super::Arch;
use super::backbone::{Channels, Head, MAX_DEPTH, STAGES, strided};
use super::walk::{Exits, Layer, head, walk};
use serde::{Deserialize, Serialize};

/// What a network costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl Cost {
    /// A k x k convolution over groups, without bias: each of `cout` filters has `per_filter` weights.
    fn convolution(&mut self, per_filter: usize, cout: usize, side: usize) {
        self.params += (per_filter * cout) as u64;
        self.macs += (per_filter * cout * side * side) as u64;
    }

    fn batch_norm(&mut self, channels: usize) {
        self.params += 2 * channels as u64;
    }

    /// Stem and the fixed first block, whose maps are `side` wide.
    pub(crate) fn first(&mut self, channels: &Channels, side: usize) {
        self.convolution(27, channels.stem, side);
        self.batch_norm(channels.stem);
        self.convolution(9, channels.stem, side);
        self.batch_norm(channels.stem);
        self.convolution(channels.stem, channels.first, side);
        self.batch_norm(channels.first);
    }

    /// What a head has in front of its pool, on a map `side` wide.
    pub(crate) fn head_expansion(&mut self, head: &Head, side: usize) {
        self.convolution(head.cin, head.expand, side);
        self.batch_norm(head.expand);
    }

    /// What a head has behind its pool.
    pub(crate) fn head_classifier(&mut self, head: &Head, classes: usize) {
        self.convolution(head.expand, head.mix, 1);
        self.linear(head.mix, classes);
    }

    fn linear(&mut self, cin: usize, cout: usize) {
        self.params += ((cin + 1) * cout) as u64;
        self.macs += (cin * cout) as u64;
    }

    /// An elastic layer.
    pub(crate) fn layer(&mut self, layer: &Layer) {
        let &Layer { cin, cout, mid, side_in, side_out, .. } = layer;
        if layer.branches.mbconv {
            self.convolution(cin, mid, side_in);
            self.batch_norm(mid);
            self.convolution(layer.kernel * layer.kernel, mid, side_out);
            self.batch_norm(mid);
            if let Some(hidden) = layer.squeeze {
                self.linear(mid, hidden);
                self.linear(hidden, mid);
            }
            self.convolution(mid, cout, side_out);
            self.batch_norm(cout);
        }
        if layer.branches.pointwise {
            self.convolution(cin, cout, side_out);
            self.batch_norm(cout);
        }
        if layer.branches.transform {
            if cin != cout {
                self.convolution(cin, cout, side_out);
                self.params += cout as u64;
            }
            self.batch_norm(cout);
        }
    }
}

/// The cost of `arch` read at `exits`, for `classes` classes. The network ends at the last exit.
pub fn cost(channels: &Channels, arch: &Arch, exits: Exits, classes: usize) -> Cost {
    let mut cost = Cost::default();
    cost.first(channels, strided(arch.r as usize, 2));

    let mut sides = [0; STAGES];
    for layer in walk(channels, arch).take_while(|layer| layer.index < (exits.last() + 1) * MAX_DEPTH) {
        cost.layer(&layer);
        sides[layer.stage] = layer.side_out;
    }
    for exit in exits.iter() {
        let head = head(channels, arch.family, exit);
        cost.head_expansion(&head, sides[exit]);
        cost.head_classifier(&head, classes);
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::super::{ExitScaling, Family};
    use super::*;

    fn largest(family: &str, width: f64, scaling: ExitScaling) -> Cost {
        let family: Family = family.parse().unwrap();
        let arch = Arch::largest(family, 64, Some(width));
        cost(&Channels::new(width, scaling), &arch, Exits::up_to(&arch), 200)
    }

    #[test]
    fn largest_networks_match_the_published_counts() {
        let expect = |params, macs| Cost { params, macs };
        assert_eq!(largest("SE_B", 1.0, ExitScaling::Once), expect(6_639_960, 49_798_016));
        assert_eq!(largest("EE_B", 1.0, ExitScaling::Once), expect(8_193_912, 54_539_136));
        assert_eq!(largest("SE_B", 1.2, ExitScaling::Once), expect(9_472_032, 73_990_080));
        assert_eq!(largest("EE_B", 1.2, ExitScaling::Twice), expect(13_317_136, 83_878_208));
        assert_eq!(largest("EE_D", 1.0, ExitScaling::Once), expect(8_193_912, 54_539_136));
    }
}
