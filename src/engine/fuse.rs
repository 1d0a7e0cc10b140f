//! Whole MBConvs of inference as one call, where a block of the device holds an image of them; the first one
//! together with the stem.
//!
//! In 16 bits, and where the device has blocks with shared memory. Batch norms are registered in the order
//! of the separate calls, which recalibration makes, so both find them at the same places.

use super::emit::Norm;
use super::plan::{Lowering, Map, Mode};
use crate::ops::mbconv::{self, Mbconv};
use crate::ops::{Activation, Call, Slot, halves};
use crate::space::backbone::strided;
use crate::space::walk::Layer;
use crate::supernet::{BatchNorm, Block, Panels, Squeeze};

/// Where the map that the filter is for comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// It is the input.
    Input,
    /// A 1x1 expansion of the input.
    Expansion(Panels, &'a BatchNorm),
    /// The stem's filters on images.
    Stem {
        filters: Slot,
        bn: &'a BatchNorm,
        activation: Activation,
        /// The map is added to the output.
        shortcut: bool,
    },
}

/// What an MBConv is made of.
pub(super) struct Parts<'a> {
    pub(super) source: Source<'a>,
    /// The depthwise filter `[kernel, kernel, stored]`.
    pub(super) filter: (Slot, usize),
    pub(super) filter_bn: &'a BatchNorm,
    /// Squeeze-and-excitation with its hidden units in use.
    pub(super) squeeze: Option<(Squeeze, usize)>,
    /// The 1x1 projection.
    pub(super) project: (Panels, &'a BatchNorm),
    /// Expanded and output channels.
    pub(super) mid: usize,
    pub(super) cout: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// After the expansion and after the filter.
    pub(super) activation: Activation,
}

impl<'a> Parts<'a> {
    /// The MBConv of an elastic layer.
    pub(super) fn of(layer: &Layer, block: &'a Block) -> Parts<'a> {
        Parts {
            source: Source::Expansion(block.expand, &block.expand_bn),
            filter: (block.filter(layer.kernel), block.channels),
            filter_bn: &block.depthwise_bn,
            squeeze: block.squeeze.zip(layer.squeeze),
            project: (block.project, &block.project_bn),
            mid: layer.mid,
            cout: layer.cout,
            kernel: layer.kernel,
            stride: layer.stride,
            activation: layer.activation,
        }
    }
}

impl Lowering<'_> {
    /// The call's shape on `x`, if there is such a call in this plan.
    pub(super) fn fusing(&self, parts: &Parts<'_>, x: Map) -> Option<mbconv::Params> {
        let format = self.format.filter(|_| self.mode == Mode::Inference && self.block_bytes > 0)?;
        let squeeze = parts.squeeze;
        let (side, weight_cin) = match parts.source {
            Source::Input => (x.side, 0),
            Source::Expansion(panels, _) => (x.side, panels.cin),
            Source::Stem { .. } => (strided(x.side, 2), 0),
        };
        let (image_side, stem_activation, shortcut) = match parts.source {
            Source::Stem { activation, shortcut, .. } => (x.side, activation, shortcut),
            _ => (0, Activation::None, false),
        };
        let params = mbconv::Params {
            images: self.images as u32,
            side_in: side as u32,
            side_out: strided(side, parts.stride) as u32,
            cin: x.channels as u32,
            mid: parts.mid as u32,
            cout: parts.cout as u32,
            kernel: parts.kernel as u32,
            stride: parts.stride as u32,
            activation: parts.activation as u32,
            hidden: squeeze.map_or(0, |(_, hidden)| hidden as u32),
            weight_cin: weight_cin as u32,
            weight_channels: parts.filter.1 as u32,
            weight_mid: parts.project.0.cin as u32,
            se_channels: squeeze.map_or(0, |(squeeze, _)| squeeze.reduce.cin as u32),
            se_hidden: squeeze.map_or(0, |(squeeze, _)| squeeze.expand.cin as u32),
            image_side: image_side as u32,
            stem_activation: stem_activation as u32,
            shortcut: u32::from(shortcut),
            format: halves::number(Some(format)),
        };
        mbconv::fits(&params, self.block_bytes).then_some(params)
    }

    /// The batch norm of what makes the map: the first of an MBConv.
    pub(super) fn source_norm(&mut self, parts: &Parts<'_>) -> Option<Norm> {
        match parts.source {
            Source::Input => None,
            Source::Expansion(_, bn) | Source::Stem { bn, .. } => Some(self.norm(bn, parts.mid, None)),
        }
    }

    /// The call, with the source's batch norm registered before.
    pub(super) fn fused(
        &mut self,
        params: mbconv::Params,
        parts: &Parts<'_>,
        source: Option<Norm>,
        x: Map,
        residual: Option<Map>,
    ) -> Map {
        let filter_norm = self.norm(parts.filter_bn, parts.mid, None);
        let (project, project_bn) = &parts.project;
        let project_norm = self.norm(project_bn, parts.cout, None);
        let y = self.map(params.side_out as usize, parts.cout);
        let squeeze = parts.squeeze;
        let (stem, expand) = match parts.source {
            Source::Input => (None, None),
            Source::Expansion(panels, _) => (None, Some(self.layout.rows(&panels, parts.mid))),
            Source::Stem { filters, .. } => (Some(filters), None),
        };
        self.calls.push(Call::from(Mbconv {
            params,
            x: x.slot,
            stem,
            expand,
            expand_scale: source.as_ref().map(|norm| norm.scale),
            expand_shift: source.as_ref().map(|norm| norm.shift),
            filter: parts.filter.0,
            filter_scale: filter_norm.scale,
            filter_shift: filter_norm.shift,
            reduce: squeeze.map(|(squeeze, hidden)| squeeze.reduce.prefix(hidden)),
            reduce_bias: squeeze.map(|(squeeze, hidden)| Slot::weights(squeeze.reduce_bias, hidden)),
            excite: squeeze.map(|(squeeze, _)| squeeze.expand.prefix(parts.mid)),
            excite_bias: squeeze.map(|(squeeze, _)| Slot::weights(squeeze.expand_bias, parts.mid)),
            project: self.layout.rows(project, parts.cout),
            project_scale: project_norm.scale,
            project_shift: project_norm.shift,
            residual: residual.map(|map| map.slot),
            y: y.slot,
        }));
        y
    }
}
