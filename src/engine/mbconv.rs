//! An MBConv that may run as one: its convolutions, and the shape of its call.
//!
//! `choose.rs` asks whether a block holds an image of that shape, `fuse.rs` and `passes.rs` make its calls.

use super::build::Map;
use super::norms::Norm;
use crate::launch::Multiprocessors;
use crate::ops::expand_depthwise;
use crate::ops::halves::{self, Format};
use crate::ops::mbconv::{self, Block as MbconvBlock};
use crate::ops::mbconv_pass;
use crate::ops::{Activation, Slot};
use crate::space::Arch;
use crate::space::visit::{Convolution, Kind, Squeeze};
use crate::space::walk::{Exit, First, Layer, walk};
use crate::supernet::Layout;
use serde::Serialize;

/// An MBConv that may run as one: its convolutions.
#[derive(Clone, Copy)]
pub(super) struct MbconvParts {
    /// What makes the map that the filter is for: an expansion of the input, or the stem, of images. None where that
    /// map is the input.
    pub(super) source: Option<Convolution>,
    pub(super) filter: Convolution,
    pub(super) squeeze: Option<Squeeze>,
    pub(super) project: Convolution,
    /// Whether the stem's map is added to the output.
    shortcut: bool,
}

impl MbconvParts {
    /// The MBConv of an elastic layer.
    pub(super) fn of(layer: &Layer) -> MbconvParts {
        MbconvParts {
            source: Some(layer.expand()),
            filter: layer.filter(),
            squeeze: layer.squeeze_excite(),
            project: layer.project(),
            shortcut: false,
        }
    }

    /// The stem and the fixed first block.
    pub(super) fn with_stem(first: &First) -> MbconvParts {
        let (source, shortcut) = (Some(first.convolution()), first.shortcut());
        MbconvParts { source, shortcut, ..MbconvParts::behind_stem(first) }
    }

    /// The fixed first block.
    pub(super) fn behind_stem(first: &First) -> MbconvParts {
        let (filter, project) = (first.filter(), first.project());
        MbconvParts { source: None, filter, squeeze: None, project, shortcut: false }
    }

    /// What makes the map, if it is of that kind.
    pub(super) fn source(&self, kind: Kind) -> Option<Convolution> {
        self.source.filter(|source| source.kind == kind)
    }

    /// The shape of a call on so many images.
    pub(super) fn params(&self, layout: &Layout, images: usize, format: Format) -> mbconv::Params {
        let &MbconvParts { ref filter, squeeze, ref project, .. } = self;
        let (stem, expansion) = (self.source(Kind::Dense), self.source(Kind::Pointwise));
        let stored = squeeze.map(|squeeze| layout.squeeze(&squeeze));
        let cin = self.source.map_or(filter.cin, |source| source.cin);
        mbconv::Params {
            images: images as u32,
            side_in: filter.side_in as u32,
            side_out: filter.side_out as u32,
            cin: cin as u32,
            mid: filter.cout as u32,
            cout: project.cout as u32,
            kernel: filter.kernel as u32,
            stride: filter.stride as u32,
            activation: filter.activation as u32,
            hidden: squeeze.map_or(0, |squeeze| squeeze.hidden as u32),
            weight_cin: expansion.map_or(0, |what| layout.stored_inputs(&what) as u32),
            weight_channels: layout.stored_inputs(filter) as u32,
            weight_mid: layout.stored_inputs(project) as u32,
            se_channels: stored.map_or(0, |squeeze| squeeze.reduce.cin as u32),
            se_hidden: stored.map_or(0, |squeeze| squeeze.expand.cin as u32),
            image_side: stem.map_or(0, |stem| stem.side_in as u32),
            stem_activation: stem.map_or(Activation::None, |stem| stem.activation) as u32,
            shortcut: u32::from(self.shortcut),
            format: halves::number(Some(format)),
        }
    }

    /// The rows of the expansion.
    pub(super) fn expand(&self, layout: &Layout) -> Option<Slot> {
        self.source(Kind::Pointwise).map(|what| layout.rows_of(&what))
    }

    /// The rows of the projection.
    pub(super) fn project(&self, layout: &Layout) -> Slot {
        layout.rows_of(&self.project)
    }

    /// The filter.
    pub(super) fn filter(&self, layout: &Layout) -> Slot {
        layout.filter(&self.filter)
    }

    /// Weights and biases of squeeze-and-excitation: reduce, its bias, excite, its bias.
    pub(super) fn squeeze_excite(&self, layout: &Layout) -> [Option<Slot>; 4] {
        let Some(what) = self.squeeze else { return [None; 4] };
        let squeeze = layout.squeeze(&what);
        [
            squeeze.reduce.prefix(what.hidden),
            Slot::weights(squeeze.reduce_bias, what.hidden),
            squeeze.expand.prefix(what.channels),
            Slot::weights(squeeze.expand_bias, what.channels),
        ]
        .map(Some)
    }
}

/// An MBConv that is to run, with its batch norms.
pub(super) struct Fused {
    pub(super) params: mbconv::Params,
    pub(super) parts: MbconvParts,
    /// The batch norm of the layer that makes the expanded map; none where the input is that map.
    pub(super) source: Option<Norm>,
    pub(super) filter: Norm,
    pub(super) project: Norm,
    pub(super) x: Map,
    pub(super) residual: Option<Map>,
}

