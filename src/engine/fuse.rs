//! Whole MBConvs of inference as one call, where a block of the device holds an image of them.
//!
//! In 16 bits, and where the device has blocks with shared memory. Those that a tree's siblings make of one
//! input are one call. Batch norms are registered in the order of the separate calls, which recalibration
//! makes, so both find them at the same places.

use super::emit::Norm;
use super::plan::{Lowering, Map, Mode};
use super::tree::{Step, Tree};
use crate::ops::mbconv::{self, Mbconv, MbconvSiblings};
use crate::ops::{Activation, Call, Slot, halves};
use crate::space::backbone::strided;
use crate::space::walk::Layer;
use crate::supernet::{BatchNorm, Block, Panels, Squeeze};
use std::collections::BTreeMap;

/// What an MBConv is made of.
pub(super) struct Parts<'a> {
    /// The 1x1 expansion, where there is one.
    pub(super) expand: Option<(Panels, &'a BatchNorm)>,
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
            expand: Some((block.expand, &block.expand_bn)),
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
    /// MBConvs that siblings make of `x`, as one call; `nodes` are layers of a tree. `None` where there are
    /// not two that are nothing else: a node with branches beside its MBConv has calls of its own.
    ///
    /// The outputs, by node.
    pub(super) fn siblings(&mut self, tree: &Tree, nodes: &[usize], x: Map) -> BTreeMap<usize, Map> {
        let whole = |&id: &usize| match tree.nodes[id].step {
            Step::Layer(layer) => self.whole(&layer, x).map(|params| (id, layer, params)),
            _ => None,
        };
        let whole: Vec<(usize, Layer, mbconv::Params)> = nodes.iter().filter_map(whole).collect();
        if whole.len() < 2 {
            return BTreeMap::new();
        }
        let (mut outputs, before) = (BTreeMap::new(), self.calls.len());
        for (id, layer, params) in whole {
            let block = self.layout.blocks[layer.index];
            let parts = Parts::of(&layer, &block);
            self.next_norm = self.norms_at[id];
            let expansion = self.expansion_norm(&parts);
            outputs.insert(id, self.fused(params, &parts, expansion, x, layer.shortcut.then_some(x)));
        }
        let calls = self.calls.split_off(before).into_iter().filter_map(|call| match call {
            Call::Mbconv(call) => Some(call),
            _ => None,
        });
        let calls = calls.collect();
        self.calls.push(Call::from(MbconvSiblings { calls }));
        outputs
    }

    /// The shape of a layer that is one call.
    fn whole(&self, layer: &Layer, x: Map) -> Option<mbconv::Params> {
        let branches = layer.branches;
        let alone = branches.mbconv && !branches.pointwise && !branches.transform;
        let block = &self.layout.blocks[layer.index];
        alone.then(|| self.fusing(&Parts::of(layer, block), x)).flatten()
    }

    /// The call's shape on `x`, if there is such a call in this plan.
    pub(super) fn fusing(&self, parts: &Parts<'_>, x: Map) -> Option<mbconv::Params> {
        let format = x.format.filter(|_| self.mode == Mode::Inference && self.block_bytes > 0)?;
        let squeeze = parts.squeeze;
        let params = mbconv::Params {
            images: self.images as u32,
            side_in: x.side as u32,
            side_out: strided(x.side, parts.stride) as u32,
            cin: x.channels as u32,
            mid: parts.mid as u32,
            cout: parts.cout as u32,
            kernel: parts.kernel as u32,
            stride: parts.stride as u32,
            activation: parts.activation as u32,
            hidden: squeeze.map_or(0, |(_, hidden)| hidden as u32),
            weight_cin: parts.expand.map_or(0, |(expand, _)| expand.cin as u32),
            weight_channels: parts.filter.1 as u32,
            weight_mid: parts.project.0.cin as u32,
            se_channels: squeeze.map_or(0, |(squeeze, _)| squeeze.reduce.cin as u32),
            se_hidden: squeeze.map_or(0, |(squeeze, _)| squeeze.expand.cin as u32),
            format: halves::number(Some(format)),
        };
        mbconv::fits(&params, self.block_bytes).then_some(params)
    }

    /// The expansion's batch norm: the first of an MBConv.
    pub(super) fn expansion_norm(&mut self, parts: &Parts<'_>) -> Option<Norm> {
        parts.expand.map(|(_, bn)| self.norm(bn, parts.mid, None))
    }

    /// The call, with the expansion's batch norm registered before.
    pub(super) fn fused(
        &mut self,
        params: mbconv::Params,
        parts: &Parts<'_>,
        expansion: Option<Norm>,
        x: Map,
        residual: Option<Map>,
    ) -> Map {
        let filter_norm = self.norm(parts.filter_bn, parts.mid, None);
        let (project, project_bn) = &parts.project;
        let project_norm = self.norm(project_bn, parts.cout, None);
        let y = self.map(params.side_out as usize, parts.cout);
        let squeeze = parts.squeeze;
        self.calls.push(Call::from(Mbconv {
            params,
            x: x.slot,
            expand: parts.expand.map(|(expand, _)| self.layout.rows(&expand, parts.mid)),
            expand_scale: expansion.as_ref().map(|norm| norm.scale),
            expand_shift: expansion.as_ref().map(|norm| norm.shift),
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
