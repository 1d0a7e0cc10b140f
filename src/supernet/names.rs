//! What tensors are called: the names of the once-for-all package.
//!
//! A stand-alone network has those of the package's static networks: its blocks are numbered one behind the other,
//! and what a super-network's elastic layers have twice, as in `conv.conv`, is there once. Exits and parallel
//! branches keep their names.

use crate::space::Arch;
use crate::space::visit::{LinearPlace, Place};

/// The tensors of a batch norm: its weight, bias, running mean and running variance.
pub const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// What tensors belong to. Its name is the first part of theirs, before `.weight` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A convolution.
    Convolution(Place),
    /// The batch norm behind it.
    Norm(Place),
    /// The kernel transform of a layer (its index) of the 20.
    KernelTransform(usize),
    /// Squeeze-and-excitation of a layer: channels to hidden units.
    Reduce(usize),
    /// Hidden units to channels.
    Expand(usize),
    /// A linear layer of an exit (from 0), or of the plain head.
    Linear(Option<usize>, LinearPlace),
}

/// Whose tensors are named.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    /// A super-network's.
    Shared,
    /// Those of one network on its own.
    Of(&'a Arch),
}

impl Names<'_> {
    /// The name of a unit.
    pub fn of(self, unit: Unit) -> String {
        let of_place = |place: Place, part: &str| {
            let elastic = matches!(place, Place::Expand(_) | Place::Filter(_) | Place::Project(_));
            let module = self.module(place);
            match self {
                Names::Shared if elastic => format!("{module}.{part}.{part}"),
                _ => format!("{module}.{part}"),
            }
        };
        let of_filter = |index: usize, part: &str| format!("{}.{part}", self.module(Place::Filter(index)));
        match unit {
            Unit::Convolution(place) => of_place(place, "conv"),
            Unit::Norm(place) => of_place(place, "bn"),
            Unit::KernelTransform(index) => of_filter(index, "conv"),
            Unit::Reduce(index) => of_filter(index, "se.fc.reduce"),
            Unit::Expand(index) => of_filter(index, "se.fc.expand"),
            Unit::Linear(exit, LinearPlace::Mix) => of_head(exit, "feature_mix_layer.conv"),
            Unit::Linear(exit, LinearPlace::Classifier) => of_head(exit, "classifier.linear"),
        }
    }

    /// The name of one of its tensors.
    pub fn tensor(self, unit: Unit, part: &str) -> String {
        format!("{}.{part}", self.of(unit))
    }

    /// The name of the block that a layer (its index) of the 20 is.
    pub fn block(self, index: usize) -> String {
        // The fixed first block is number 0.
        let number = match self {
            Names::Shared => index + 1,
            Names::Of(arch) => (0..=index).filter(|&index| arch.is_active(index)).count(),
        };
        format!("blocks.{number}")
    }

    /// What a convolution and its batch norm are part of.
    fn module(self, place: Place) -> String {
        let of_block = |index: usize, part: &str| format!("{}.{part}", self.block(index));
        match place {
            Place::Stem => "first_conv".into(),
            Place::FirstFilter => "blocks.0.conv.depth_conv".into(),
            Place::FirstProject => "blocks.0.conv.point_linear".into(),
            Place::Expand(index) => of_block(index, "conv.inverted_bottleneck"),
            Place::Filter(index) => of_block(index, "conv.depth_conv"),
            Place::Project(index) => of_block(index, "conv.point_linear"),
            Place::Pointwise(index) => of_block(index, "parallel.pointwise"),
            Place::Transform(index) => of_block(index, "parallel.transform"),
            Place::Head(exit) => of_head(exit, "final_expand_layer"),
        }
    }
}

fn of_head(exit: Option<usize>, part: &str) -> String {
    exit.map_or_else(|| part.into(), |exit| format!("exits.{exit}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Family;

    #[test]
    fn blocks_of_a_network_are_numbered_and_nothing_is_doubled() {
        let arch = Arch { d: [2, 3, 4, 2, 3], ..Arch::largest(Family::SE_B, 64, None) };
        let both = |unit: Unit| [Names::Shared.of(unit), Names::Of(&arch).of(unit)];
        // Layer 4 begins the second stage, and the first has two layers.
        assert_eq!(
            both(Unit::Convolution(Place::Filter(4))),
            ["blocks.5.conv.depth_conv.conv.conv", "blocks.3.conv.depth_conv.conv"]
        );
        assert_eq!(
            both(Unit::Norm(Place::Project(4))),
            ["blocks.5.conv.point_linear.bn.bn", "blocks.3.conv.point_linear.bn"]
        );
        assert_eq!(
            both(Unit::Norm(Place::Transform(4))),
            ["blocks.5.parallel.transform.bn", "blocks.3.parallel.transform.bn"]
        );
        for unit in [
            Unit::Convolution(Place::Stem),
            Unit::Norm(Place::FirstProject),
            Unit::Convolution(Place::Head(Some(2))),
            Unit::Linear(None, LinearPlace::Mix),
        ] {
            let [shared, own] = both(unit);
            assert_eq!(shared, own);
        }
    }
}