/// The pass that leaves the statistics of a head's first convolution, of some images, of which each batch has so many.
pub(super) fn head_pass(
    layout: &Layout,
    exit: &Exit,
    images: (u32, u32),
    format: Format,
) -> mbconv_pass::Params {
    let what = exit.expand();
    let channels = [what.cin, layout.stored_inputs(&what), what.cout].map(|channels| channels as u32);
    mbconv_pass::Params::pointwise(images, exit.side as u32, channels, format)
}

/// An MBConv of 16-bit inference, and how it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MbconvChoice {
    /// The layer's stage and its position there, from 1.
    pub layer: [usize; 2],
    /// Sides of its input and output map.
    pub sides: [usize; 2],
    /// Channels of its input, expanded and output map.
    pub channels: [usize; 3],
    /// Side of the filter, and its stride.
    pub filter: [usize; 2],
    /// Hidden units of squeeze-and-excitation.
    pub hidden: usize,
    /// Whether it is one kernel.
    pub fused: bool,
    /// The block of that kernel; the smallest that there is, where it does not fit.
    pub block: Option<MbconvBlock>,
    /// Where it does not, the block of the first of a pair of kernels, if there is such a pair.
    pub pair: Option<MbconvBlock>,
}

/// The MBConvs of a network for `images` images at a time on a device whose blocks can have `block_bytes`
/// of shared memory and run on these multiprocessors, in order.
pub fn choices(
    layout: &Layout,
    arch: &Arch,
    images: usize,
    (block_bytes, multiprocessors): (u32, Multiprocessors),
) -> Vec<MbconvChoice> {
    let choice = |layer: &Layer| {
        // Both formats have the same shapes.
        let params = MbconvParts::of(layer).params(layout, images, Format::Bf16);
        let fused = mbconv::fits(&params, block_bytes);
        let half = expand_depthwise::Params { shape: params.front(), batch_images: None };
        let pair = || expand_depthwise::block(&half, block_bytes, multiprocessors);
        MbconvChoice {
            layer: [layer.stage + 1, layer.position + 1],
            sides: [layer.side_in, layer.side_out],
            channels: [layer.cin, layer.mid, layer.cout],
            filter: [layer.kernel, layer.stride],
            hidden: layer.squeeze.unwrap_or(0),
            fused,
            block: mbconv::block(&params, block_bytes, multiprocessors),
            pair: if fused { None } else { pair() },
        }
    };
    walk(layout.channels(), arch).filter(|layer| layer.branches.mbconv).map(|layer| choice(&layer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::H100_MULTIPROCESSORS;
    use crate::engine::Precision;
    use crate::engine::plan::{Mode, Target, lower};
    use crate::ops::Call;
    use crate::space::walk::Exits;
    use crate::space::{Channels, ExitScaling, Family};
    use crate::supernet::init::parts_of;

    #[test]
    fn what_is_said_to_be_one_kernel_or_a_pair_is_that() {
        let family = Family::SE_B;
        let layout = Layout::new(Channels::new(1.0, ExitScaling::Once), 10, parts_of(family));
        // All layers of small images; of larger ones, on an A100, not the first with squeeze-excite.
        for (side, block_bytes, all) in [(64, 227 << 10, true), (160, 163 << 10, false)] {
            let arch = Arch { ks: [7; 20], e: [6; 20], d: [3; 5], ..Arch::largest(family, side, None) };
            let choices = choices(&layout, &arch, 100, (block_bytes, H100_MULTIPROCESSORS));
            assert_eq!(choices.len(), 15);
            assert!(choices.iter().all(|choice| choice.fused != choice.pair.is_some()));
            assert!(choices[0].fused, "{:?}", choices[0]);
            assert_eq!(choices[3].fused, all, "{:?}", choices[3]);
            let fits =
                |choice: &MbconvChoice| choice.block.is_some_and(|block| block.shared_bytes <= block_bytes);
            assert!(choices.iter().all(|choice| choice.fused == fits(choice)));
            let target = Target { precision: Precision::F16, block_bytes };
            let (program, _) = lower(&layout, &arch, Exits::single(&arch), 100, Mode::Inference, target);
            let filters: Vec<[u32; 3]> = program
                .calls
                .iter()
                .filter_map(|call| match call {
                    Call::Mbconv(call) if call.stem.is_none() && call.expand.is_some() => {
                        let p = &call.params;
                        Some([p.side_in, p.mid, p.cout])
                    }
                    _ => None,
                })
                .collect();
            let said = choices.iter().filter(|choice| choice.fused);
            let said: Vec<[u32; 3]> =
                said.map(|c| [c.sides[0] as u32, c.channels[1] as u32, c.channels[2] as u32]).collect();
            assert_eq!(filters, said);
            let pairs = program.calls.iter().filter(|call| matches!(call, Call::ExpandDepthwise(_))).count();
            assert_eq!(pairs, choices.len() - said.len());
            assert!(!program.calls.iter().any(|call| matches!(call, Call::Depthwise(_))));
        }
    }
}
