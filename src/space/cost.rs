//! Trainable parameters and multiply-accumulates of a stand-alone network, in closed form.
//!
//! Parameters are those of the extracted network: convolutions, squeeze-and-excitation, linear
//! layers, and the weight and bias of batch norms; kernel-transform matrices belong to the
//! super-network and are not counted. Multiply-accumulates are those of convolutions and linear
//! layers (squeeze-and-excitation included) for one image.

use super::Arch;
use super::backbone::Channels;
use super::visit::{Convolution, Linear, Squeeze, Visitor, visit};
use super::walk::{Exit, Exits, Layer};
use serde::{Deserialize, Serialize};

/// What a network costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

/// Counts what it is shown. It stands for no map.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// What was shown so far.
    pub cost: Cost,
    classes: usize,
}

impl Counter {
    /// A counter that has seen nothing of a network with so many classes.
    pub fn new(classes: usize) -> Counter {
        Counter { cost: Cost::default(), classes }
    }

    /// Adds a linear layer.
    #[inline]
    fn add_linear(&mut self, cin: usize, cout: usize, bias: bool) {
        self.cost.params += (cin * cout + usize::from(bias) * cout) as u64;
        self.cost.macs += (cin * cout) as u64;
    }
}

impl Visitor for Counter {
    type Map = ();
    type Gate = ();

    fn classes(&self) -> usize {
        self.classes
    }

    #[inline]
    fn convolution(&mut self, what: &Convolution, (): &(), _gate: Option<&()>, _added: Option<&()>) {
        let weights = what.weights_of_output() * what.cout;
        self.cost.macs += (weights * what.side_out * what.side_out) as u64;
        // Two of the batch norm.
        self.cost.params += (weights + (2 + usize::from(what.bias)) * what.cout) as u64;
    }

    #[inline]
    fn squeeze(&mut self, what: &Squeeze, (): &()) {
        self.add_linear(what.channels, what.hidden, true);
        self.add_linear(what.hidden, what.channels, true);
    }

    fn max_pool(&mut self, _layer: &Layer, (): &()) {}

    fn sum(&mut self, _layer: &Layer, _terms: &[()]) {}

    fn mean(&mut self, _exit: &Exit, (): &()) {}

    fn linear(&mut self, _exit: &Exit, what: &Linear, (): &()) {
        self.add_linear(what.cin, what.cout, what.bias);
    }

    fn logits(&mut self, _exit: &Exit, (): ()) {}
}

/// The cost of `arch` read at `exits`, for `classes` classes. The network ends at the last exit.
pub fn cost(channels: &Channels, arch: &Arch, exits: Exits, classes: usize) -> Cost {
    let mut counter = Counter::new(classes);
    visit(&mut counter, channels, arch, exits, ());
    counter.cost
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
